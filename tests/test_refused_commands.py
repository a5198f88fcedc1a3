"""A refused command leaves the tree as it was, folders included, and prints one line that names the key."""

import os
import socket

import pytest
from support.series import long_frame

HUGE = 2**31 - 1


def tree(folder):
    """Every path but those of the cache, with the type, and the content of files and links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if "cache" not in name.split("/") and name != "data":  # data/ is the parent of the cache
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[name] = (path.lstat().st_mode, content)
    return found


@pytest.fixture
def refused(tmp_path, run_script):
    """Run a command that must be refused, and return its line on stderr."""

    def run(name, *arguments):
        before = tree(tmp_path)
        code, _, err = run_script(name, *arguments)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
        assert tree(tmp_path) == before
        return err

    return run


@pytest.fixture
def world(tmp_path, csv, nano):
    """Things that a path may name beside ordinary files."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link.csv").symlink_to(csv.name)
    (tmp_path / "model").symlink_to(nano["bolt"])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "part.csv").write_bytes(csv.read_bytes())
    (tmp_path / "bank.yaml").write_text("priors: {sarima: {weight: 1}}\n")
    here = os.getcwd()
    os.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    os.chdir(here)


FORECAST = ["series.csv", "--model", "model", "--horizon", 2]
TRAIN = ["series.csv", "--base_model.output_path", "model", "--horizon", 8, "--training.max_steps", 2]
TRAIN += ["--training.context_length", 32, "--output", "out"]
BANK = ["bank", "--length", 600, "--series", 3, "--output", "made"]


@pytest.mark.parametrize("arguments, key", [
    (["--inference.prediction_length", HUGE], "inference.prediction_length"),
    (["--inference.prediction_length", 10**12], "inference.prediction_length"),
    (["--inference.prediction_length", 4_000_000], "inference.prediction_length"),  # days, beyond the year 9999
    (["--inference.batch_size", 10**400], "inference.batch_size"),
    (["--quantiles", "0.5,1.5"], "inference.quantiles"),
    (["--known", "price"], "known"),
    (["--inference.data_path", "x" * 300], "inference.data_path"),
    (["--inference.model_path", "x/" * 3000], "inference.model_path"),
    (["--future", "nowhere.csv"], "inference.future_path"),
    (["--future", "series.csv", "--flag"], "inference.future_path"),
    (["--model", ""], "inference.model_path"),
    (["--output", ""], "inference.output_path"),
    (["--inference.data_path", ""], "inference.data_path"),
    (["--output", "p.xlsx", "--inference.prediction_length", 300_000], "inference.output_path"),
    (["--output", "p.ods"], "inference.output_path"),
    (["--output", "loop"], "inference.output_path"),
    (["--output", f"{'x' * 250}.csv"], "inference.output_path"),
    (["--output", f"{'x/' * 3000}.csv"], "inference.output_path"),
    (["--output", "link.csv"], "inference.output_path"),
    (["--output", "series.csv"], "inference.output_path"),
    (["--output", "new.csv", "--plot", "new.csv"], "inference.plot_path"),
    (["--plot", "fifo"], "inference.plot_path"),
    (["--plot", "socket"], "inference.plot_path"),
    (["--plot", "/dev/null"], "inference.plot_path"),
    (["--plot", "series.csv"], "inference.plot_path"),
    (["--plot", "model/model.safetensors"], "inference.plot_path"),
    (["--future", "f.csv", "--plot", "f.csv"], "inference.plot_path"),
])  # fmt: skip
def test_forecast(refused, world, arguments, key):
    assert key in refused("forecast", *FORECAST, *arguments)


def test_a_forecast_into_its_input_folder_would_be_read_as_data(refused, world):
    assert "inference.output_path" in refused("forecast", "folder", *FORECAST[1:], "--output", "folder/p.csv")


def test_a_configuration_file_is_not_replaced_by_a_picture(refused, world, tmp_path):
    (tmp_path / "c.yaml").write_text("inference: {plot_path: c.yaml}\n")
    assert "inference.plot_path" in refused("forecast", *FORECAST, "--config", "c.yaml")


@pytest.mark.parametrize("arguments, key", [
    (["--training.trainer.optim", "best"], "training.trainer"),
    (["--training.trainer.lr_scheduler_type", "best"], "training.trainer"),
    (["--training.trainer.weight_decay", "much"], "training.trainer"),
    (["--training.trainer.report_to", "nowhere"], "training.trainer"),
    (["--training.trainer.gradient_accumulation_steps", 3], "gradient_accumulation_steps"),
    (["--training.trainer.learning_rate", 1], "learning_rate"),
    (["--training.trainer.nothing", 1], "nothing"),
    (["--training.freeze", "nothing"], "training.freeze"),
    (["--training.max_steps", 10**12], "training.max_steps"),
    (["--training.epochs", 1e300], "training.epochs"),
    (["--training.batch_size", HUGE], "training.batch_size"),
    (["--training.context_length", HUGE], "training.context_length"),
    (["--training.lora.rank", HUGE, "--training.method", "lora"], "training.lora.rank"),
    (["--output", "model"], "training.output_path"),
    (["--output", "model/inside"], "training.output_path"),
    (["--output", "."], "training.output_path"),
    (["--output", "loop/x"], "training.output_path"),
    (["--output", "fifo"], "training.output_path"),
])  # fmt: skip
def test_train(refused, world, arguments, key):
    assert key in refused("train", *TRAIN, *arguments)


@pytest.mark.parametrize("arguments, key", [
    (["--synthetic.generator", "nothing"], "nothing"),
    (["--length", 2], "period"),
    (["--length", HUGE], "synthetic.length"),
    (["--series", HUGE, "--synthetic.shard_size", HUGE], "synthetic.n_series"),
    (["--bank", "nowhere.yaml"], "synthetic.bank"),
    (["--bank", "fifo"], "synthetic.bank"),
    (["--output", "fifo"], "synthetic.output_path"),
    (["--bank", "bank.yaml", "--output", "."], "synthetic.output_path"),
    (["--synthetic.generator", "dummy"], "synthetic.n_series"),
])  # fmt: skip
def test_generate(refused, world, arguments, key):
    assert key in refused("generate_data", *BANK, *arguments)


def test_generate_dummy_data(refused, world):
    for name in ("length", "n_samples"):
        assert f"training.dummy_data.{name}" in refused("generate_data", f"--training.dummy_data.{name}", HUGE)


@pytest.mark.parametrize("arguments, key", [
    (["--horizon", 500], "evaluation.prediction_length"),
    (["--evaluation.windows", 10**12], "evaluation.windows"),
    (["--models", "model,nowhere"], "nowhere"),
    (["--evaluation.data_path", "[series.csv, folder/../series.csv]"], "evaluation.data_path"),
    (["--output", "fifo"], "evaluation.report_path"),
    (["--output", "loop"], "evaluation.report_path"),
    (["--output", "model"], "evaluation.report_path"),
])  # fmt: skip
def test_evaluate(refused, world, arguments, key):
    plain = ["series.csv", "--models", "model", "--baselines", "[]", "--output", "reports", "--horizon", 2]
    assert key in refused("evaluate", *plain, *arguments)


def test_a_report_does_not_replace_the_series_that_it_scores(refused, world, tmp_path):
    (tmp_path / "report.html").write_text("an earlier report")
    long_frame().to_csv(tmp_path / "scores.csv", index=False)
    arguments = ["--models", "model", "--output", ".", "--horizon", 2]
    assert "evaluation.report_path" in refused("evaluate", "scores.csv", *arguments)


@pytest.mark.parametrize("arguments, key", [
    (["model", "--output", "model"], "base_model.output_path"),
    (["model", "--output", "folder"], "base_model.output_path"),
    (["model", "--output", "fifo"], "base_model.output_path"),
    (["model", "--revision", "v9", "--output", "new/base"], "base_model.revision"),
    (["scratch:nothing", "--output", "new/base"], "scratch:"),
    (["scratch:bolt-nano", "--base_model.save_metadata", "false", "--output", "new/base"], "base_model.save_metadata"),
])  # fmt: skip
def test_base(refused, world, arguments, key):
    assert key in refused("base_model", *arguments)
