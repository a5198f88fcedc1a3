"""Measure model inputs in windows per second on one core, compared with GluonTS and Chronos's tokenizer.

    python benchmarks/data_pipeline.py

Every path reads the same Arrow store, draws windows of the same context and horizon from series of 200 to 2,000 steps,
and returns batches of model inputs. The paths take turns of half a second, so that changes of the machine's speed
affect all of them.

The GluonTS path is that of chronos-forecasting's train.py (tokens) and of AutoGluon's fine-tuning (Bolt, which has no
tokens). It draws a data set, cuts one sample with InstanceSplitter, tokenizes it, and stacks samples into a batch.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

# The defaults of training from random weights, as in training.py and components.py.
CONTEXT, HORIZON, BATCH = 512, 64, 32


def main() -> None:
    """Time all paths in turn, and print the table."""
    import torch

    from pipeline.core.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each path")
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds of a turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths: dict[str, Callable[[Path], Iterator[Any]]] = {
        "tokens": tokens,
        "Bolt": bolt,
        "GluonTS, tokens": gluonts_tokens,
        "GluonTS, Bolt": gluonts_bolt,
    }
    rates: dict[str, list[float]] = {name: [] for name in paths}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "series.arrow")
        write_series(store)
        batches = {name: make_batches(store) for name, make_batches in paths.items()}
        for _ in range(arguments.rounds):
            for name, measured in rates.items():
                measured.append(windows_per_second(batches[name], arguments.seconds))
    rows = [
        {
            "path": name,
            "windows/s": round(statistics.median(measured)),
            **{
                f"ratio to {baseline}": statistics.median(a / b for a, b in zip(measured, rates[baseline]))
                for baseline in ("GluonTS, tokens", "GluonTS, Bolt")
            },
        }
        for name, measured in rates.items()
    ]
    print(f"context {CONTEXT}, horizon {HORIZON}, batch {BATCH}, {arguments.rounds} rounds, one core\n")
    print(markdown_table(rows, tuple(rows[0])))


def write_series(path: Path) -> None:
    """Write an Arrow store of 500 dummy series with 200 to 2,000 steps."""
    from pipeline.data.arrow_store import write_store
    from pipeline.synthetic import dummy_series

    rng = np.random.default_rng(0)
    full_series = dummy_series(500, 50, 2000, ("trend", "seasonal", "noise"), seed=0)
    write_store(path, (replace(series, target=series.target[: rng.integers(200, 2001)]) for series in full_series))


def tokens(path: Path) -> Iterator[Any]:
    """Yield training batches for a T5 model from this pipeline."""
    from pipeline.models.create import scratch_model

    yield from _batches(path, "t5", scratch_model("t5-nano", 0).config.chronos_config)


def bolt(path: Path) -> Iterator[Any]:
    """Yield training batches for a Bolt model from this pipeline."""
    from pipeline.models.create import scratch_model

    yield from _batches(path, "bolt", scratch_model("bolt-nano", 0).config.chronos_config)


def _batches(path: Path, family: Any, chronos_config: dict[str, Any]) -> Iterator[Any]:
    from pipeline.data.arrow_store import open_store
    from pipeline.windows.inputs import WindowDataset, input_function
    from pipeline.windows.samplers import SeriesSampler
    from pipeline.windows.splits import split_store
    from pipeline.windows.training_windows import TrainingWindows

    split = split_store(open_store(path), 0.0, HORIZON, 4)
    windows = TrainingWindows(
        [SeriesSampler(split)], [1.0], context_length=CONTEXT, prediction_length=HORIZON, drop_prob=0.0, seed=0
    )
    dataset = WindowDataset(windows, 1 << 40, input_function(family, chronos_config, HORIZON))
    for first in itertools.count(0, BATCH):
        yield dataset.__getitems__(range(first, first + BATCH))


def gluonts_tokens(path: Path) -> Iterator[Any]:
    """Yield training batches for a T5 model from GluonTS, one sample at a time."""
    import torch
    from chronos import ChronosConfig

    from pipeline.models.create import scratch_model

    tokenizer = ChronosConfig(**scratch_model("t5-nano", 0).config.chronos_config).create_tokenizer()

    def tokenize(sample: dict[str, Any]) -> dict[str, torch.Tensor]:
        past, future = (torch.tensor(sample[key])[None] for key in ("past_target", "future_target"))
        input_ids, attention_mask, scale = tokenizer.context_input_transform(past)
        labels, known = tokenizer.label_input_transform(future, scale)
        labels[~known] = -100
        return {"input_ids": input_ids[0], "attention_mask": attention_mask[0], "labels": labels[0]}

    yield from _stack(map(tokenize, _samples(path)))


def gluonts_bolt(path: Path) -> Iterator[Any]:
    """Yield training batches for a Bolt model from GluonTS, one sample at a time."""
    import torch

    yield from _stack(
        {"context": torch.tensor(sample["past_target"]), "target": torch.tensor(sample["future_target"])}
        for sample in _samples(path)
    )


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    from gluonts.dataset.common import FileDataset
    from gluonts.itertools import Cyclic, Map
    from gluonts.transform import ExpectedNumInstanceSampler, FilterTransformation, InstanceSplitter

    splitter = InstanceSplitter(
        target_field="target",
        is_pad_field="is_pad",
        start_field="start",
        forecast_start_field="forecast_start",
        instance_sampler=ExpectedNumInstanceSampler(num_instances=1, min_instances=1, min_past=4, min_future=HORIZON),
        past_length=CONTEXT,
        future_length=HORIZON,
        dummy_value=np.nan,
    )
    is_observed = FilterTransformation(condition=lambda entry: bool((~np.isnan(entry["past_target"])).sum() > 0))
    entries = Map(_convert_target, FileDataset(path, freq="h"))
    datasets = [iter((splitter + is_observed).apply(Cyclic(entries), is_train=True))]
    while True:
        yield next(datasets[np.random.choice(range(len(datasets)), p=[1.0])])


def _convert_target(entry: dict[str, Any]) -> dict[str, Any]:
    return {"start": entry["start"], "target": np.asarray(entry["target"], dtype=np.float32)}


def _stack(samples: Iterator[dict[str, Any]]) -> Iterator[Any]:
    from torch.utils.data import default_collate

    while True:
        yield default_collate(list(itertools.islice(samples, BATCH)))


def windows_per_second(batches: Iterator[Any], seconds: float) -> float:
    """Draw batches for some seconds, after one warm-up batch; return the windows per second."""
    next(batches)
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        n += BATCH
    return n / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
