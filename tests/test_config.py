import re
import subprocess
import sys

import pytest
import yaml
from support import ROOT
from support.series import parse_config

from pipeline.config import TrainingConfig, listed
from pipeline.core.errors import UserError

SEED = """\
# Chronos Native Configuration
chronos:
  version: "0.1.0"
  device: "cpu"  # or "cuda" if available

base_model:
  model_name: "amazon/chronos-bolt-base"
  output_path: "data/models/base"
  convert_format: true
  save_metadata: true

training:
  epochs: 10
  batch_size: 32
  learning_rate: 1e-4
  validation_split: 0.2
  dummy_data:
    n_samples: 1000
    n_series: 10
    length: 200
    patterns: ["trend", "seasonal", "noise"]

inference:
  prediction_length: 48
  context_length: 200
  quantiles: [0.1, 0.5, 0.9]
  output_path: "data/predictions"

paths:
  data_dir: "data"
  models_dir: "data/models"
  predictions_dir: "data/predictions"
  dummy_data_dir: "data/dummy"
"""


def test_the_seed_configuration_is_read_byte_for_byte(tmp_path):
    path = tmp_path / "seed.yaml"
    path.write_text(SEED)
    config = parse_config(["--config", str(path)])
    assert config.training.learning_rate == 0.0001 and isinstance(config.training.learning_rate, float)
    assert config.training.dummy_data.patterns == ["trend", "seasonal", "noise"]
    assert (config.inference.context_length, config.inference.quantiles) == (200, [0.1, 0.5, 0.9])


def test_the_shipped_configuration_has_every_key_of_the_seed_with_its_value():
    def check(seed, shipped):
        for key, value in seed.items():
            if isinstance(value, dict):
                check(value, shipped[key])
            else:
                assert shipped[key] == value, key

    check(yaml.safe_load(SEED), yaml.safe_load((ROOT / "config" / "chronos_config.yaml").read_text()))


OTHER_FORMS = {"accelerate", "bank.yaml"}
CONFIGURATIONS = [path for path in sorted((ROOT / "config").rglob("*.yaml")) if not OTHER_FORMS & set(path.parts)]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_every_shipped_configuration_is_read(path):
    parse_config(["--config", str(path)])


def test_a_missing_configuration_file_is_refused():
    with pytest.raises(UserError, match="--config.*nowhere.yaml"):
        parse_config(["--config", "nowhere.yaml"])


def test_adapter_keys_are_refused_without_method_lora():
    with pytest.raises(UserError, match="training.lora.rank, training.lora.alpha .*training.method"):
        parse_config(["--training.lora.rank", "4", "--training.lora.alpha", "3"])
    assert parse_config(["--training.lora.rank", "4", "--training.method", "lora"]).training.lora.rank == 4


@pytest.mark.parametrize("key, value, expected", [
    ("training.batch_size", "x", "a whole number, got x;"),
    ("training.max_steps", "twenty", "a whole number or null, got twenty;"),
    ("training.epochs", "inf", "a number or 'auto', got inf;"),
    ("training.refit", "maybe", "true or false, got maybe;"),
    ("training.method", "loro", "'full', 'lora', got loro;"),
    ("training.quantiles", "[a]", "a number, got ['a'];"),
    ("evaluation.baselines", "[AutoETC]", "'AutoETS', 'AutoTheta', got ['AutoETC'];"),
    ("data.test_length", "", "a whole number or null, got '';"),
])  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused_with_the_expected_type(key, value, expected):
    name = f"each of {key}" if value.startswith("[") else key
    with pytest.raises(UserError, match=re.escape(f"{name} must be {expected}")):
        parse_config([f"--{key}", value])
    with pytest.raises(UserError, match="^training.batch_size must be a whole number, got x;"):
        parse_config(["--training", "{batch_size: x}"])


def test_dotted_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training: {epochs: 3, batch_size: 8}")
    config = parse_config(["--config", str(path), "--training.epochs", "5", "--training.trainer.weight_decay", "1e-2"])
    assert (config.training.epochs, config.training.batch_size) == (5, 8)
    assert config.training.trainer == {"weight_decay": 0.01}


def test_sources_are_one_path_or_many_with_weights():
    config = parse_config(["--data.train", "[{path: a.csv, weight: 3}, b.csv]"])
    assert [(source.path, source.weight) for source in config.data.sources()] == [("a.csv", 3.0), ("b.csv", 1.0)]


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--training.epochs", "0"], "training.epochs"),
        (["--training.batch_size", "0"], "training.batch_size"),
        (["--training.learning_rate", "-1e-3"], "training.learning_rate"),
        (["--training.learning_rate", "nan"], "training.learning_rate"),
        (["--training.validation_split", "1"], "training.validation_split"),
        (["--training.method", "half"], "training.method"),
        (["--training.lora.rank", "0"], "training.lora.rank"),
        (["--training.dummy_data.patterns", "[trendy]"], "training.dummy_data.patterns"),
        (["--training.dummy_data.length", "-5"], "training.dummy_data.length"),
        (["--inference.quantiles", "[0.1, 1.0]"], "inference.quantiles"),
        (["--inference.quantiles", "[0.5, 0.5]"], "inference.quantiles"),
        (["--inference.prediction_length", "0"], "inference.prediction_length"),
        (["--chronos.device", "tpu"], "chronos.device"),
        (["--chronos.seed", "-1"], "chronos.seed"),
        (["--data.train", "[{path: a.csv, weight: 0}]"], "a.csv"),
        (["--data.train", "[]"], "data.train"),
        (["--data.id_column", "[]"], "data.id_column"),
        (["--data.id_column", "[target, shop]"], "got target"),
        (["--data.target", "[a, b]", "--data.wide", "true"], "data.wide"),
        (["--data.train", "[{path: a.csv, wieght: 9}]"], "data.train .*wieght"),
        (["--evaluation.data_path", "[{path: a.csv, frq: D}]"], "evaluation.data_path .*frq"),
        (["--training.epoch", "3"], "training.epoch"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_values_out_of_range_and_unknown_keys_are_refused_by_name(arguments, named):
    with pytest.raises(UserError, match=named) as refused:
        parse_config(arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["training: {lr: [", "training: {speed: 3}", "trainings: {}", "- a\n- b", "training: 3"]
)
def test_a_file_that_does_not_parse_or_has_unknown_keys_is_refused(text, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError):
        parse_config(["--config", str(path)])


@pytest.mark.parametrize("argument, suggested", [
    ("--training.max_step=5", "training.max_steps"), ("--max_steps=5", "training.max_steps"),
    ("--trainng.lora.rank=5", "training.lora.rank"), ("--nothing=5", "--help"),
])  # fmt: skip
def test_the_closest_key_is_suggested_for_an_unknown_one(argument, suggested):
    for arguments in ([argument], argument.split("=")):
        with pytest.raises(UserError, match=rf"\b{arguments[0][2:].split('=')[0]}\b.*{suggested}\b"):
            parse_config(arguments)


def test_the_closest_key_is_suggested_for_an_unknown_one_in_a_file(tmp_path):
    path = tmp_path / "c.yaml"
    for text, suggested in (("training: {lora: {rnk: 5}}", "training.lora.rank"), ("trainng: {}", "training")):
        path.write_text(text)
        with pytest.raises(UserError, match=rf"c.yaml: .* {suggested}\b"):
            parse_config(["--config", str(path)])


def test_keys_of_a_mapping_and_appended_list_items_are_accepted():
    config = parse_config(["--training.trainer.weight_decay", "0.1", "--training.freeze+", "encoder"])
    assert (config.training.trainer, config.training.freeze) == ({"weight_decay": 0.1}, ["encoder"])


@pytest.mark.parametrize("given, names", [("a", ["a"]), ("[a]", ["a"]), ("[a, b]", ["a", "b"])])
def test_a_single_name_is_a_list_of_one_name(given, names, tmp_path):
    keys = ("data.past_covariates", "training.freeze", "evaluation.models")
    path = tmp_path / "c.yaml"
    path.write_text("".join(f"{section}: {{{key}: {given}}}\n" for section, key in (key.split(".") for key in keys)))
    for arguments in ([part for key in keys for part in (f"--{key}", given)], ["--config", str(path)]):
        config = parse_config(arguments)
        assert config.data.variates().past == tuple(names)
        assert listed(config.training.freeze) == config.scored_models() == names


def test_the_command_line_wins_over_a_file_at_any_position(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training: {epochs: 7}")
    for named in (["--config", str(path)], [f"--config={path}"]):
        for arguments in ([*named, "--training.epochs", "3"], ["--training.epochs", "3", *named]):
            assert parse_config(arguments).training.epochs == 3


def test_default_paths_are_in_the_folders_of_the_paths_section():
    config = parse_config(["--paths.models_dir", "m", "--paths.predictions_dir", "p"])
    assert [str(config.base_path()), str(config.trained_path())] == ["m/base", "m/trained"]
    assert str(config.predictions_path()) == "p/predictions.parquet"
    assert str(parse_config(["--inference.output_path", "a.csv"]).predictions_path()) == "a.csv"


def test_forecasts_are_written_to_an_existing_folder_whose_name_has_a_dot(tmp_path):
    (tmp_path / "results_v1.0").mkdir()
    config = parse_config(["--inference.output_path", str(tmp_path / "results_v1.0")])
    assert config.predictions_path() == tmp_path / "results_v1.0" / "predictions.parquet"


@pytest.mark.parametrize("option, text", [("--help", "--horizon STEPS"), ("--help-all", "Peak learning rate")])
def test_help_imports_no_heavy_library(option, text):
    code = (
        f"import runpy, sys; sys.argv = ['train.py', '{option}']\n"
        "try: runpy.run_path('scripts/train.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'chronos', 'pandas', 'pyarrow'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert text in " ".join(done.stdout.split())
    assert option == "--help-all" or len(done.stdout.splitlines()) < 60


def test_every_field_is_described():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("--training", type=TrainingConfig)
    undescribed = [action.dest for action in parser._actions if action.help in (None, "")]
    assert not undescribed
