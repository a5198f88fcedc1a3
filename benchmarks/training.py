"""Training windows a second, beside AutoGluon and chronos-forecasting's train.py; and steps a second beside a bare loop.

    python benchmarks/training.py bolt-tiny --autogluon VENV/bin/python
    python benchmarks/training.py t5-tiny --train-script chronos-forecasting/scripts/training/train.py

Each trainer runs in a process of its own, from the same checkpoint of random weights, on the same series, with the same
batch, context and horizon, for two numbers of steps; the difference of the two times is the time of the steps between,
without start and end. Rounds go through all trainers in turn; medians over rounds are printed, and ratios within rounds.

The bare loop over ready tensors has the same model, arithmetic and optimiser, and takes a step after every step of the
Trainer, whose steps count all between two of them: data, logs, everything.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

CONTEXT, HORIZON, BATCH = 512, 64, 32
_WARM = 5

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
        "model_path": model, "device": "cpu", "fine_tune": True, "fine_tune_steps": int(steps), "fine_tune_batch_size": %d,
        "context_length": %d, "fine_tune_lr": 1e-5, "fine_tune_trainer_kwargs": {"disable_tqdm": True},
    }},
)
""" % (HORIZON, BATCH, CONTEXT)


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", help="a size of random weights: bolt-tiny, bolt-nano, t5-tiny, ...")
    parser.add_argument("--autogluon", help="the Python interpreter of an environment with autogluon.timeseries")
    parser.add_argument("--train-script", help="chronos-forecasting's scripts/training/train.py")
    parser.add_argument("--steps", type=int, nargs=2, default=(5, 45))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.size.startswith("--"):
        raise SystemExit("name a size first")
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, Path(folder))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Time every trainer in turn, and print the table."""
    import numpy as np

    from pipeline.base_model import ChronosBaseModel
    from pipeline.core.tables import markdown_table
    from pipeline.data.arrow_store import write_store
    from pipeline.synthetic import dummy_series

    base = ChronosBaseModel(f"scratch:{arguments.size}")
    base.load_from_huggingface()
    base.convert_to_native_format()
    base.save_base_model(str(folder / "base"))
    series = list(dummy_series(200, 20, 1000, ("trend", "seasonal", "noise"), seed=0))
    write_store(folder / "series.arrow", series)
    np.save(folder / "series.npy", np.stack([one.target for one in series]))

    trainers: dict[str, Callable[[int], float]] = {
        "this pipeline": lambda steps: _timed(_own(folder, steps, "auto")),
        "this pipeline, fp32": lambda steps: _timed(_own(folder, steps, "fp32")),
    }
    if arguments.autogluon:
        script = folder / "fit_autogluon.py"
        script.write_text(AUTOGLUON)
        trainers["AutoGluon"] = lambda steps: _timed(
            [arguments.autogluon, script, folder / "base", folder / "series.npy", steps, folder / f"ag{time.time_ns()}"]
        )
    if arguments.train_script:
        trainers["chronos-forecasting"] = lambda steps: _timed(_reference(arguments.train_script, folder, steps))
    few, many = arguments.steps
    rates: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(arguments.rounds):
        for name, seconds in trainers.items():
            rates[name].append((many - few) * BATCH / (seconds(many) - seconds(few)))
            print(f"{name}: {rates[name][-1]:.0f} windows/s", file=sys.stderr, flush=True)
    own = rates["this pipeline"]
    rows = [
        {
            "trainer": name,
            "windows/s": round(statistics.median(measured)),
            "this pipeline over it": statistics.median(a / b for a, b in zip(own, measured)),
        }
        for name, measured in rates.items()
    ]
    print(f"{arguments.size}, context {CONTEXT}, horizon {HORIZON}, batch {BATCH}, {arguments.rounds} rounds\n")
    print(markdown_table(rows, ("trainer", "windows/s", "this pipeline over it")))
    beside_a_bare_loop(folder, 2 * many)


def _timed(command: list[Any]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - begin


def _own(folder: Path, steps: int, precision: str) -> list[Any]:
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
    return [sys.executable, script, *(part for key, value in settings.items() for part in (f"--{key}", value))]


def _reference(script: str, folder: Path, steps: int) -> list[Any]:
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


def beside_a_bare_loop(folder: Path, steps: int) -> None:
    """Print how many steps a second the Trainer makes over those of a bare loop that takes turns with it."""
    import numpy as np
    import torch
    from transformers import TrainerCallback

    import pipeline.training.trainer
    from pipeline.config import Config
    from pipeline.data.arrow_store import open_store
    from pipeline.models.checkpoint import read_checkpoint
    from pipeline.models.cpu import use_cpu_layers
    from pipeline.models.load import read_model
    from pipeline.train_model import ChronosTrainer
    from pipeline.training.arguments import uses_bf16
    from pipeline.windows.inputs import input_function

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
    model = read_model(folder / "base").float().train()
    bf16 = uses_bf16("auto", "cpu", model.config.d_model)
    use_cpu_layers(model)
    to_inputs = input_function(read_checkpoint(folder / "base").family, model.config.chronos_config, HORIZON)
    drawn = (windows.batch(range(first, first + BATCH)) for first in range(0, 8 * BATCH, BATCH))
    ready = [to_inputs(torch.from_numpy(context), torch.from_numpy(target)) for context, target in drawn]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    class Turns(TrainerCallback):
        begun: float | None = None
        of_trainer: list[float] = []
        of_loop: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            begin = time.perf_counter()
            if self.begun is not None:
                self.of_trainer.append(begin - self.begun)
            inputs = {
                key: value.clone() if isinstance(value, torch.Tensor) else value
                for key, value in ready[len(self.of_loop) % len(ready)].items()
            }
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(**inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            self.begun = time.perf_counter()
            self.of_loop.append(self.begun - begin)

    class Taking(pipeline.training.trainer.ScoringTrainer):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            self.add_callback(Turns())

    pipeline.training.trainer.ScoringTrainer = Taking  # type: ignore[misc]
    trainer.train_model(train_data)
    ours, bare = np.array(Turns.of_trainer[_WARM:]), np.array(Turns.of_loop[_WARM + 1 :])
    print(f"steps a second through the Trainer over a bare loop: {np.median(bare / ours):.3f} ({len(ours)} turns)")


if __name__ == "__main__":
    main()
