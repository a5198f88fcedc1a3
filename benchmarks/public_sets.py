"""Build public data sets that models are scored on, none of which is among the ten of `data/index.json`.

    pip install 'chronos-native[benchmarks]'
    python benchmarks/public_sets.py data/public
    python benchmarks/public_sets.py data/public --role choose
    chronos-native evaluate --evaluation.data_path data/public/index.json --evaluation.models '[builtin:bolt-synth]'

`public_sets.yaml` lists the sets and their files, which come from GitHub at fixed commits and are checked by their
SHA-256. Each set becomes a Parquet file with the columns item_id, timestamp and target. `index.json` lists the sets as
`evaluation.data_path` takes them. Rules are chosen by the sets with the role `choose`. The sets with the role `confirm`
are scored once, at the end.
"""

import argparse
import gzip
import hashlib
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pandas as pd
import yaml

from pipeline.core.errors import UserError
from pipeline.core.tables import markdown_table
from pipeline.data.frequency import seasonality

TABLE = Path(__file__).with_name("public_sets.yaml")
ROLES = ("choose", "confirm", "more")
STRATA = {"hourly": 2, "daily": 2, "weekly": 1, "monthly": 1, "quarterly": 1, "yearly": 1}
"""Number of pairs of sets, one to choose by and one to confirm by, of each frequency."""
MAX_STEPS, MAX_YEARS = 5_000, 500
"""Number of newest steps of a series that are kept. Timestamps in nanoseconds span 585 years."""
_STRATUM_OF_OFFSET = {"D": "daily", "B": "daily", "W": "weekly", "MS": "monthly", "QS": "quarterly", "YS": "yearly"}

Files = dict[str, bytes]
NamedSeries = tuple[str, pd.Series]
"""Item ID and values, with a DatetimeIndex that may have gaps."""


@dataclass(frozen=True)
class PublicSet:
    """A row of the table."""

    name: str
    repository: str
    files: tuple[str, ...]
    """Starts of the paths of its files in the repository."""
    reader: str
    freq: str
    horizon: int
    seasonality: int
    """Steps of the season; the default follows from the frequency."""
    series: int
    """Number of series after short and constant ones are dropped."""
    scored: bool = False
    """An experiment in docs/experiments/ has scored the set already."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the reader."""

    @property
    def stratum(self) -> str:
        """Frequency of the set, with hours and minutes in one stratum."""
        return stratum(self.freq)


@dataclass(frozen=True)
class Repository:
    """A repository on GitHub at a commit."""

    commit: str
    licence: str
    files: dict[str, str]
    """SHA-256 of each file by its path."""


@dataclass(frozen=True)
class RSeries:
    """A series of R, [n_steps], or several, [n_steps, n_series]."""

    values: np.ndarray
    start: float
    """Time of the first step, in years."""
    frequency: float
    """Number of steps per year."""


def main(argv: list[str] | None = None) -> None:
    """Build the sets, or print the list of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, help="folder of the Parquet files and index.json")
    parser.add_argument("--role", choices=ROLES, help="build the sets with this role only; all by default")
    parser.add_argument("--mirror", type=Path, help="folder of Git clones named OWNER+NAME, read in place of GitHub")
    parser.add_argument("--list", action="store_true", help="print the sets as a Markdown table and build nothing")
    arguments = parser.parse_args(argv)
    sets, repositories = read_table(TABLE)
    if arguments.list:
        print(_describe(sets, repositories))
        return
    if arguments.output is None:
        parser.error("name the output folder")
    arguments.output.mkdir(parents=True, exist_ok=True)
    roles = assign_roles(sets)
    index = []
    for public in sets:
        if arguments.role in (None, roles[public.name]):
            rows, entry = _build(public, repositories[public.repository], arguments.mirror)
            rows.to_parquet(arguments.output / entry["path"], index=False)
            index.append({**entry, "role": roles[public.name]})
            print(json.dumps(index[-1]), file=sys.stderr, flush=True)
    (arguments.output / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def read_table(path: Path) -> tuple[list[PublicSet], dict[str, Repository]]:
    """Return the sets, and the repositories by their names."""
    table = yaml.safe_load(path.read_text())
    repositories = {name: Repository(**values) for name, values in table["repositories"].items()}
    rows = [{"seasonality": seasonality(row["freq"]), **row, "files": tuple(row["files"])} for row in table["sets"]]
    return [PublicSet(**row) for row in rows], repositories


def assign_roles(sets: list[PublicSet]) -> dict[str, str]:
    """Return the role of each set by its name, from frequencies, numbers of series, and which sets were scored before.

    In each stratum, the sets that no experiment has scored are sorted by their number of series, then by name, and cut
    into as many equal groups as the stratum has pairs. The two sets in the middle of a group are a pair. The smaller
    one is to choose by in every second pair, and the larger one in the others.
    """
    roles = {public.name: "more" for public in sets}
    n_pairs = 0
    for stratum, quota in STRATA.items():
        fresh = [public for public in sets if public.stratum == stratum and not public.scored]
        names = [public.name for public in sorted(fresh, key=lambda public: (public.series, public.name))]
        for group in np.array_split(np.array(names, dtype=object), quota):
            middle = (len(group) - 1) // 2
            pair = list(group[middle : middle + 2])
            roles.update(zip(pair[:: -1 if n_pairs % 2 else 1], ROLES))
            n_pairs += 1
    return roles


def build_series(public: PublicSet, files: Files) -> tuple[dict[str, pd.Series], int]:
    """Return the series of a set by item ID, each on a grid without gaps, and the number of dropped ones.

    A series ends with a value, and has NaN where one is missing. Constant series are dropped. Series are dropped too if
    they are shorter than two horizons, or too short for the scale of MASE: a season before the horizon and a step more.
    """
    shortest = max(2 * public.horizon, public.horizon + public.seasonality + 1)
    series, dropped = {}, 0
    for name, values in READERS[public.reader](files, public.freq, **public.options):
        gridded = _to_grid(values, public.freq)
        if len(gridded) < shortest or gridded.nunique() < 2:
            dropped += 1
        elif name in series:
            raise UserError(f"{public.name}: two series have the ID {name}; add a column to `ids` in the table")
        else:
            series[name] = gridded
    return series, dropped


def _build(public: PublicSet, repository: Repository, mirror: Path | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows of a set, and its entry of the index without its role."""
    paths = [path for path in repository.files if path.startswith(public.files)]
    files = {path: _fetch(public.repository, repository, path, mirror) for path in paths}
    series, dropped = build_series(public, files)
    if len(series) != public.series:
        raise UserError(f"{public.name} has {len(series)} series, but the table has {public.series}; correct `series`")
    lengths = [len(values) for values in series.values()]
    joined = pd.concat(series.values())
    columns = {"item_id": np.repeat(list(series), lengths), "timestamp": joined.index, "target": joined.to_numpy()}
    return pd.DataFrame(columns), {
        "name": public.name,
        "path": f"{public.name}.parquet",
        "freq": public.freq,
        "prediction_length": public.horizon,
        "seasonality": public.seasonality,
        "scored_before": public.scored,
        "n_series": len(series),
        "n_dropped": dropped,
        "min_length": min(lengths),
        "max_length": max(lengths),
        "missing_values": int(joined.isna().sum()),
        "source": f"github.com/{public.repository}@{repository.commit[:12]}: {', '.join(public.files)}",
        "licence": repository.licence,
    }


def stratum(freq: str) -> str:
    """Return the name of a frequency in `STRATA`; hours and minutes are hourly."""
    return _STRATUM_OF_OFFSET.get(freq.split("-")[0], "hourly")


def _fetch(name: str, repository: Repository, path: str, mirror: Path | None) -> bytes:
    """Return a file of a repository at its commit, from GitHub or from a clone.

    Raises:
        UserError: the file cannot be read, or is not the one of the table.
    """
    address = f"https://raw.githubusercontent.com/{name}/{repository.commit}/{quote(path)}"
    try:
        if mirror is None:
            with urlopen(address, timeout=60) as response:
                content = response.read()
        else:
            heads = sorted((mirror / name.replace("/", "+")).rglob("HEAD"), key=lambda head: len(head.parts))
            git = ["git", f"--git-dir={heads[0].parent if heads else mirror}", "show", f"{repository.commit}:{path}"]
            content = subprocess.run(git, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"cannot read {address if mirror is None else f'{path} of {name} in {mirror}'}: {error}"
        ) from error
    if hashlib.sha256(content).hexdigest() != repository.files[path]:
        raise UserError(f"{path} of {name} has another SHA-256 than in the table; correct the commit or the hash")
    return content


def _to_grid(values: pd.Series, freq: str) -> pd.Series:
    """Return the newest steps of a series on the grid of its frequency, without missing values at its end."""
    values = values[values.notna()].sort_index()
    if stratum(freq) == "hourly":
        values = values.groupby(values.index.floor(freq)).mean()
    gridded = values.asfreq(freq)
    if gridded.count() != len(values):
        raise UserError(f"{len(values) - gridded.count()} timestamps are not on the grid {freq}; correct `freq`")
    return gridded[-(MAX_YEARS if freq == "YS" else MAX_STEPS) :].astype("float32")


def _read_competition(files: Files, freq: str, period: str) -> Iterator[NamedSeries]:
    """Read the series of a period in a package of competitions, with the test parts joined to the training parts."""
    for entries in _read_r(files):
        for name, entry in entries.items():
            if entry["period"][0] == period:
                train = entry["x"]
                values = np.concatenate([train.values, entry["xx"].values])
                yield str(name), _date(values, freq, train.start)


def _read_r_series(files: Files, freq: str, frequency: float) -> Iterator[NamedSeries]:
    """Read the univariate series with a number of steps per year in a list of R."""
    for entries in _read_r(files):
        for number, series in enumerate(entries.values() if isinstance(entries, dict) else entries, start=1):
            if series.frequency == frequency and series.values.ndim == 1:
                yield str(number), _date(series.values, freq, series.start)


def _read_m4(files: Files, freq: str) -> Iterator[NamedSeries]:
    """Read a training and a test file of the M4 competition, whose rows are series without dates."""
    test, train = (pd.read_csv(io.BytesIO(files[path]), index_col=0) for path in sorted(files))
    for name, values in train.iterrows():
        yield str(name), _date(np.concatenate([values.dropna(), test.loc[name]]), freq)


def _read_matrix(files: Files, freq: str, header: bool = False, in_rows: bool = False) -> Iterator[NamedSeries]:
    """Read a CSV file or a data frame of R without dates, whose columns or rows are the series."""
    for path, content in files.items():
        if path.endswith(".rda"):
            (frame,) = _read_r({path: content})
        else:
            content = gzip.decompress(content) if path.endswith(".gz") else content
            frame = pd.read_csv(io.BytesIO(content), header=0 if header else None)
        for name, values in (frame.T if in_rows else frame).items():
            yield str(name), _date(values.to_numpy(), freq)


def _read_table(
    files: Files,
    freq: str,
    time: str | list[str],
    values: list[str],
    ids: list[str] = [],
    only: str | None = None,
    missing: float | None = None,
) -> Iterator[NamedSeries]:
    """Read CSV files or data frames of R in long or wide form.

    Args:
        files: content by path; with several files, their names begin the item IDs.
        freq: frequency of the set.
        time: column of timestamps, or columns of year, month, day and hour.
        values: columns of values, each of which is a series; empty is every column of numbers.
        ids: columns that tell series apart.
        only: expression of `DataFrame.query` for the rows to keep.
        missing: number that stands for a missing value.
    """
    for path, content in files.items():
        frame = _read_r({path: content})[0] if path.endswith(".rda") else pd.read_csv(io.BytesIO(content))
        frame = frame.query(only) if only else frame
        frame = frame.assign(_time=_parse_time(frame[time], freq)).dropna(subset="_time")
        columns = values or [name for name in frame.select_dtypes("number").columns if name not in (*ids, time)]
        prefix = [Path(path).stem] if len(files) > 1 else []
        for key, rows in frame.groupby(ids, observed=True, sort=False) if ids else [((), frame)]:
            for column in columns:
                suffix = [column] if len(columns) > 1 or not ids and not prefix else []
                target = pd.to_numeric(rows[column]).astype("float64").set_axis(pd.DatetimeIndex(rows["_time"]))
                yield "/".join(map(str, [*prefix, *key, *suffix])), target[target != missing]


READERS: dict[str, Callable[..., Iterator[NamedSeries]]] = {
    "competition": _read_competition,
    "r_series": _read_r_series,
    "m4": _read_m4,
    "matrix": _read_matrix,
    "table": _read_table,
}


def _parse_time(times: pd.Series | pd.DataFrame, freq: str) -> pd.Series:
    """Return timestamps of texts, of years, of seconds or days after 1970, or of columns of calendar fields."""
    if isinstance(times, pd.DataFrame):
        return pd.to_datetime(times.set_axis(["year", "month", "day", "hour"][: times.shape[1]], axis=1))
    if not pd.api.types.is_numeric_dtype(times):
        return pd.to_datetime(times, utc=True, format="mixed").dt.tz_localize(None)
    if freq == "YS":
        return pd.to_datetime(times.astype(int).astype(str), format="%Y")
    return pd.to_datetime(times, unit="s" if stratum(freq) == "hourly" else "D")


def _date(values: np.ndarray, freq: str, start: float = 2000) -> pd.Series:
    """Return values with timestamps from a start in years; one outside of 1700 to 2200 is replaced by 1990 or 1700."""
    if freq == "YS" and len(values) > MAX_YEARS:
        values, start = values[-MAX_YEARS:], start + len(values) - MAX_YEARS
    steps_per_year = {"YS": 1, "QS": 4, "MS": 12}.get(freq, 8766)
    n_years = len(values) / steps_per_year
    if start < 1700 or start + n_years > 2200:
        start = 1990 if n_years < 200 else 1700
    year = int(start + 1e-6)
    if steps_per_year == 8766:
        first = pd.Timestamp(year, 1, 1) + pd.Timedelta(hours=round((start - year) * steps_per_year))
    else:
        first = pd.Timestamp(year, 1 + round((start - year) * steps_per_year) * 12 // steps_per_year, 1)
    return pd.Series(values, index=pd.date_range(first, periods=len(values), freq=freq))


def _read_r(files: Files) -> list[Any]:
    """Return the first object of each .rda file, with series of R as RSeries.

    Raises:
        UserError: the package rdata is not installed.
    """
    try:
        import rdata
    except ImportError as error:
        raise UserError(
            "files of R are read by the package rdata; type: pip install 'chronos-native[benchmarks]'"
        ) from error

    def to_series(values: Any, attributes: Mapping[str, Any]) -> RSeries:
        start, _, frequency = attributes["tsp"]
        return RSeries(np.asarray(values, dtype="float64"), start, frequency)

    constructors = {**rdata.conversion.DEFAULT_CLASS_MAP, "ts": to_series}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that rdata does not know are returned as the lists that they are
        contents = [rdata.read_rda(io.BytesIO(content), constructor_dict=constructors) for content in files.values()]
    return [next(iter(objects.values())) for objects in contents]


def _describe(sets: list[PublicSet], repositories: dict[str, Repository]) -> str:
    """Return the list of the sets as a Markdown table."""
    roles = assign_roles(sets)
    rows = [
        {
            "set": public.name,
            "series": public.series,
            "horizon": public.horizon,
            "freq": public.freq,
            "role": roles[public.name] + (" (scored before)" if public.scored else ""),
            "source": f"{public.repository} at {repositories[public.repository].commit[:7]}",
            "licence": repositories[public.repository].licence,
        }
        for public in sorted(sets, key=lambda public: (list(STRATA).index(public.stratum), public.name))
    ]
    return markdown_table(rows, tuple(rows[0]))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
