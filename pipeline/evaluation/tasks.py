"""The data sets that evaluation.data_path names, or an index of them lists."""

from pathlib import Path
from typing import Any

from pipeline.config import Config, EvaluationSet
from pipeline.core.errors import UserError
from pipeline.core.files import read_json
from pipeline.data.source import open_configured
from pipeline.evaluation.backtest import Task, make_task


def tasks_of(config: Config) -> list[Task]:
    """Open the data sets that evaluation.data_path names.

    Raises:
        UserError: one is missing, or two have one name.
    """
    default_length = config.evaluation.prediction_length or config.inference.prediction_length
    tasks = [
        make_task(
            dataset.name or Path(dataset.path).stem,
            open_configured(config, dataset.path, dataset.freq),
            dataset.prediction_length or default_length,
            dataset.seasonality,
            config.evaluation.windows,
        )
        for dataset in _datasets(config)
    ]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"evaluation.data_path: two data sets are named {name}; give each a name of its own")
    return tasks


def _datasets(config: Config) -> list[EvaluationSet]:
    listed = config.evaluation.data_path or config.inference.data_path or str(config.dummy_path())
    if isinstance(listed, str):
        return _listed_in(Path(listed)) or [EvaluationSet(listed)]
    return [EvaluationSet(dataset) if isinstance(dataset, str) else dataset for dataset in listed]


def _listed_in(path: Path) -> list[EvaluationSet]:
    """Return the data sets of a JSON index; none for any other source."""
    if path.suffix != ".json" or not path.is_file():
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        if not file.read(1 << 10).lstrip().startswith("["):
            return []
    found = [_of_index(path, entry) for entry in read_json(path)]
    if not found:
        raise UserError(f"{path} lists no data set; name at least one")
    return found


def _of_index(index: Path, entry: Any) -> EvaluationSet:
    """Return one entry of a JSON index, whose files lie beside it; keys that describe rather than configure are left."""
    file = entry.get("file", entry.get("path")) if isinstance(entry, dict) else None
    if not isinstance(file, str):
        raise UserError(
            f"{index}: each entry is an object with a file and, where you like, name, freq, prediction_length"
        )
    keys = {"name": str, "freq": str, "prediction_length": int, "seasonality": int}
    for key, kind in keys.items():
        if not isinstance(entry.get(key), (kind, type(None))) or isinstance(entry.get(key), bool):
            said = "a text" if kind is str else "a whole number"
            raise UserError(f"{index}: {key} of {file} must be {said}, got {entry[key]!r}")
    return EvaluationSet(path=str(index.parent / file), **{key: entry[key] for key in keys if key in entry})
