"""Measure how much a known covariate lowers the error of models that were not trained on such a response.

    python benchmarks/covariates.py MODEL... --series 200
    python benchmarks/covariates.py builtin:chronos2-synth --series 200 --tune 300

A model is a Chronos-2 that `Forecaster.load` takes. The target is the sum of autoregressive noise and the response to a
covariate, each with half of the variance. The synthetic panels have no response of exactly these forms:

- weather: the square of the distance of a temperature from a comfortable one (panels have its absolute value)
- price: a power of a price that changes at random steps
- advertising: the effect of events, which fades away exponentially
- nothing: a covariate that does not act

Prints WQL with the covariate and without it. If nothing else could be forecast, the best ratio would be 0.71, the root
of one half; for `nothing` it is 1.

With --tune, each model is also fine-tuned for so many steps of 32 windows on the time steps before the horizon: by this
pipeline with its automatic settings and at 6e-5, and by `Chronos2Pipeline.fit` at 1e-6, its default, 1e-5 and 1e-4.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from chronos import BaseChronosPipeline
from scipy.signal import lfilter

from pipeline import Config, fine_tune
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.series import Panel, Variates
from pipeline.core.tables import markdown_table
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.find import find_model

SEED, BATCH_SIZE = 0, 32
Rng = np.random.Generator
Pair = tuple[np.ndarray, np.ndarray]
"""A covariate and the response to it, [n, length] each."""


def weather(rng: Rng, n: int, length: int) -> Pair:
    """Return temperatures, and a response that is least at a comfortable one."""
    day = np.sin(2 * np.pi * (np.arange(length) / 24 + rng.random((n, 1))))
    temperature = day + lfilter([0.3], [1, -0.95], rng.normal(size=(n, length)), axis=1)
    return temperature, np.square(temperature - rng.uniform(-1, 1, (n, 1)))


def price(rng: Rng, n: int, length: int) -> Pair:
    """Return prices, and sales that fall with their power."""
    change = np.cumsum(rng.random((n, length)) < 1 / 12, axis=1, dtype=np.int64)
    levels = np.exp(0.2 * rng.normal(size=(n, length)))
    prices = np.take_along_axis(levels, change, axis=1)
    return prices, prices ** -rng.uniform(1, 3, (n, 1))


def advertising(rng: Rng, n: int, length: int) -> Pair:
    """Return events of unequal sizes, and an effect that halves in two to twelve steps."""
    events = (rng.random((n, length)) < 1 / 30) * rng.lognormal(0, 0.5, (n, length))
    memory = 0.5 ** (1 / rng.uniform(2, 12, n))
    return events, np.stack([lfilter([1], [1, -kept], row) for kept, row in zip(memory, events)])


def nothing(rng: Rng, n: int, length: int) -> Pair:
    """Return temperatures, and the response to independent temperatures."""
    return weather(rng, n, length)[0], weather(rng, n, length)[1]


PROCESSES: tuple[Callable[[Rng, int, int], Pair], ...] = (weather, price, advertising, nothing)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--series", type=int, default=100, help="series of each process")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--tune", type=int, metavar="STEPS", help="fine-tune for so many steps too")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        for process in PROCESSES:
            panels, actual = draw(process, arguments.series, arguments.context, arguments.horizon)
            forecasters = [(model, Forecaster.load(model))]
            tuned = tune(model, panels, arguments.horizon, arguments.tune) if arguments.tune else iter(())
            for name, forecaster in (*forecasters, *tuned):
                with_covariate = wql(forecaster, panels, actual)
                alone = wql(forecaster, [panel.past[0] for panel in panels], actual)
                rows.append(
                    {
                        "model": name,
                        "covariate": process.__name__,
                        "with": f"{with_covariate:.4f}",
                        "without": f"{alone:.4f}",
                        "ratio": f"{with_covariate / alone:.3f}",
                    }
                )
    print(markdown_table(rows, tuple(rows[0])))


def tune(model: str, panels: list[Panel], horizon: int, steps: int) -> Iterator[tuple[str, Forecaster]]:
    """Yield the name and the model of each training on the past of panels."""
    past = [{"target": panel.past[0], "covariate": panel.past[1]} for panel in panels]
    frame = pd.concat([pd.DataFrame({"item_id": str(number), **columns}) for number, columns in enumerate(past)])
    frame["timestamp"] = np.tile(pd.date_range("2020-01-01", periods=len(panels[0].past[0]), freq="h"), len(panels))
    for rate in ("auto", 6e-5):
        config = Config()
        training = replace(config.training, learning_rate=rate, max_steps=steps, batch_size=BATCH_SIZE)
        with tempfile.TemporaryDirectory() as folder:
            fine_tune(
                frame,
                horizon=horizon,
                base=model,
                known_covariates=["covariate"],
                test_length=0,
                output_path=f"{folder}/out",
                config=replace(config, training=training),
            )
            yield f"this pipeline, {rate}", Forecaster.load(f"{folder}/out")
    inputs = [
        {
            "target": columns["target"],
            "past_covariates": {"covariate": columns["covariate"]},
            "future_covariates": {"covariate": None},
        }
        for columns in past
    ]
    for rate in (1e-6, 1e-5, 1e-4):
        with tempfile.TemporaryDirectory() as folder:
            pipeline = BaseChronosPipeline.from_pretrained(str(find_model(model)), device_map="cpu")
            settings = {"output_dir": folder, "disable_tqdm": True, "use_cpu": True, "seed": SEED}
            pipeline = pipeline.fit(
                inputs, horizon, num_steps=steps, batch_size=2 * BATCH_SIZE, learning_rate=rate, **settings
            )
        yield f"fit, {rate:g}", Forecaster(pipeline)


def draw(
    process: Callable[[Rng, int, int], Pair], n: int, context: int, horizon: int
) -> tuple[list[Panel], np.ndarray]:
    """Return panels of a target and a known covariate, and the actual values [n, horizon]."""
    rng = np.random.default_rng(SEED)
    covariate, response = process(rng, n, context + horizon)
    own = lfilter([1], [1, -0.7], rng.normal(size=(n, context + horizon)), axis=1)
    target = (10 + standardize(own) + standardize(response)).astype(np.float32)
    covariate = covariate.astype(np.float32)
    variates = Variates(known=("covariate",))
    panels = [
        Panel(
            np.stack([values[:context], known[:context]]),
            np.stack([np.full(horizon, np.nan, np.float32), known[context:]]),
            variates,
        )
        for values, known in zip(target, covariate)
    ]
    return panels, target[:, context:]


def standardize(values: np.ndarray) -> np.ndarray:
    """Scale rows [n, length] to mean 0 and deviation 1."""
    return (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)


def wql(forecaster: Forecaster, histories: list, actual: np.ndarray) -> float:
    """Return the WQL of the forecasts of histories."""
    horizon = actual.shape[1]
    batches = [histories[begin : begin + BATCH_SIZE] for begin in range(0, len(histories), BATCH_SIZE)]
    quantiles = np.concatenate([forecaster.quantiles(batch, horizon, WQL_LEVELS)[0] for batch in batches])
    error, levels = actual[:, :, None] - quantiles, np.array(WQL_LEVELS)
    loss = 2 * np.maximum(levels * error, (levels - 1) * error)
    return float(loss.mean(axis=2).sum() / np.abs(actual).sum())


if __name__ == "__main__":
    main()
