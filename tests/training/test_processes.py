"""Several processes train like one: DDP, FSDP, and processes that differ."""

import os
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from chronos import BaseChronosPipeline
from support import ROOT
from support.runs import SHORT, info, logged, same, weights, without_dropout

from pipeline.core.processes import Processes

SETTINGS = {**SHORT, "max_steps": 2, "validation_windows": 6}


def torchrun(n_processes, cwd, *arguments, script=ROOT / "scripts" / "train.py", **variables):
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), **variables)
    environment.pop("HF_HUB_OFFLINE", None)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
    command = [*launch, str(script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def train_arguments(base, csv):
    arguments = ["--base_model.output_path", base, "--data.train", csv, "--training.trainer.report_to", "none"]
    arguments += ["--training.keep_checkpoints", "true"]
    return [*arguments, *(part for key, value in SETTINGS.items() for part in (f"--training.{key}", value))]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_two_processes_train_like_one(tiny, tmp_path, csv, family):
    arguments = train_arguments(without_dropout(tiny[family], tmp_path / "base"), csv)
    for n_processes in (1, 2):
        done = torchrun(n_processes, tmp_path, *arguments, "--training.output_path", tmp_path / f"out{n_processes}")
        assert done.returncode == 0, done.stderr
    single, double = (info(tmp_path / f"out{n}")["candidates"] for n in (1, 2))
    for key in ("WQL", "MASE", "loss"):
        # A sampled forecast changes with the last bits of its logits, so those of the token model are left out.
        if family == "bolt" or key == "loss":
            np.testing.assert_allclose([row[key] for row in single], [row[key] for row in double], rtol=1e-4)
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose(logged(tmp_path / "out1", key), logged(tmp_path / "out2", key), rtol=1e-4)


@pytest.mark.slow
def test_all_processes_train_on_the_table_as_it_is_now(tiny, tmp_path):
    """The first process reads a query again, and the others must not open the store of the run before."""
    for n_rows in (120, 160):
        frame = pd.DataFrame({"timestamp": pd.date_range("2024", periods=n_rows), "target": np.arange(n_rows) % 7})
        with sqlite3.connect(tmp_path / "sales.db") as connection:
            frame.astype({"timestamp": str}).to_sql("sales", connection, index=False, if_exists="replace")
        connection.close()
        source = "{query: select * from sales, url: 'sqlite:///sales.db'}"
        arguments = train_arguments(tiny["bolt"], source)
        done = torchrun(2, tmp_path, *arguments, "--training.output_path", tmp_path / f"out{n_rows}")
        assert done.returncode == 0, done.stderr


def fsdp_environment():
    """Return the variables that `accelerate launch --config_file config/accelerate/fsdp.yaml` sets."""
    content = yaml.safe_load((ROOT / "config" / "accelerate" / "fsdp.yaml").read_text())
    settings = {key.upper(): str(value) for key, value in content["fsdp_config"].items()}
    return {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_CPU": "true", **settings}


@pytest.mark.slow
def test_a_sharded_model_trains_like_a_whole_one_and_resumes(tiny, tmp_path, csv):
    arguments = train_arguments(without_dropout(tiny["bolt"], tmp_path / "base"), csv)
    settings = {"script": ROOT / "tests" / "support" / "fsdp_on_cpu.py", **fsdp_environment()}
    for name, n_processes, more in (("whole", 1, {}), ("sharded", 2, settings)):
        done = torchrun(n_processes, tmp_path, *arguments, "--training.output_path", tmp_path / name, **more)
        assert done.returncode == 0, done.stderr
    for key in ("loss", "grad_norm", "eval_loss", "eval_wql"):
        np.testing.assert_allclose(logged(tmp_path / "whole", key), logged(tmp_path / "sharded", key), rtol=1e-4)
    names = [[row["candidate"] for row in info(tmp_path / name)["candidates"]] for name in ("whole", "sharded")]
    assert names[0] == names[1]
    before = weights(tmp_path / "sharded")
    assert BaseChronosPipeline.from_pretrained(tmp_path / "sharded").model_prediction_length == 64
    for name in ("training_info.json", "model.safetensors"):
        (tmp_path / "sharded" / name).unlink()
    shutil.rmtree(tmp_path / "sharded" / "checkpoints" / "checkpoint-2")
    done = torchrun(2, tmp_path, *arguments, "--training.output_path", tmp_path / "sharded", **settings)
    assert done.returncode == 0 and "checkpoint-1" in done.stdout, done.stderr
    assert same(weights(tmp_path / "sharded"), before)


def launch_script(tmp_path, script, option, first, second):
    """Write a script that runs another one with an option whose value differs between two processes."""
    path = tmp_path / "launch.py"
    path.write_text(
        "import os, runpy, sys\n"
        f"sys.argv += [{option!r}, {first!r} if os.environ['RANK'] == '0' else {second!r}]\n"
        f"sys.argv[0] = {str(ROOT / 'scripts' / script)!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    return path


@pytest.mark.slow
def test_processes_with_different_settings_are_refused(tiny, tmp_path, csv):
    script = launch_script(tmp_path, "train.py", "--training.learning_rate", "1e-3", "2e-3")
    settings = ["--training.max_steps", 2, "--training.context_length", 48, "--training.validation_windows", 6]
    arguments = ["--base_model.output_path", tiny["bolt"], "--data.train", csv, *settings]
    done = torchrun(2, tmp_path, *arguments, script=script)
    # The launcher may end one process before it has written its line.
    errors = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "error in process 1: "))]
    assert done.returncode != 0 and any("training.learning_rate" in line for line in errors), done.stderr


@pytest.mark.slow
def test_a_process_that_is_refused_ends_the_others_without_a_traceback(tiny, tmp_path, csv):
    """A model may be missing on one machine only."""
    script = launch_script(tmp_path, "evaluate.py", "--evaluation.models", f"[{tiny['bolt']}]", "[nowhere]")
    done = torchrun(2, tmp_path, "--evaluation.data_path", csv, script=script)
    assert done.returncode != 0 and any(
        line.startswith("error in process 1: ") and "nowhere" in line for line in done.stderr.splitlines()
    ), done.stderr
    before_launcher = done.stderr.partition("torch/distributed/run.py")[0]
    assert "gloo" not in before_launcher.lower(), done.stderr


def test_the_processors_of_a_machine_are_divided_by_its_processes(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    assert Processes().cpus_per_process == 8
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert Processes().cpus_per_process == 4


def test_accelerate_reads_its_configurations():
    from accelerate.commands.config.config_args import load_config_from_file

    for path in sorted((ROOT / "config" / "accelerate").glob("*.yaml")):
        assert load_config_from_file(str(path)).num_processes >= 1
