"""Short options, lists with commas, the horizon, and the program chronos-native."""

import json
import sys

import pytest
from support.series import parse_config

from pipeline import __version__
from pipeline.cli import help_text, main
from pipeline.commands import COMMANDS
from pipeline.config import Config
from pipeline.core.errors import UserError


def test_short_options_are_keys():
    arguments = [
        "s.csv",
        "--horizon",
        "28",
        "--target",
        "sold",
        "--id=shop",
        "--time",
        "day",
        "--base",
        "b",
        "--output=o",
    ]
    config = parse_config([*arguments, "--method", "lora", "--training.lora.rank", "4"])
    assert (config.data.train, config.data.target, config.data.id_column) == ("s.csv", "sold", "shop")
    assert (config.base_model.model_name, config.training.output_path) == ("b", "o")
    assert (config.training.method, config.training.lora.rank) == ("lora", 4)
    evaluation = parse_config(["--windows", "3", "e.csv", "--output", "r"], "evaluate").evaluation
    assert (evaluation.data_path, evaluation.windows, evaluation.report_path) == ("e.csv", 3, "r")


def test_lists_take_commas():
    config = parse_config(["--known", "price,promo", "--id", "shop, product", "--training.quantiles", "0.1,0.5,0.9"])
    assert config.data.variates().known == ("price", "promo")
    assert config.data.id_column == ["shop", "product"]
    assert config.training.quantiles == [0.1, 0.5, 0.9]
    assert parse_config(["--training.quantiles", "0.5"]).training.quantiles == [0.5]
    assert parse_config(["--evaluation.baselines", "AutoETS"]).evaluation.baselines == ["AutoETS"]
    assert parse_config(["--known", '["a,b"]']).data.variates().known == ("a,b",)
    assert parse_config(["--data.decimal", ","]).data.decimal == ","
    assert parse_config(["a,b.csv"]).data.train == "a,b.csv"  # a source is no list of names


@pytest.mark.parametrize("arguments, lengths", [
    (["--horizon", "28"], (28, 28, 28, 28)),
    (["--config", "c.yaml"], (9, 7, 9, 9)),
    (["--config", "c.yaml", "--horizon", "28"], (28, 28, 28, 28)),
    (["--horizon", "28", "--training.prediction_length", "5"], (5, 28, 28, 28)),
    (["--horizon", "28", "--evaluation.windows", "3"], (28, 28, 28, 84)),
    (["--horizon", "28", "--data.test_length", "0"], (28, 28, 28, 0)),
    ([], (None, None, None, 0)),
])  # fmt: skip
def test_one_horizon_is_the_default_of_every_section_and_wins_over_files(tmp_path, monkeypatch, arguments, lengths):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("horizon: 9\ninference: {prediction_length: 7}")
    config = parse_config(arguments)
    sections = (config.training, config.inference, config.evaluation)
    assert (*(section.prediction_length for section in sections), config.test_length()) == lengths


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A model in the default folder that remembers a column, the horizon and levels."""
    monkeypatch.chdir(tmp_path)
    config = Config().as_dict()
    config["data"] |= {"target": "sold", "id_column": ["shop", "product"]}
    config["training"]["quantiles"] = [0.2, 0.5, 0.8]
    (tmp_path / "data/models/trained").mkdir(parents=True)
    info = {"config": config, "horizon": 28}
    (tmp_path / "data/models/trained/training_info.json").write_text(json.dumps(info))


@pytest.mark.parametrize("command", ["forecast", "evaluate"])
def test_a_command_takes_from_the_model_what_is_not_given(trained, tmp_path, command):
    config = parse_config([], command)
    assert (config.data.target, config.data.id_column) == ("sold", ["shop", "product"])
    assert (config.forecast_horizon(), config.inference.quantiles) == (28, [0.2, 0.5, 0.8])
    (tmp_path / "c.yaml").write_text("data: {target: left}\nhorizon: 3")
    config = parse_config(["--config", "c.yaml"], command)
    assert (config.data.target, config.forecast_horizon()) == ("left", 3)
    assert parse_config(["--target", "target"], command).data.target == "target"  # the general default, but given
    assert parse_config([]).data.target == "target"  # training does not read the model


@pytest.mark.parametrize("arguments, fact", [
    (["train", "a.csv", "b.csv"], "b.csv"), (["trian"], "'trian'"), (["train", "--horizon"], "horizon"),
    (["train", "--horizon", "0"], "horizon"), (["train", "--windows", "3"], "windows"), (["base", "--horizon"], ""),
])  # fmt: skip
def test_wrong_arguments_end_with_exit_code_2_and_one_line(monkeypatch, capsys, arguments, fact):
    monkeypatch.setattr(sys, "argv", ["chronos-native", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1 and fact in err


def test_the_program_shows_its_commands_and_its_version(monkeypatch, capsys):
    for arguments, shown in (([], list(COMMANDS)), (["--help"], list(COMMANDS)), (["--version"], [__version__])):
        monkeypatch.setattr(sys, "argv", ["chronos-native", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out = capsys.readouterr().out
        assert not stop.value.code and all(text in out for text in shown)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_help_has_every_option_of_the_command_on_a_line_that_fits(name):
    lines = help_text(name).splitlines()
    command = COMMANDS[name]
    assert len(lines) < 60 and all(len(line) <= 120 for line in lines)
    for option in command.options:
        assert sum(line.startswith(f"  --{option.name} ") for line in lines) == 1


def test_every_short_option_names_a_key():
    for command in COMMANDS.values():
        for option in (*command.options, *filter(None, [command.positional])):
            value = Config()
            for part in option.key.split("."):
                value = getattr(value, part)


def test_an_unknown_key_suggests_the_closest():
    with pytest.raises(UserError, match="targt.*target"):
        parse_config(["--targt", "x"])


def test_an_error_names_the_short_option_and_the_key(monkeypatch, capsys, tmp_path):
    (tmp_path / "s.csv").write_text("shop,day,sold\n1,2024-01-01,3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["chronos-native", "train", "s.csv"])
    with pytest.raises(SystemExit):
        main()
    err = capsys.readouterr().err
    assert "--target (data.target), --id (data.id_column), --time (data.timestamp_column)" in err
    assert "--past (data.past_covariates) and --known (data.known_covariates)" in err
