"""Simple statistics of the synthetic bank beside those of real series, as a Markdown table.

    python benchmarks/bank_statistics.py FILE_OR_INDEX...

Each row gives the quartiles over series of: the greatest autocorrelation of the detrended series at a season of 4, 7, 12,
24, 48 or 168 steps that fits three times; the strength of the trend, 1 - Var(x - T) / Var(x), T the centred moving average
over a tenth of the series and at least 5 steps; the spectral entropy, 0 for a line and 1 for white noise (Goerg, 2013); and
the mean share of zeros. At most 1,024 steps and 300 series of a set count.
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
COLUMNS = ("series", "autocorrelation at the season", "strength of trend", "spectral entropy", "share of zeros")


def main() -> None:
    """Print the table of real sets, of the bank, and of each prior."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    rows = []
    for source in parser.parse_args().sources:
        for path in _files(Path(source)):
            store = open_source(path)
            chosen = np.linspace(0, len(store) - 1, min(len(store), 300)).astype(int)
            rows.append(_row(path.stem, [store.target(i)[-1024:] for i in chosen]))
    rows.append(_row("**bank**, 512 steps", _drawn(default_bank(), 512)))
    rows.append(_row("**bank**, 96 steps", _drawn(default_bank(), 96)))
    rows += [_row(name, _drawn(default_bank().of_prior(name), 512)) for name in PRIORS]
    print(markdown_table(rows, COLUMNS))


def _files(source: Path) -> list[Path]:
    if source.suffix != ".json":
        return [source]
    return [source.parent / entry["file"] for entry in json.loads(source.read_text())]


def _drawn(bank: Bank, length: int) -> list[np.ndarray]:
    return list(bank.series(300, length, seed=0))


def _row(name: str, series: list[np.ndarray]) -> dict[str, str]:
    statistics = [_statistics(_filled(one.astype(np.float64))) for one in series if np.nanmin(one) < np.nanmax(one)]
    season, trend, entropy, zeros = np.array(statistics).T
    return dict(zip(COLUMNS, (name, _quartiles(season), _quartiles(trend), _quartiles(entropy), f"{zeros.mean():.2f}")))


def _quartiles(values: np.ndarray) -> str:
    values = values[~np.isnan(values)]
    return " / ".join(f"{value:.2f}" for value in np.quantile(values, [0.25, 0.5, 0.75])) if len(values) else ""


def _filled(values: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(~np.isnan(values))
    return np.interp(np.arange(len(values)), known, values[known])


def _statistics(x: np.ndarray) -> tuple[float, float, float, float]:
    width = max(5, len(x) // 10) | 1
    padded = np.pad(x, width // 2, mode="reflect")
    trend = np.convolve(padded, np.ones(width) / width, mode="valid")
    rest = x - trend
    seasons = [_autocorrelation(rest, lag) for lag in SEASONS if 3 * lag <= len(x)]
    power = np.abs(np.fft.rfft((x - x.mean()) / x.std()))[1:] ** 2
    share = power / power.sum()
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum() / np.log(len(share))
    return max(seasons, default=np.nan), 1 - rest.var() / x.var(), entropy, float((x == 0).mean())


def _autocorrelation(x: np.ndarray, lag: int) -> float:
    return float((x[lag:] * x[:-lag]).sum() / max((x**2).sum(), 1e-300))


if __name__ == "__main__":
    main()
