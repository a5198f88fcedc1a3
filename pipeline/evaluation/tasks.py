"""The tasks of a configuration: the data sets of evaluation.data_path, or of a JSON index."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pipeline.config import Config, EvaluationSet, Source, SqlSource, source_name, source_paths
from pipeline.core.errors import UserError
from pipeline.core.files import read_json
from pipeline.data.column_formats import ColumnFormats
from pipeline.data.source import open_configured
from pipeline.evaluation.backtest import Task, make_task
from pipeline.models.checkpoint import read_formats

_INDEX_KEYS = {"name": str, "freq": str, "prediction_length": int, "seasonality": int}
"""Keys of an entry of an index that configure its task, with their types."""


def open_tasks(config: Config) -> list[Task]:
    """Open the data sets of evaluation.data_path, with the column formats of the first trained model to score.

    Raises:
        UserError: a data set is missing or invalid, or two have the same name.
    """
    default_length = config.evaluation.prediction_length or config.forecast_horizon()
    remembered = (read_formats(model) for model in config.scored_models())
    formats = next((found for found in remembered if found != ColumnFormats()), ColumnFormats())
    tasks = [
        make_task(
            dataset.name or _default_name(dataset.path),
            open_configured(config, dataset.path, dataset.freq, formats),
            dataset.prediction_length or default_length,
            dataset.seasonality,
            config.evaluation.windows,
            config.inference.cross_learning,
        )
        for dataset in _configured_datasets(config)
    ]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"evaluation.data_path: two data sets have the name {name}; set `name` for one of them")
    return tasks


def input_paths(config: Config) -> list[str]:
    """Return the path or address of each data set, and of the JSON index that lists them."""
    return [*source_paths(config.evaluation.data_path), *source_paths(list(_configured_datasets(config)))]


def source_names(config: Config) -> dict[str, str]:
    """Return the file or address of each data set by its name, without secrets."""
    return {
        dataset.name or _default_name(dataset.path): source_name(dataset.path)
        for dataset in _configured_datasets(config)
    }


def _default_name(source: Source) -> str:
    return "query" if isinstance(source, SqlSource) else Path(source_name(source)).stem


def _configured_datasets(config: Config) -> list[EvaluationSet]:
    datasets = config.evaluation.data_path or config.inference.data_path or str(config.dummy_path())
    if isinstance(datasets, SqlSource):
        return [EvaluationSet(datasets)]
    if isinstance(datasets, str):
        return _read_index(Path(datasets)) or [EvaluationSet(datasets)]
    return [dataset if isinstance(dataset, EvaluationSet) else EvaluationSet(dataset) for dataset in datasets]


def _read_index(path: Path) -> list[EvaluationSet]:
    """Return the data sets of a JSON index; none for any other source, such as a JSON array of rows.

    Raises:
        UserError: the index is empty, or one of its entries is wrong.
    """
    if path.suffix != ".json" or not path.is_file():
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        if not file.read(1 << 10).lstrip().startswith("["):
            return []
    entries = read_json(path)
    if not entries:
        raise UserError(f"{path} lists no data set; add an entry with a file")
    if all(isinstance(entry, dict) and not {"file", "path"} & entry.keys() for entry in entries):
        return []
    return [_parse_entry(path, entry) for entry in entries]


def _parse_entry(index: Path, entry: Any) -> EvaluationSet:
    """Return one entry of a JSON index, whose paths are relative to the index. Other keys (a licence) are ignored.

    Raises:
        UserError: the entry has no file, or a value of the wrong type.
    """
    file = entry.get("file", entry.get("path")) if isinstance(entry, dict) else None
    if not isinstance(file, str):
        raise UserError(
            f"{index}: {entry!r} has no file; write an object with `file` and, if needed, `name`, `freq`, "
            "`prediction_length`, `seasonality`"
        )
    for key in entry.keys() - {"file", "path", *_INDEX_KEYS}:
        if close := get_close_matches(key, _INDEX_KEYS, n=1, cutoff=0.8):
            raise UserError(f"{index}: the entry of {file} has the key {key!r}; did you mean {close[0]!r}?")
    for key, value_type in _INDEX_KEYS.items():
        value = entry.get(key)
        if not isinstance(value, (value_type, type(None))) or isinstance(value, bool):
            expected = "a text" if value_type is str else "a whole number"
            raise UserError(f"{index}: {key} of {file} must be {expected}, got {value!r}")
    return EvaluationSet(path=str(index.parent / file), **{key: entry[key] for key in _INDEX_KEYS if key in entry})
