"""Accuracy after training on the same number of windows: this pipeline, AutoGluon, and training from random weights.

    python benchmarks/accuracy.py data/models/base data/index.json --autogluon VENV/bin/python --steps 500
    python benchmarks/accuracy.py data/models/base data/index.json --scratch bolt-micro --steps 1000

This pipeline runs with its automatic settings, AutoGluon with its defaults. The index lists data sets as
`evaluation.data_path` takes them. Models are trained without the last --windows horizons of each series, which are
scored. With several --seeds, models are trained once for each, and the scores are over all runs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BATCH = 32
"""Windows per optimizer step, the default of both programs."""
SEASONAL_NAIVE = "seasonal naive"
_MAX_HORIZON = 64
"""Maximum horizon in training, that of the base; longer horizons are forecast in several passes."""
AUTOGLUON = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import pandas as pd
from autogluon.timeseries import TimeSeriesDataFrame, TimeSeriesPredictor
settings = json.loads(sys.argv[1])
data = TimeSeriesDataFrame.from_data_frame(pd.read_parquet(settings["series"]))
predictor = TimeSeriesPredictor(
    prediction_length=settings["prediction_length"], freq=settings["freq"], path=settings["folder"], verbosity=1,
    quantile_levels=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
).fit(data, enable_ensemble=False, skip_model_selection=True, hyperparameters={"Chronos": {
    "model_path": settings["base"], "device": "cpu", "fine_tune": True, "fine_tune_steps": settings["steps"],
    "fine_tune_batch_size": settings["batch"],
    "fine_tune_trainer_kwargs": {"disable_tqdm": True, "seed": settings["seed"]},
}})
histories = TimeSeriesDataFrame.from_data_frame(pd.read_parquet(settings["histories"]))
predictor.predict(histories).reset_index().to_parquet(settings["output"])
"""


def main() -> None:
    """Train every program on every data set, and print the table."""
    from pipeline.config import Config
    from pipeline.core.tables import markdown_table
    from pipeline.evaluation.ranking import geometric_mean
    from pipeline.evaluation.tasks import open_tasks

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("index")
    parser.add_argument("--autogluon", help="Python interpreter of an environment with AutoGluon")
    parser.add_argument("--scratch", help="size of random weights to train too: bolt-micro, ...")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--windows", type=int, default=1, help="number of scored rolling origins of each series")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sets", nargs="*", help="names of data sets; all by default")
    parser.add_argument("--key", nargs="*", default=[], help="keys of the configuration, as KEY=VALUE")
    arguments = parser.parse_args()
    config = Config()
    config = replace(
        config, evaluation=replace(config.evaluation, data_path=arguments.index, windows=arguments.windows)
    )
    rows, relative = [], []
    for task in open_tasks(config):
        if arguments.sets and task.name not in arguments.sets:
            continue
        evaluations_by_seed = [_evaluate_seed(task, arguments, seed) for seed in arguments.seeds]
        evaluations = _join_seeds(evaluations_by_seed)
        relative.append(_relative_wql(evaluations))
        by_seed, comparison = _seed_columns(evaluations_by_seed), _autogluon_columns(evaluations)
        rows.append({"data set": task.name, **relative[-1], **by_seed, **comparison})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    means = pd.DataFrame(relative).apply(geometric_mean)
    scored = "window" if arguments.windows == 1 else f"{arguments.windows} windows"
    print(f"WQL relative to seasonal naive on the last {scored}, {arguments.steps} steps of {BATCH} windows\n")
    print(markdown_table([*rows, {"data set": "geometric mean", **means}], list(rows[0])))


def _evaluate_seed(task: Any, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train every program with one seed; return the evaluations by name, with base and seasonal naive."""
    from pipeline.evaluation.backtest import evaluate_task
    from pipeline.evaluation.baselines import naive_forecast
    from pipeline.forecasting.forecaster import Forecaster

    def evaluate_model(path: str | Path) -> Any:
        return evaluate_task(task, Forecaster.load(str(path)).predict_quantiles)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _train_own(task, arguments, seed, arguments.base, folder / "own")
        evaluations = {
            SEASONAL_NAIVE: evaluate_task(task, naive_forecast(task.seasonality)),
            "base": evaluate_model(arguments.base),
            "this pipeline": evaluate_model(folder / "own"),
        }
        if arguments.autogluon:
            evaluations["AutoGluon"] = evaluate_task(task, _autogluon(task, arguments, seed, folder))
        if arguments.scratch:
            _make_random(arguments.scratch, folder / "random")
            _train_own(task, arguments, seed, folder / "random", folder / "scratch")
            evaluations["from random weights"] = evaluate_model(folder / "scratch")
    return evaluations


def _join_seeds(evaluations_by_seed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the evaluations over the windows of all seeds, by name."""
    from pipeline.core.metrics import WindowErrors
    from pipeline.evaluation.backtest import Evaluation

    return {
        name: Evaluation(
            WindowErrors.concatenate([evaluations[name].errors for evaluations in evaluations_by_seed]),
            np.concatenate([evaluations[name].series for evaluations in evaluations_by_seed]),
            np.concatenate([evaluations[name].starts for evaluations in evaluations_by_seed]),
            first.seasonality,
        )
        for name, first in evaluations_by_seed[0].items()
    }


def _relative_wql(evaluations: dict[str, Any]) -> dict[str, float]:
    """Return the WQL of each program relative to seasonal naive."""
    from pipeline.evaluation.ranking import relative_scores

    scores = relative_scores(evaluations, SEASONAL_NAIVE)
    return {name: scores[name]["WQL"].value for name in evaluations if name != SEASONAL_NAIVE}


def _seed_columns(evaluations_by_seed: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the relative WQL of every seed of each trained model, if there are several seeds."""
    if len(evaluations_by_seed) == 1:
        return {}
    table = pd.DataFrame([_relative_wql(evaluations) for evaluations in evaluations_by_seed]).drop(columns="base")
    return {f"{name}, seed by seed": ", ".join(f"{wql:.3f}" for wql in table[name]) for name in table}


def _autogluon_columns(evaluations: dict[str, Any]) -> dict[str, Any]:
    """Return WQL and MASE of this pipeline relative to AutoGluon, with a bootstrap interval over series."""
    from pipeline.evaluation.ranking import relative_scores

    if "AutoGluon" not in evaluations:
        return {}
    ratios = relative_scores(evaluations, "AutoGluon")["this pipeline"]
    ratio = ratios["WQL"]
    interval = "one series" if np.isnan(ratio.low) else f"{ratio.low:.3f} to {ratio.high:.3f}"
    return {"over AutoGluon": ratio.value, "95%": interval, "of MASE": ratios["MASE"].value}


def _make_random(size: str, folder: Path) -> None:
    from pipeline.base_model import ChronosBaseModel

    base = ChronosBaseModel(f"scratch:{size}")
    base.load_from_huggingface()
    base.convert_to_native_format()
    base.save_base_model(str(folder))


def _train_own(task: Any, arguments: argparse.Namespace, seed: int, base: str | Path, output: Path) -> None:
    settings = {
        "chronos.seed": seed,
        "base_model.output_path": base,
        "data.train": task.store.path,
        "data.test_length": task.n_origins * task.prediction_length,
        "training.prediction_length": min(task.prediction_length, _MAX_HORIZON),
        "training.max_steps": arguments.steps,
        "training.batch_size": BATCH,
        "training.output_path": output,
        "training.trainer.report_to": "none",
    }
    settings |= dict(pair.split("=", 1) for pair in arguments.key)
    flags = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    _run([sys.executable, str(Path(__file__).parents[1] / "scripts" / "train.py"), *flags])


def _autogluon(
    task: Any, arguments: argparse.Namespace, seed: int, folder: Path
) -> Callable[[Sequence[Any], int], np.ndarray]:
    """Fit AutoGluon, forecast every window, and return a function that looks the forecasts up by their history."""
    store, length = task.store, task.prediction_length
    ends = store.lengths - task.n_origins * length
    training = [_frame(store, index, store.target(index)[:end]) for index, end in enumerate(ends) if end > 0]
    pd.concat(training).to_parquet(folder / "series.parquet")
    histories = task.histories(range(len(task)))
    frames = [
        _frame(store, series, history, number)
        for number, ((series, _), history) in enumerate(zip(task.windows, histories))
    ]
    pd.concat(frames).to_parquet(folder / "histories.parquet")
    settings = {
        "series": str(folder / "series.parquet"),
        "histories": str(folder / "histories.parquet"),
        "prediction_length": length,
        "freq": store.freq,
        "folder": str(folder / "autogluon"),
        "base": str(Path(arguments.base).resolve()),
        "steps": arguments.steps,
        "seed": seed,
        "batch": BATCH,
        "output": str(folder / "forecasts.parquet"),
    }
    (folder / "fit.py").write_text(AUTOGLUON)
    _run([arguments.autogluon, str(folder / "fit.py"), json.dumps(settings)])
    table = pd.read_parquet(folder / "forecasts.parquet")
    levels = [str(level / 10) for level in range(1, 10)]
    forecasts = {int(name): group[levels].to_numpy() for name, group in table.groupby("item_id")}
    by_history = {np.asarray(history).tobytes(): forecasts[number] for number, history in enumerate(histories)}
    return lambda histories, _: np.stack([by_history[np.asarray(history).tobytes()] for history in histories])


def _frame(store: Any, index: int, target: np.ndarray, number: int | None = None) -> pd.DataFrame:
    """Return the beginning of a series in the format of AutoGluon, named by its index or by `number`."""
    from pipeline.data.frequency import timestamps

    stamps = timestamps(store.starts[index : index + 1], store.freq, np.arange(len(target))[None])[0]
    name = str(index if number is None else number)
    return pd.DataFrame({"item_id": name, "timestamp": stamps, "target": target})


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])


if __name__ == "__main__":
    main()
