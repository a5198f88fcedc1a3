"""Measure training in windows per second, compared with AutoGluon, chronos-forecasting and a bare loop.

A Chronos-2 is compared with `Chronos2Pipeline.fit`, a T5 with chronos-forecasting's train.py.

    python benchmarks/training.py bolt-tiny --autogluon VENV/bin/python
    python benchmarks/training.py chronos-2-nano
    python benchmarks/training.py t5-tiny --train-script chronos-forecasting/scripts/training/train.py

Each trainer runs in a separate process, from the same random weights, on the same series, with the same batch size,
context and horizon. It runs twice, with few and with many steps. The difference of the two times excludes startup and
saving. The trainers take turns in every round. The table has medians over rounds, and ratios within rounds.

The bare loop has the same model, arithmetic and optimizer, and reads prepared tensors. It takes one step after every
step of the Trainer. The time of a Trainer step includes data loading and logging.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.windows.training_windows import TrainingWindows

# The defaults of training from random weights. All trainers get the same values.
CONTEXT, HORIZON, BATCH = 512, 64, 32
_WARM_UP_STEPS = 5
"""First steps of the Trainer and of the bare loop, which are not counted, since they allocate memory."""

AUTOGLUON = """
import sys, json, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
from autogluon.timeseries import TimeSeriesDataFrame, TimeSeriesPredictor
model, array, steps, output = sys.argv[1:]
data = np.load(array)
n, length = data.shape
frame = pd.DataFrame({
    "item_id": np.repeat([str(i) for i in range(n)], length),
    "timestamp": np.tile(pd.date_range("2020-01-01", periods=length, freq="h"), n),
    "target": data.ravel(),
})
TimeSeriesPredictor(prediction_length=%d, freq="h", path=output, verbosity=1).fit(
    TimeSeriesDataFrame.from_data_frame(frame), enable_ensemble=False, skip_model_selection=True,
    hyperparameters={"Chronos": {
        "model_path": model, "device": "cpu", "fine_tune": True, "fine_tune_steps": int(steps),
        "fine_tune_batch_size": %d, "context_length": %d, "fine_tune_lr": 1e-5,
        "fine_tune_trainer_kwargs": {"disable_tqdm": True},
    }},
)
""" % (HORIZON, BATCH, CONTEXT)

FIT = """
import sys
import numpy as np
from chronos import BaseChronosPipeline
model, array, steps, output = sys.argv[1:]
BaseChronosPipeline.from_pretrained(model, device_map="cpu").fit(
    list(np.load(array)), %d, context_length=%d, num_steps=int(steps), batch_size=%d, output_dir=output,
    disable_tqdm=True, use_cpu=True,
)
""" % (HORIZON, CONTEXT, BATCH)


def main() -> None:
    """Compare the trainers on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", help="size of the random weights: bolt-tiny, bolt-nano, t5-tiny, ...")
    parser.add_argument("--autogluon", help="Python interpreter of an environment with autogluon.timeseries")
    parser.add_argument("--train-script", help="path of chronos-forecasting's scripts/training/train.py")
    parser.add_argument("--steps", type=int, nargs=2, default=(5, 45), help="few and many steps (default: 5 45)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each trainer (default: 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, Path(folder))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Time every trainer in turn, and print the table."""
    from pipeline.core.tables import markdown_table

    write_inputs(folder, arguments.size)
    trainers: dict[str, Callable[[int], float]] = {
        "this pipeline": lambda steps: run_seconds(_pipeline_command(folder, steps, "auto")),
        "this pipeline, fp32": lambda steps: run_seconds(_pipeline_command(folder, steps, "fp32")),
    }
    scripts = {"AutoGluon": (arguments.autogluon, AUTOGLUON)} if arguments.autogluon else {}
    if arguments.size.startswith("chronos-2"):
        scripts["Chronos2Pipeline.fit"] = (sys.executable, FIT)
    for name, (interpreter, text) in scripts.items():
        script = folder / f"{name}.py"
        script.write_text(text)
        trainers[name] = partial(_run_script, interpreter, script, folder)
    if arguments.train_script:
        trainers["chronos-forecasting"] = lambda steps: run_seconds(
            _chronos_forecasting_command(arguments.train_script, folder, steps)
        )
    few, many = arguments.steps
    rates: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(arguments.rounds):
        for name, seconds in trainers.items():
            rates[name].append((many - few) * BATCH / (seconds(many) - seconds(few)))
            print(f"{name}: {rates[name][-1]:.0f} windows/s", file=sys.stderr, flush=True)
    rows = [
        {
            "trainer": name,
            "windows/s": round(statistics.median(measured)),
            "ratio of this pipeline to it": statistics.median(a / b for a, b in zip(rates["this pipeline"], measured)),
        }
        for name, measured in rates.items()
    ]
    print(f"{arguments.size}, context {CONTEXT}, horizon {HORIZON}, batch {BATCH}, {arguments.rounds} rounds\n")
    print(markdown_table(rows, tuple(rows[0])))
    compare_with_bare_loop(folder, 2 * many)


def write_inputs(folder: Path, size: str) -> None:
    """Write a checkpoint of random weights and 200 series of 1,000 steps, as an Arrow store and as an array."""
    import numpy as np

    from pipeline.base_model import ChronosBaseModel
    from pipeline.data.arrow_store import write_store
    from pipeline.synthetic import dummy_series

    base = ChronosBaseModel(f"scratch:{size}")
    base.load_from_huggingface()
    base.convert_to_native_format()
    base.save_base_model(str(folder / "base"))
    dummies = list(dummy_series(200, 20, 1000, ("trend", "seasonal", "noise"), seed=0))
    write_store(folder / "series.arrow", dummies)
    np.save(folder / "series.npy", np.stack([series.target for series in dummies]))


def _run_script(interpreter: str, script: Path, folder: Path, steps: int) -> float:
    output = folder / f"{script.stem}{time.time_ns()}"
    return run_seconds([interpreter, script, folder / "base", folder / "series.npy", steps, output])


def run_seconds(command: list[Any]) -> float:
    """Run a command; return its seconds, or exit with the end of its output if it fails."""
    start = time.perf_counter()
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stdout[-2000:] + result.stderr[-2000:])
    return time.perf_counter() - start


def _pipeline_command(folder: Path, steps: int, precision: str) -> list[Any]:
    settings = {
        "base_model.output_path": folder / "base",
        "data.train": folder / "series.arrow",
        "training.max_steps": steps,
        "training.batch_size": BATCH,
        "training.context_length": CONTEXT,
        "training.prediction_length": HORIZON,
        "training.precision": precision,
        "training.validation_split": 0,
        "training.overwrite": "true",
        "training.output_path": folder / "out",
        "training.trainer.report_to": "none",
        "training.trainer.save_steps": 10**6,
    }
    script = Path(__file__).parents[1] / "scripts" / "train.py"
    return [sys.executable, script, *(word for key, value in settings.items() for word in (f"--{key}", value))]


def _chronos_forecasting_command(script: str, folder: Path, steps: int) -> list[Any]:
    settings = {
        "training_data_paths": f"['{folder / 'series.arrow'}']",
        "probability": "[1.0]",
        "context_length": CONTEXT,
        "prediction_length": HORIZON,
        "max_steps": steps,
        "save_steps": 10**6,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "model_id": str(folder / "base"),
        "tf32": False,
        "torch_compile": False,
        "dataloader_num_workers": 1,
        "output_dir": str(folder / "reference"),
    }
    config = folder / "reference.yaml"
    config.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    return [sys.executable, script, "--config", config]


def compare_with_bare_loop(folder: Path, steps: int) -> None:
    """Print the ratio of the Trainer's steps per second to those of a bare loop that takes turns with it."""
    import numpy as np
    from transformers import TrainerCallback
    from transformers.trainer import DEFAULT_CALLBACKS

    from pipeline.config import Config
    from pipeline.data.arrow_store import open_store
    from pipeline.train_model import ChronosTrainer

    config = Config()
    training = replace(
        config.training,
        max_steps=steps,
        batch_size=BATCH,
        context_length=CONTEXT,
        prediction_length=HORIZON,
        validation_split=0.0,
        trainer={"report_to": "none", "save_steps": 10**6},
    )
    trainer = ChronosTrainer(str(folder / "base"))
    trainer.config = replace(config, training=training)
    windows, _ = train_data = trainer.prepare_training_data([open_store(folder / "series.arrow")])
    loop_step = bare_loop(folder, windows)

    class AlternateSteps(TrainerCallback):
        """Take a step of the bare loop after every step of the Trainer, and time both."""

        def __init__(self) -> None:
            self.last_end: float | None = None
            self.trainer_seconds: list[float] = []
            self.loop_seconds: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            start = time.perf_counter()
            if self.last_end is not None:
                self.trainer_seconds.append(start - self.last_end)
            loop_step(len(self.loop_seconds))
            self.last_end = time.perf_counter()
            self.loop_seconds.append(self.last_end - start)

    times = AlternateSteps()
    # The configuration has no key for callbacks, so this one is added to those of every Trainer.
    callbacks: list[Any] = DEFAULT_CALLBACKS
    callbacks.append(times)
    trainer.train_model(train_data)
    # The first step of the Trainer has no start time, so step i of the Trainer is compared with step i + 1 of the loop.
    ours = np.array(times.trainer_seconds[_WARM_UP_STEPS:])
    bare = np.array(times.loop_seconds[_WARM_UP_STEPS + 1 :])
    print(f"steps per second of the Trainer, relative to a bare loop: {np.median(bare / ours):.3f} ({len(ours)} steps)")


def bare_loop(folder: Path, windows: TrainingWindows) -> Callable[[int], None]:
    """Return a function that takes training step i on prepared tensors, with the model and arithmetic of training."""
    import torch

    from pipeline.models.checkpoint import read_checkpoint
    from pipeline.models.cpu import use_cpu_layers
    from pipeline.models.load import read_model
    from pipeline.training.arguments import uses_bf16
    from pipeline.windows.inputs import input_function

    model = read_model(folder / "base").float().train()
    bf16 = uses_bf16("auto", "cpu", model.config.d_model)
    use_cpu_layers(model)
    to_inputs = input_function(read_checkpoint(folder / "base").family, model.config.chronos_config, HORIZON)
    drawn = (windows.batch(range(first, first + BATCH)) for first in range(0, 8 * BATCH, BATCH))
    prepared = [to_inputs(torch.from_numpy(context), torch.from_numpy(target)) for context, target in drawn]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(index: int) -> None:
        inputs = {
            key: value.clone() if isinstance(value, torch.Tensor) else value
            for key, value in prepared[index % len(prepared)].items()
        }
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
