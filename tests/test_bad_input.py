"""Wrong input ends every script with exit code 2 and one line, and nothing on disk has changed."""

import json
import logging
import os
import shutil
import stat

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.series import long_frame

from pipeline.cli import main
from pipeline.commands import COMMANDS, Command
from pipeline.data.source import open_source


def tree(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "cache" not in path.parts
    }


@pytest.fixture
def refused(tmp_path, run_script, monkeypatch):
    """Run a script that must refuse its input, and return the line on stderr."""

    def run(name, *arguments):
        before = tree(tmp_path)
        code, _, err = run_script(name, *arguments)
        assert code == 2, err
        assert err.startswith("error: ") and err.count("\n") == 1, err
        assert tree(tmp_path) == before
        return err

    return run


def train_arguments(nano, csv, *more):
    lengths = ["--training.max_steps", 2, "--training.context_length", 32, "--training.prediction_length", 8]
    return ["--base_model.output_path", nano["bolt"], "--data.train", csv, *lengths, *more]


def test_every_process_reports_its_error(run_script, monkeypatch):
    """A file may be missing for one process only."""
    for name, value in {"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 1}.items():
        monkeypatch.setenv(name, str(value))
    code, _, err = run_script("train", "--training.max_step", 2)
    assert code == 2 and err.startswith("error in process 1: ") and "training.max_step;" in err, err
    code, _, err = run_script("evaluate", "--evaluation.fev_tasks", "tasks.yaml")
    assert code == 2 and "evaluation.fev_tasks" in err


def test_a_missing_model(refused, csv):
    assert "nowhere" in refused("forecast", csv, "--model", "nowhere")
    assert "data/models/base" in refused("evaluate", csv)
    for script in ("train", "forecast"):  # the base cannot be downloaded
        assert "amazon/chronos-bolt-base" in refused(script, csv)


def test_another_base_than_the_one_in_the_folder(refused, run_script, nano, csv, tmp_path):
    asked = ["--base_model.model_name", "builtin:bolt-synth"]
    line = refused("train", *train_arguments(nano, csv), *asked)
    assert all(fact in line for fact in ("base_model.model_name", "builtin:bolt-synth", str(nano["bolt"])))
    asked = ["--base_model.model_name", "scratch:bolt-nano", "--base_model.revision", "v9"]
    assert "v9" in refused("train", *train_arguments(nano, csv), *asked)
    made = ["--base_model.model_name", nano["bolt"], "--base_model.output_path", "base"]
    assert run_script("base_model", *made)[0] == 0
    (tmp_path / "linked").symlink_to(nano["bolt"])
    same = ["--base_model.output_path", "base", "--base_model.model_name", "linked"]
    assert run_script("train", *train_arguments(nano, csv), *same, "--dry_run")[0] == 0


@pytest.mark.parametrize("break_it, fact", [
    (lambda folder: (folder / "config.json").unlink(), "config.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    (lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'), "chronos_config"),
    (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    (lambda folder: os.truncate(folder / "model.safetensors", 5000), "model.safetensors"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 10**6), "model.safetensors"),
])  # fmt: skip
@pytest.mark.parametrize("script", ["train", "forecast", "evaluate"])
def test_a_broken_model(refused, nano, csv, tmp_path, script, break_it, fact):
    shutil.copytree(nano["bolt"], tmp_path / "model")
    break_it(tmp_path / "model")
    models = ["--base_model.output_path", "model", "--inference.model_path", "model", "--evaluation.models", "[model]"]
    line = refused(script, *models, "--data.train", csv, "--inference.data_path", csv)
    assert fact in line and "model" in line


def test_a_weight_file_with_trailing_bytes(refused, nano, csv, tmp_path):
    shutil.copytree(nano["bolt"], tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"more")
    assert "model.safetensors" in refused("forecast", "--inference.model_path", "model", "--inference.data_path", csv)


@pytest.mark.parametrize("write, fact", [
    (lambda path: path.write_text(""), "empty"),
    (lambda path: path.write_text("item_id,timestamp,target\n"), "no rows"),
    (lambda path: path.write_text("item_id,timestamp,target\nA,2020-01-01,x\n"), "row 1"),
    (lambda path: path.write_text("item_id,timestamp,target\nA,2020-01-01,1\nA,2020-01-01,2\n"), "row 1 and row 2"),
    (lambda path: path.write_text("item_id,timestamp,target\nA,2020-01-01,1\nA,2020-01-02,inf\n"), "row 2"),
    (lambda path: path.write_text("item_id,timestamp,target\nA,2020-01-01\n"), "2 values"),
    (lambda path: path.write_text("item_id,timestamp,value\nA,2020-01-01,1\n"), "data.target"),
    (lambda path: path.write_text("item_id,timestamp,target\nA,someday,1\n"), "someday"),
    (lambda path: path.write_text("item_id,timestamp,target\nA,,1\n"), "row 1"),
    (lambda path: path.write_text("item_id,timestamp,target\n,2020-01-01,1\n"), "item_id"),
    (lambda path: path.write_bytes(bytes(range(256)) * 20), "series.csv"),
])  # fmt: skip
def test_a_broken_csv(refused, nano, tmp_path, write, fact):
    path = tmp_path / "series.csv"
    write(path)
    line = refused("train", *train_arguments(nano, path))
    assert fact in line and "series.csv" in line


@pytest.mark.parametrize("values, facts", [
    (np.arange(4.0), ["training.prediction_length", "horizon of 8", "4 steps"]),
    (np.full(60, np.nan), ["data.train", "known"]),
    (np.full(60, 3.0), ["data.train", "constant"]),
])  # fmt: skip
def test_unusable_series_only(refused, nano, tmp_path, values, facts):
    stamps = pd.date_range("2020", periods=len(values), freq="D")
    pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": values}).to_parquet(tmp_path / "s.parquet")
    line = refused("train", *train_arguments(nano, "s.parquet"))
    assert all(fact in line for fact in facts)


def test_unusable_series_among_others_are_skipped_with_a_warning(nano, tmp_path, run_script):
    frame = long_frame(n_series=3)
    odd = [frame[frame["item_id"] == "item0"].assign(item_id="flat", target=1.0)]
    odd.append(frame[frame["item_id"] == "item0"].assign(item_id="silent", target=np.nan))
    odd.append(frame[frame["item_id"] == "item0"].head(2).assign(item_id="brief"))
    pd.concat([frame, *odd]).to_csv(tmp_path / "s.csv", index=False)
    code, out, err = run_script("train", *train_arguments(nano, "s.csv"))
    assert (code, err) == (0, "")
    assert out.count("1 of 6 series") == 3
    assert all(name in out for name in ("flat", "silent", "brief"))


@pytest.mark.parametrize("cut", [3, 100, 2000])
def test_a_truncated_arrow_file(refused, nano, tmp_path, cut):
    long_frame().to_parquet(tmp_path / "s.parquet")
    path = open_source(tmp_path / "s.parquet", tmp_path / "cache").path
    assert path is not None
    (tmp_path / "s.arrow").write_bytes(path.read_bytes()[:-cut])
    assert "s.arrow" in refused("train", *train_arguments(nano, "s.arrow"))


def test_other_broken_files(refused, nano, tmp_path):
    table = pa.table({"item_id": ["A"] * 3, "target": [1.0, 2.0, 3.0]})
    pa.parquet = __import__("pyarrow.parquet").parquet
    pa.parquet.write_table(table, tmp_path / "s.parquet")
    (tmp_path / "s.parquet").write_bytes((tmp_path / "s.parquet").read_bytes()[:-20])
    (tmp_path / "s.jsonl").write_text('{"item_id": "A", "target": [1, 2\n')
    (tmp_path / "s.xlsx").write_text("?")
    (tmp_path / "empty").mkdir()
    for source in ("s.parquet", "s.jsonl", "s.xlsx", "empty", "nowhere.csv", "no/where/at/all"):
        assert source in refused("train", *train_arguments(nano, source))


def test_output_paths_that_are_taken(refused, nano, csv, tmp_path):
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for output in ("taken", "full"):
        assert output in refused("train", *train_arguments(nano, csv, "--training.output_path", output))
        assert output in refused(
            "base_model", "--base_model.model_name", nano["bolt"], "--base_model.output_path", output
        )
    forecast = [
        "--inference.model_path",
        nano["bolt"],
        "--inference.data_path",
        csv,
        "--inference.prediction_length",
        2,
    ]
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv" in refused("forecast", *forecast, "--inference.output_path", "folder.csv")
    assert "p.ods" in refused("forecast", *forecast, "--inference.output_path", "p.ods")
    assert "taken" in refused("forecast", *forecast, "--inference.output_path", "taken")
    assert "taken" in refused("evaluate", "--evaluation.report_path", "taken/reports")
    assert "taken" in refused("forecast", *forecast, "--inference.plot_path", "taken/p.png")
    assert "taken" in refused("train", *train_arguments(nano, csv, "--training.output_path", "taken/out"))
    assert "taken" in refused("generate_data", "--paths.dummy_data_dir", "taken")


def test_a_finished_run(refused, run_script, nano, csv):
    assert run_script("train", *train_arguments(nano, csv))[0] == 0
    assert "training.overwrite" in refused("train", *train_arguments(nano, csv))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_path_that_cannot_be_written(refused, nano, csv, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IREAD | stat.S_IEXEC)
    assert "locked" in refused("train", *train_arguments(nano, csv, "--training.output_path", locked / "out"))


def test_configurations(refused, tmp_path):
    for text in ("training: {epochs: [", "training: {epoch: 3}", "training: {epochs: -1}", "trainings: {}"):
        (tmp_path / "c.yaml").write_text(text)
        refused("train", "--config", "c.yaml")
    assert "chronos.device" in refused("train", "--chronos.device", "abacus")


def test_missing_hardware(refused, nano, csv):
    import torch

    device = "mps" if torch.cuda.is_available() else "cuda"
    model = ["--inference.model_path", nano["bolt"], "--inference.data_path", csv]
    assert "chronos.device" in refused("forecast", *model, "--chronos.device", device)


def test_no_data_at_all(refused, nano):
    assert "chronos-native generate" in refused("train", "--base_model.output_path", nano["bolt"])


def test_an_internal_error_is_raised_with_its_traceback(monkeypatch, caplog):
    def run(config):
        raise ValueError("a bug")

    monkeypatch.setattr("sys.argv", ["script"])
    monkeypatch.setitem(COMMANDS, "base", Command(run, ()))
    with caplog.at_level(logging.INFO, logger="pipeline"), pytest.raises(ValueError, match="a bug"):
        main("base")


def test_a_broken_run_and_a_run_that_differs(refused, nano, csv, tmp_path):
    run = tmp_path / "out" / "checkpoints"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{")
    assert "run.json" in refused("train", *train_arguments(nano, csv, "--training.output_path", "out"))
    (run / "run.json").write_text(json.dumps({"seed": 5}))
    assert "seed" in refused("train", *train_arguments(nano, csv, "--training.output_path", "out"))


def test_a_picture_or_a_forecast_never_replaces_another_file_of_the_command(refused, nano, csv, tmp_path):
    (tmp_path / "link.csv").symlink_to(csv)
    model = ["--model", nano["bolt"], csv]
    assert "inference.output_path" in refused("forecast", *model, "--output", "link.csv")
    assert "inference.plot_path" in refused("forecast", *model, "--plot", csv)
    assert "inference.plot_path" in refused("forecast", *model, "--output", "new.csv", "--plot", "./new.csv")
    assert "inference.plot_path" in refused("forecast", *model, "--future", "f.csv", "--plot", "f.csv")


def test_errors_are_found_before_long_work(refused, nano, csv, tmp_path):
    model = ["--inference.model_path", nano["bolt"], "--inference.data_path", csv]
    assert "inference.output_path" in refused("forecast", *model, "--inference.output_path", csv)
    assert "pictures" in refused(
        "forecast", *model, "--inference.plot_path", (tmp_path / "pictures").mkdir() or "pictures"
    )
    models = ["--evaluation.models", f"[{nano['bolt']}, trainde]", "--evaluation.data_path", csv]
    assert "trainde" in refused("evaluate", *models)
    named = ["--base_model.model_name", nano["bolt"], "--base_model.revision", "v9"]
    assert "base_model.revision" in refused("base_model", *named)


def test_a_model_that_forecasts_nan(run_script, nano, csv, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(nano["bolt"], tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    broken = {name: value * float("nan") for name, value in weights.items()}
    save_file(broken, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    model = ["--inference.model_path", "broken", "--inference.data_path", csv, "--inference.prediction_length", 2]
    code, _, err = run_script("forecast", *model)
    assert code == 2 and "item0" in err
    assert not list((tmp_path / "data").glob("predictions/*"))  # hidden ones included


@pytest.mark.parametrize("text, fact", [
    ("inference: {prediction_length: 7}\ninference: {batch_size: 3}", "'inference'"),
    ("inference: {batch_size: 7, batch_size: 3}", "'batch_size'"),
    ("inference: 5", "'inference'"),
])  # fmt: skip
@pytest.mark.parametrize("joined", [True, False])
def test_configuration_files_that_the_parser_would_accept_silently(refused, tmp_path, text, fact, joined):
    (tmp_path / "c.yaml").write_text(text)
    assert fact in refused("train", *(["--config=c.yaml"] if joined else ["--config", "c.yaml"]))
