"""Several processes train like one: DDP, FSDP, and ranks that disagree."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from chronos import BaseChronosPipeline
from support import ROOT
from support.runs import SHORT, info, logged, same, weights, without_dropout


def torchrun(n_processes, cwd, *arguments, script=ROOT / "scripts" / "train.py", **more):
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), **more)
    environment.pop("HF_HUB_OFFLINE", None)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
    command = [*launch, str(script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_two_processes_train_like_one(nano, tmp_path, csv, family):
    base = without_dropout(nano[family], tmp_path / "base")
    arguments = ["--base_model.output_path", base, "--data.train", csv]
    for key, value in {**SHORT, "max_steps": 3, "validation_windows": 6}.items():
        arguments += [f"--training.{key}", value]
    for n_processes in (1, 2):
        done = torchrun(n_processes, tmp_path, *arguments, "--training.output_path", tmp_path / f"out{n_processes}")
        assert done.returncode == 0, done.stderr
    one, two = info(tmp_path / "out1")["candidates"], info(tmp_path / "out2")["candidates"]
    for key in ("WQL", "MASE", "loss"):
        # A sampled forecast turns on the last bits of its logits, so those of the token model are left out.
        if family == "bolt" or key == "loss":
            np.testing.assert_allclose([c[key] for c in one], [c[key] for c in two], rtol=1e-4)
    for key in ("loss", "grad_norm"):
        losses = [logged(tmp_path / f"out{n_processes}", key) for n_processes in (1, 2)]
        np.testing.assert_allclose(*losses, rtol=1e-4)


def fsdp_environment():
    """What `accelerate launch --config_file config/accelerate/fsdp.yaml` sets."""
    content = yaml.safe_load((ROOT / "config" / "accelerate" / "fsdp.yaml").read_text())
    settings = {key.upper(): str(value) for key, value in content["fsdp_config"].items()}
    return {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_CPU": "true", **settings}


def test_a_sharded_model_trains_like_one_and_resumes(nano, tmp_path, csv):
    base = without_dropout(nano["bolt"], tmp_path / "base")
    arguments = ["--base_model.output_path", base, "--data.train", csv]
    for key, value in {**SHORT, "max_steps": 3, "validation_windows": 6}.items():
        arguments += [f"--training.{key}", value]
    settings = {"script": ROOT / "tests" / "fsdp_on_cpu.py", **fsdp_environment()}
    done = torchrun(1, tmp_path, *arguments, "--training.output_path", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    done = torchrun(2, tmp_path, *arguments, "--training.output_path", tmp_path / "two", **settings)
    assert done.returncode == 0, done.stderr
    for key in ("loss", "grad_norm", "eval_loss", "eval_wql"):
        np.testing.assert_allclose(logged(tmp_path / "one", key), logged(tmp_path / "two", key), rtol=1e-4)
    assert [c["candidate"] for c in info(tmp_path / "one")["candidates"]] == [
        c["candidate"] for c in info(tmp_path / "two")["candidates"]
    ]
    before = weights(tmp_path / "two")
    assert BaseChronosPipeline.from_pretrained(tmp_path / "two").model_prediction_length == 64
    for name in ("training_info.json", "model.safetensors"):
        (tmp_path / "two" / name).unlink()
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "checkpoint-3")
    done = torchrun(2, tmp_path, *arguments, "--training.output_path", tmp_path / "two", **settings)
    assert done.returncode == 0 and "continuing from" in done.stdout, done.stderr
    assert same(weights(tmp_path / "two"), before)


def test_ranks_that_disagree_are_refused(nano, tmp_path, csv):
    """The second process is given another learning rate, as a mixed-up multi-node launch would."""
    (tmp_path / "launch.py").write_text(
        "import os, runpy, sys\n"
        "sys.argv += ['--training.learning_rate', '1e-3' if os.environ['RANK'] == '0' else '2e-3']\n"
        f"sys.argv[0] = {str(ROOT / 'scripts' / 'train.py')!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    settings = ["--training.max_steps", 2, "--training.context_length", 48, "--training.validation_windows", 6]
    arguments = ["--base_model.output_path", nano["bolt"], "--data.train", csv, *settings]
    done = torchrun(2, tmp_path, *arguments, script=tmp_path / "launch.py")
    assert done.returncode != 0 and "error: the processes disagree in rate, training.learning_rate;" in done.stderr


def test_a_process_that_refuses_ends_the_others_without_a_traceback(nano, tmp_path, csv):
    """As where a file is missing on one machine alone."""
    (tmp_path / "launch.py").write_text(
        "import os, runpy, sys\n"
        f"sys.argv += ['--evaluation.models', '[{nano['bolt']}]' if os.environ['RANK'] == '0' else '[nowhere]']\n"
        f"sys.argv[0] = {str(ROOT / 'scripts' / 'evaluate.py')!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = torchrun(2, tmp_path, "--evaluation.data_path", csv, script=tmp_path / "launch.py")
    assert done.returncode != 0 and "error in process 1: no checkpoint folder nowhere" in done.stderr
    of_ours = done.stderr.partition("torch/distributed/run.py")[0]
    assert "Gloo" not in of_ours and "gloo" not in of_ours, done.stderr


def test_accelerate_reads_its_configurations():
    from accelerate.commands.config.config_args import load_config_from_file

    for path in sorted((ROOT / "config" / "accelerate").glob("*.yaml")):
        assert load_config_from_file(str(path)).num_processes >= 1
