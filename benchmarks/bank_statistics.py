"""Compare statistics of the synthetic bank with those of real series, as a Markdown table.

    python benchmarks/bank_statistics.py FILE_OR_INDEX...

The columns are quartiles over series, except for the last one, which is a mean:

- autocorrelation at the season: the greatest autocorrelation of the detrended series at a season of 4, 7, 12, 24, 48 or
  168 steps that fits into the series three times;
- strength of trend: 1 - Var(x - T) / Var(x), with T the centered moving average over a tenth of the series, but at
  least 5 steps;
- spectral entropy: 0 for a line spectrum, 1 for white noise (Goerg, 2013);
- share of zeros.

At most 300 series of a data set are read, and at most the last 1,024 steps of each.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from pipeline.core.tables import markdown_table
from pipeline.data.source import open_source
from pipeline.synthetic.bank import Bank, default_bank
from pipeline.synthetic.priors import PRIORS

SEASONS = (4, 7, 12, 24, 48, 168)
MAX_SERIES, MAX_STEPS = 300, 1024
"""Limits that keep a run short."""
COLUMNS = ("series", "autocorrelation at the season", "strength of trend", "spectral entropy", "share of zeros")


def main() -> None:
    """Print the table of the data sets, the bank, and each prior."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    rows = []
    for source in parser.parse_args().sources:
        for path in _list_files(Path(source)):
            store = open_source(path)
            chosen = np.linspace(0, len(store) - 1, min(len(store), MAX_SERIES)).astype(int)
            rows.append(_make_row(path.stem, [store.target(i)[-MAX_STEPS:] for i in chosen]))
    rows.append(_make_row("the bank, 512 steps", _draw(default_bank(), 512)))
    rows.append(_make_row("the bank, 96 steps", _draw(default_bank(), 96)))
    rows += [_make_row(name, _draw(default_bank().single_prior(name), 512)) for name in PRIORS]
    print(markdown_table(rows, COLUMNS))


def _list_files(source: Path) -> list[Path]:
    if source.suffix != ".json":
        return [source]
    return [source.parent / entry.get("file", entry.get("path")) for entry in json.loads(source.read_text())]


def _draw(bank: Bank, length: int) -> list[np.ndarray]:
    return list(bank.series(MAX_SERIES, length, seed=0))


def _make_row(name: str, series: list[np.ndarray]) -> dict[str, str]:
    statistics = [_statistics(_fill_gaps(x.astype(np.float64))) for x in series if np.nanmin(x) < np.nanmax(x)]
    season, trend, entropy, zeros = np.array(statistics).T
    return dict(
        zip(
            COLUMNS,
            (
                name,
                _format_quartiles(season),
                _format_quartiles(trend),
                _format_quartiles(entropy),
                f"{zeros.mean():.2f}",
            ),
        )
    )


def _format_quartiles(values: np.ndarray) -> str:
    values = values[~np.isnan(values)]
    return " / ".join(f"{value:.2f}" for value in np.quantile(values, [0.25, 0.5, 0.75])) if len(values) else ""


def _fill_gaps(values: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(~np.isnan(values))
    return np.interp(np.arange(len(values)), known, values[known])


def _statistics(x: np.ndarray) -> tuple[float, float, float, float]:
    """Return the four statistics of the table for one series [length]."""
    width = max(5, len(x) // 10) | 1
    padded = np.pad(x, width // 2, mode="reflect")
    trend = np.convolve(padded, np.ones(width) / width, mode="valid")
    residual = x - trend
    seasons = [_autocorrelation(residual, lag) for lag in SEASONS if 3 * lag <= len(x)]
    power = np.abs(np.fft.rfft((x - x.mean()) / x.std()))[1:] ** 2
    share = power / power.sum()
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum() / np.log(len(share))
    return max(seasons, default=np.nan), 1 - residual.var() / x.var(), entropy, float((x == 0).mean())


def _autocorrelation(x: np.ndarray, lag: int) -> float:
    return float((x[lag:] * x[:-lag]).sum() / max((x**2).sum(), 1e-300))


if __name__ == "__main__":
    main()
