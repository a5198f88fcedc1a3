import ast
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from itertools import pairwise

import pytest
import yaml
from support import ROOT
from support.series import parse_config

from pipeline.config import Config, TrainingConfig, listed
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


def test_the_shipped_configuration_holds_every_key_of_the_seed_with_its_value():
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


def test_every_key_stands_in_the_readme_with_its_default_and_its_docstring():
    rows = (ROOT / "README.md").read_text().splitlines()
    described = {}
    for node in ast.parse((ROOT / "pipeline" / "config.py").read_text()).body:
        for key, text in pairwise(getattr(node, "body", [])):
            if isinstance(key, ast.AnnAssign) and isinstance(text, ast.Expr):
                described[node.name, key.target.id] = " ".join(text.value.value.split())

    def check(config, prefix):
        for key in fields(config):
            name, value = f"{prefix}{key.name}", getattr(config, key.name)
            if is_dataclass(value):
                check(value, f"{name}.")
            else:
                default = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
                assert f"| `{name}` | `{default}` | {described[type(config).__name__, key.name]} |" in rows

    check(Config(), "")


def test_a_configuration_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="^--config: there is no file nowhere.yaml$"):
        parse_config(["--config", "nowhere.yaml"])


def test_keys_of_adapters_that_nobody_trains_are_refused():
    with pytest.raises(UserError, match="training.lora.rank, training.lora.alpha would have no effect"):
        parse_config(["--training.lora.rank", "4", "--training.lora.alpha", "3"])
    assert parse_config(["--training.lora.rank", "4", "--training.method", "lora"]).training.lora.rank == 4


@pytest.mark.parametrize("key, value, said", [
    ("training.batch_size", "x", "a whole number, got x;"),
    ("training.max_steps", "twenty", "a whole number or null, got twenty;"),
    ("training.epochs", "inf", "a number or 'auto', got inf;"),
    ("training.refit", "maybe", "true or false, got maybe;"),
    ("training.method", "loro", "'full', 'lora', got loro;"),
    ("training.quantiles", "0.5", "a list, written '[a, b]' or null, got 0.5;"),
    ("training.quantiles", "[a]", "a number, got ['a'];"),
    ("evaluation.baselines", "[AutoETC]", "'AutoETS', 'AutoTheta', got ['AutoETC'];"),
    ("data.test_length", "", "a whole number, got '';"),
])  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused_in_words(key, value, said):
    which = f"each of {key}" if value.startswith("[") else key
    with pytest.raises(UserError, match=re.escape(f"{which} must be {said}")):
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
        (["--data.id_column", "[]"], "data.id_column is an empty list"),
        (["--data.id_column", "[target, shop]"], "target more than once"),
        (["--data.target", "[a, b]", "--data.wide", "true"], "several targets"),
        (["--data.train", "[{path: a.csv, wieght: 9}]"], "data.train does not parse: [{path: a.csv, wieght: 9}]"),
        (["--evaluation.data_path", "[{path: a.csv, frq: D}]"], "evaluation.data_path does not parse"),
        (["--training.epoch", "3"], "training.epoch"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_what_is_out_of_range_or_unknown_is_refused_by_its_key(arguments, named):
    with pytest.raises(UserError, match=named.replace("[", r"\[")) as refused:
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


@pytest.mark.parametrize("argument, meant", [
    ("--training.max_step=5", "is training.max_steps meant"), ("--max_steps=5", "is training.max_steps meant"),
    ("--trainng.lora.rank=5", "is training.lora.rank meant"), ("--nothing=5", "see --help"),
])  # fmt: skip
def test_a_mistyped_key_is_answered_with_the_one_that_is_meant(argument, meant):
    for arguments in ([argument], argument.split("=")):
        with pytest.raises(UserError, match=f"no key {arguments[0][2:].split('=')[0]}; {meant}"):
            parse_config(arguments)


def test_a_mistyped_key_in_a_file_is_answered_with_the_one_that_is_meant(tmp_path):
    path = tmp_path / "c.yaml"
    for text, meant in (("training: {lora: {rnk: 5}}", "training.lora.rank"), ("trainng: {}", "training")):
        path.write_text(text)
        with pytest.raises(UserError, match=f"c.yaml: there is no key .*; is {meant} meant"):
            parse_config(["--config", str(path)])


def test_keys_below_one_that_holds_a_mapping_and_lists_that_grow_are_known():
    config = parse_config(["--training.trainer.weight_decay", "0.1", "--training.freeze+", "encoder"])
    assert (config.training.trainer, config.training.freeze) == ({"weight_decay": 0.1}, ["encoder"])


@pytest.mark.parametrize("given, names", [("a", ["a"]), ("[a]", ["a"]), ("[a, b]", ["a", "b"])])
def test_one_name_may_stand_for_a_list_of_one(given, names, tmp_path):
    keys = ("data.past_covariates", "training.freeze", "evaluation.models")
    path = tmp_path / "c.yaml"
    path.write_text("".join(f"{section}: {{{key}: {given}}}\n" for section, key in (key.split(".") for key in keys)))
    for arguments in ([part for key in keys for part in (f"--{key}", given)], ["--config", str(path)]):
        config = parse_config(arguments)
        assert config.data.variates().past == tuple(names)
        assert listed(config.training.freeze) == config.scored_models() == names


def test_the_command_line_wins_over_a_file_wherever_it_stands(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training: {epochs: 7}")
    for named in (["--config", str(path)], [f"--config={path}"]):
        for arguments in ([*named, "--training.epochs", "3"], ["--training.epochs", "3", *named]):
            assert parse_config(arguments).training.epochs == 3


def test_paths_that_are_not_given_lie_in_the_folders_of_the_paths_section():
    config = parse_config(["--paths.models_dir", "m", "--paths.predictions_dir", "p"])
    assert [str(config.base_path()), str(config.trained_path())] == ["m/base", "m/trained"]
    assert str(config.predictions_path()) == "p/predictions.parquet"
    assert str(parse_config(["--inference.output_path", "a.csv"]).predictions_path()) == "a.csv"


def test_help_imports_no_heavy_library():
    code = (
        "import runpy, sys; sys.argv = ['train.py', '--help']\n"
        "try: runpy.run_path('scripts/train.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'chronos', 'pandas', 'pyarrow'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Peak learning rate" in " ".join(done.stdout.split())


def test_every_field_is_described():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("--training", type=TrainingConfig)
    undescribed = [action.dest for action in parser._actions if action.help in (None, "")]
    assert not undescribed
