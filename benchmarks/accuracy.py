"""Accuracy, time and memory of fine-tuning a base by this pipeline and by others, with the same number of steps.

    python benchmarks/accuracy.py builtin:bolt-synth data/public/index.json data/accuracy --windows 3 \
        --programs pipeline plain autogluon --autogluon VENV/bin/python --steps 300 --seeds 0 1 2 3 4
    python benchmarks/accuracy.py builtin:bolt-synth data/public/index.json data/accuracy --windows 3 \
        --variant "half the steps" training.max_steps=150
    python benchmarks/accuracy.py --table data/accuracy

Programs:

- pipeline: this pipeline with its automatic settings. It retrains the winner, which takes up to as many steps again.
- plain: this pipeline without a holdout. It trains once on all data and compares nothing.
- autogluon: one fine-tuned model of AutoGluon at its default rate, without ensemble or model selection; with --rate,
  another one at that rate
- fit: `Chronos2Pipeline.fit` at 1e-6, its default, 1e-5 and 1e-4, if the base is a Chronos-2

`--variant NAME KEY=VALUE` adds this pipeline with these settings, `--scratch SIZE` this pipeline from random weights.

The last --windows horizons of each series are scored and not trained on. Results are saved in the folder; those that
are there are not computed again. Seconds and memory are those of the training process, with AutoGluon's forecasts. The
spread is the range of WQL over seeds, divided by its mean. A program is worse than another on a set if the interval of
the ratio of their WQL or MASE is above 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

BATCH = 32
"""Windows per optimizer step, the default of this pipeline and of AutoGluon."""
SEASONAL_NAIVE, BASE, OWN = "seasonal naive", "base", "pipeline"
_MAX_HORIZON = 64
"""Maximum training horizon of this pipeline, that of the built-in models; longer horizons take several passes."""
_FIT_RATES = {"fit": 1e-6, "fit at 1e-5": 1e-5, "fit at 1e-4": 1e-4}
"""The default of `Chronos2Pipeline.fit`, and two higher rates for a small model, set by hand."""
_LEVELS = [level / 10 for level in range(1, 10)]
AUTOGLUON = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import pandas as pd
from autogluon.timeseries import TimeSeriesDataFrame, TimeSeriesPredictor
settings = json.loads(sys.argv[1])
rate = {} if settings["rate"] is None else {"fine_tune_lr": settings["rate"]}
trainer = {} if settings["model"] == "Chronos2" else {"seed": settings["seed"], "disable_tqdm": True}
data = TimeSeriesDataFrame.from_data_frame(pd.read_parquet(settings["series"]))
predictor = TimeSeriesPredictor(
    prediction_length=settings["prediction_length"], freq=settings["freq"], path=settings["folder"], verbosity=1,
    quantile_levels=settings["levels"],
).fit(data, enable_ensemble=False, skip_model_selection=True, random_seed=settings["seed"], hyperparameters={
    settings["model"]: {
        "model_path": settings["base"], "device": "cpu", "fine_tune": True, "fine_tune_steps": settings["steps"],
        "fine_tune_batch_size": settings["batch"], "fine_tune_trainer_kwargs": trainer, **rate,
    }
})
histories = TimeSeriesDataFrame.from_data_frame(pd.read_parquet(settings["histories"]))
predictor.predict(histories).reset_index().to_parquet(settings["output"])
"""
FIT = """
import json, sys
import pandas as pd
from chronos import BaseChronosPipeline
settings = json.loads(sys.argv[1])
series = pd.read_parquet(settings["series"]).groupby("item_id", sort=False)["target"]
pipeline = BaseChronosPipeline.from_pretrained(settings["base"], device_map="cpu")
pipeline.fit(
    [values.to_numpy("float32") for _, values in series], settings["prediction_length"], num_steps=settings["steps"],
    batch_size=settings["batch"], learning_rate=settings["rate"], output_dir=settings["folder"], seed=settings["seed"],
    disable_tqdm=True, use_cpu=True,
).model.save_pretrained(settings["output"])
"""


class Run(NamedTuple):
    """The scores of a trained model on one data set, and the time and memory of its training."""

    evaluation: Any
    """An `Evaluation`."""
    seconds: float
    megabytes: float
    """Peak memory of the training process or of its largest child."""


def main() -> None:
    """Fine-tune with each program on each data set, or print the tables of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?")
    parser.add_argument("index", nargs="?")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--programs", nargs="+", default=[], choices=[OWN, "plain", "autogluon", "fit"])
    parser.add_argument("--variant", nargs="+", action="append", default=[], metavar="NAME KEY=VALUE ...")
    parser.add_argument("--autogluon", help="Python interpreter of an environment with AutoGluon")
    parser.add_argument("--rate", type=float, help="learning rate of a second run of AutoGluon")
    parser.add_argument("--scratch", help="size of a model to train from random weights: bolt-micro, ...")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--windows", type=int, default=1, help="number of scored rolling origins of each series")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sets", nargs="*", help="names of data sets; all by default")
    parser.add_argument("--table", type=Path, help="print the table of this folder")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print_tables(arguments.table)
    else:
        run_all(arguments)


def run_all(arguments: argparse.Namespace) -> None:
    """Fine-tune with every program on every data set with every seed."""
    from pipeline.config import Config
    from pipeline.evaluation.backtest import evaluate_task
    from pipeline.evaluation.baselines import naive_forecast
    from pipeline.evaluation.tasks import open_tasks
    from pipeline.forecasting.forecaster import Forecaster

    config = Config()
    config = replace(
        config, evaluation=replace(config.evaluation, data_path=arguments.index, windows=arguments.windows)
    )
    base = base_folder(arguments.base)
    programs = make_programs(arguments, base)
    for task in open_tasks(config):
        if arguments.sets and task.name not in arguments.sets:
            continue
        folder = arguments.folder / task.name
        forecast = naive_forecast(task.seasonality)
        _keep(folder / SEASONAL_NAIVE / "0.npz", lambda: Run(evaluate_task(task, forecast), 0, 0))
        forecaster = Forecaster.load(str(base))
        _keep(folder / BASE / "0.npz", lambda: Run(evaluate_task(task, forecaster.predict_quantiles), 0, 0))
        for seed in arguments.seeds:
            for name, train in programs.items():
                _keep(folder / name / f"{seed}.npz", lambda: train(task, seed))


def make_programs(arguments: argparse.Namespace, base: Path) -> dict[str, Callable[[Any, int], Run]]:
    """Return the training functions, (task, seed) to run, by the name of the program."""
    family = json.loads((base / "config.json").read_text())["architectures"][0]
    own = partial(train_own, base=base, steps=arguments.steps)
    programs: dict[str, Callable[[Any, int], Run]] = {}
    if OWN in arguments.programs:
        programs[OWN] = partial(own, keys={})
    if "plain" in arguments.programs:
        programs["plain"] = partial(own, keys={"training.validation_split": 0})
    for name, *pairs in arguments.variant:
        programs[name] = partial(own, keys=dict(pair.split("=", 1) for pair in pairs))
    if "autogluon" in arguments.programs:
        model = "Chronos2" if "Chronos2" in family else "Chronos"
        autogluon = partial(
            train_autogluon, base=base, steps=arguments.steps, model=model, interpreter=arguments.autogluon
        )
        programs["autogluon"] = partial(autogluon, rate=None)
        if arguments.rate is not None:
            programs[f"autogluon at {arguments.rate:g}"] = partial(autogluon, rate=arguments.rate)
    if "fit" in arguments.programs:
        for name, rate in _FIT_RATES.items():
            programs[name] = partial(train_by_fit, base=base, steps=arguments.steps, rate=rate)
    if arguments.scratch:
        random = arguments.folder / "random weights" / arguments.scratch
        if not random.exists():
            _make_random(arguments.scratch, random)
        programs["random weights"] = partial(train_own, base=random, steps=arguments.steps, keys={})
    return programs


def base_folder(name: str) -> Path:
    """Return the folder of a base, given as a path or as `builtin:NAME`."""
    from pipeline.models.builtin import BUILTIN, builtin_folder

    return builtin_folder(name) if name.startswith(BUILTIN) else Path(name).resolve()


def train_own(task: Any, seed: int, base: Path, steps: int, keys: dict[str, Any]) -> Run:
    """Train with this pipeline; `keys` replace settings of its configuration."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "chronos.seed": seed,
            "base_model.output_path": base,
            "data.train": task.store.path,
            "data.test_length": task.n_origins * task.prediction_length,
            "training.prediction_length": min(task.prediction_length, _MAX_HORIZON),
            "training.max_steps": steps,
            "training.batch_size": BATCH,
            "training.output_path": f"{folder}/trained",
            "training.trainer.report_to": "none",
            **keys,
        }
        flags = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
        used = _run([sys.executable, str(Path(__file__).parents[1] / "scripts" / "train.py"), *flags])
        return Run(_evaluate(task, f"{folder}/trained"), *used)


def train_autogluon(
    task: Any, seed: int, base: Path, steps: int, model: str, interpreter: str, rate: float | None
) -> Run:
    """Train with AutoGluon and forecast the scored windows; its time includes the forecasts."""
    from pipeline.evaluation.backtest import evaluate_task

    with tempfile.TemporaryDirectory() as name:
        folder, histories = Path(name), task.histories(range(len(task)))
        frames = [
            _frame(task.store, series, history, number)
            for number, ((series, _), history) in enumerate(zip(task.windows, histories))
        ]
        pd.concat(frames).to_parquet(folder / "histories.parquet")
        settings = {"model": model, "histories": str(folder / "histories.parquet"), "freq": task.store.freq}
        used = _run_script(AUTOGLUON, interpreter, task, folder, seed, base, steps, rate, settings)
        table = pd.read_parquet(folder / "output")
    columns = [str(level) for level in _LEVELS]
    forecasts = {int(item): group[columns].to_numpy() for item, group in table.groupby("item_id")}
    by_history = {np.asarray(history).tobytes(): forecasts[number] for number, history in enumerate(histories)}
    return Run(evaluate_task(task, lambda batch, _: np.stack([by_history[_bytes(each)] for each in batch])), *used)


def train_by_fit(task: Any, seed: int, base: Path, steps: int, rate: float) -> Run:
    """Train with `Chronos2Pipeline.fit`."""
    with tempfile.TemporaryDirectory() as folder:
        used = _run_script(FIT, sys.executable, task, Path(folder), seed, base, steps, rate, {})
        return Run(_evaluate(task, f"{folder}/output"), *used)


def _run_script(
    script: str,
    interpreter: str,
    task: Any,
    folder: Path,
    seed: int,
    base: Path,
    steps: int,
    rate: float | None,
    settings: dict[str, Any],
) -> tuple[float, float]:
    """Run a script that trains on the series before the scored windows and writes `output` to the folder."""
    store = task.store
    ends = store.lengths - task.n_origins * task.prediction_length
    training = [_frame(store, index, store.target(index)[:end]) for index, end in enumerate(ends) if end > 0]
    pd.concat(training).to_parquet(folder / "series.parquet")
    (folder / "script.py").write_text(script)
    settings = {
        "series": str(folder / "series.parquet"),
        "prediction_length": task.prediction_length,
        "levels": _LEVELS,
        "folder": str(folder / "work"),
        "base": str(base),
        "steps": steps,
        "seed": seed,
        "rate": rate,
        "batch": BATCH,
        "output": str(folder / "output"),
        **settings,
    }
    return _run([interpreter, str(folder / "script.py"), json.dumps(settings)])


def _frame(store: Any, index: int, target: np.ndarray, number: int | None = None) -> pd.DataFrame:
    """Return values of a series in the format of AutoGluon; the item ID is `number`, or else the index."""
    from pipeline.data.frequency import timestamps

    stamps = timestamps(store.starts[index : index + 1], store.freq, np.arange(len(target))[None])[0]
    name = str(index if number is None else number)
    return pd.DataFrame({"item_id": name, "timestamp": stamps, "target": target})


def _bytes(history: Any) -> bytes:
    return np.asarray(history).tobytes()


def _evaluate(task: Any, model: str) -> Any:
    from pipeline.evaluation.backtest import evaluate_task
    from pipeline.forecasting.forecaster import Forecaster

    return evaluate_task(task, Forecaster.load(model).predict_quantiles)


def _make_random(size: str, folder: Path) -> None:
    from pipeline.base_model import ChronosBaseModel

    base = ChronosBaseModel(f"scratch:{size}")
    base.load_from_huggingface()
    base.convert_to_native_format()
    base.save_base_model(str(folder))


def _run(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and its peak memory in megabytes."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(output.read()[-4000:].decode(errors="replace"))
    return time.monotonic() - begin, usage.ru_maxrss / 1024


def _keep(path: Path, make: Callable[[], Run]) -> None:
    """Make a run and save it, unless the file exists."""
    if path.exists():
        return
    evaluation, seconds, megabytes = make()
    errors = {field.name: getattr(evaluation.errors, field.name) for field in fields(evaluation.errors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        **errors,
        series=evaluation.series,
        starts=evaluation.starts,
        seasonality=evaluation.seasonality,
        used=[seconds, megabytes],
    )
    partial.rename(path)
    scores = evaluation.scores()
    print(*path.parts[-3:], f"WQL {scores['WQL']:.4f} MASE {scores['MASE']:.4f} {seconds:.0f} s", flush=True)


def _read(path: Path) -> Run:
    from pipeline.core.metrics import WindowErrors
    from pipeline.evaluation.backtest import Evaluation

    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    seconds, megabytes = arrays.pop("used")
    others = arrays.pop("series"), arrays.pop("starts"), int(arrays.pop("seasonality"))
    return Run(Evaluation(WindowErrors(**arrays), *others), seconds, megabytes)


def print_tables(folder: Path) -> None:
    """Print a row for each data set and program, and a row for each program."""
    from pipeline.core.tables import markdown_table

    rows = [row for path in sorted(folder.iterdir()) if (path / BASE).is_dir() for row in set_rows(path)]
    print(markdown_table([_text(row) for row in rows], tuple(rows[0])), "\n")
    table = pd.DataFrame(rows)
    summary = [program_row(name, of_program) for name, of_program in table.groupby("program", sort=False)]
    print(markdown_table([_text(row) for row in summary], tuple(summary[0])))


def set_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the scores of each program on a data set, relative to seasonal naive, to the base and to AutoGluon."""
    from pipeline.evaluation.ranking import relative_scores

    runs = {
        path.name: [_read(file) for file in sorted(path.glob("?*.npz")) if ".partial" not in file.name]
        for path in folder.iterdir()
    }
    n_seeds = max(map(len, runs.values()))
    # The bootstrap needs the same windows for all programs, so programs with fewer runs are repeated.
    joined = {name: _join([run.evaluation for run in (each * n_seeds)[:n_seeds]]) for name, each in runs.items()}
    naive = joined[SEASONAL_NAIVE].scores()
    rows = []
    for name in [BASE, *sorted(runs.keys() - {BASE, SEASONAL_NAIVE})]:
        scores, by_seed = joined[name].scores(), [run.evaluation.scores() for run in runs[name]]
        row = {"data set": folder.name, "program": name, "seeds": len(by_seed)}
        row |= {score: scores[score] / naive[score] for score in ("WQL", "MASE")}
        wql = np.array([each["WQL"] for each in by_seed])
        row |= {"coverage": scores["coverage_80"], "spread": np.ptp(wql) / wql.mean()}
        for other in (BASE, "autogluon"):
            ratio = relative_scores({name: joined[name], other: joined[other]}, other)[name] if other in runs else None
            for score in ("WQL", "MASE"):
                row[f"{score} over {other}"] = ratio[score].value if ratio else np.nan
            row[f"worse than {other}"] = float(ratio["WQL"].low > 1 or ratio["MASE"].low > 1) if ratio else np.nan
        seconds, megabytes = np.median([[run.seconds, run.megabytes] for run in runs[name]], axis=0)
        rows.append({**row, "seconds": seconds, "MB": megabytes})
    return rows


def program_row(name: object, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the means, medians and counts of a program over the data sets."""
    from pipeline.evaluation.ranking import geometric_mean

    ratios = ["WQL", "MASE", *(f"{score} over {other}" for other in (BASE, "autogluon") for score in ("WQL", "MASE"))]
    return {
        "program": name,
        "sets": len(rows),
        **{column: float(geometric_mean(rows[column].to_numpy())) for column in ratios},
        "coverage": rows["coverage"].mean(),
        "mean spread": rows["spread"].mean(),
        "largest spread": rows["spread"].max(),
        **{f"worse than {other}": rows[f"worse than {other}"].sum() for other in (BASE, "autogluon")},
        "seconds": rows["seconds"].median(),
        "MB": rows["MB"].median(),
    }


def _join(evaluations: Sequence[Any]) -> Any:
    """Return the evaluation over the windows of all seeds."""
    from pipeline.core.metrics import WindowErrors
    from pipeline.evaluation.backtest import Evaluation

    return Evaluation(
        WindowErrors.concatenate([each.errors for each in evaluations]),
        np.concatenate([each.series for each in evaluations]),
        np.concatenate([each.starts for each in evaluations]),
        evaluations[0].seasonality,
    )


def _text(row: dict[str, Any]) -> dict[str, str]:
    """Return a row with numbers as text: fractions and ratios have three decimals."""
    whole = ("seconds", "MB", "seeds", "sets")
    return {
        key: value if isinstance(value, str) else "" if np.isnan(value) else f"{value:.{0 if key in whole else 3}f}"
        for key, value in row.items()
    }


if __name__ == "__main__":
    main()
