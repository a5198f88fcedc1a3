"""Forecast files: written in parts by any number of processes, so that an interrupted forecast continues."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.config import FORECAST_SUFFIXES
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, read_json, write_json
from pipeline.core.tables import write_cell
from pipeline.data.arrow_store import Store
from pipeline.forecasting.request import Request
from pipeline.forecasting.tables import forecast_part, split_parts

if TYPE_CHECKING:
    from pipeline.forecasting.forecaster import Forecaster

_EXCEL_ROWS = 1 << 20
"""Rows of a sheet, the header included."""
_EXCEL_TEXT = (1 << 15) - 1
"""Characters of a cell."""
_SETTINGS_FILE = "settings.json"


class Parts:
    """Forecasts of a store on their way to one file: a folder beside it, with a file for each part.

    Parts of an earlier run with the same model, data and settings are kept. Other parts are removed.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        check_suffix(path)
        self.path = path
        self.folder = path.parent / f".{path.name}.parts"
        self.identity = identity

    def claim(self) -> None:
        """Prepare the folder. The first process calls this before the others start.

        Raises:
            UserError: the folder cannot be written.
        """
        settings = self.folder / _SETTINGS_FILE
        if self.folder.is_dir() and not (settings.is_file() and read_json(settings) == self.identity):
            shutil.rmtree(self.folder)
        if not settings.is_file():
            write_json(settings, self.identity)

    def fill(
        self,
        forecaster: Forecaster,
        store: Store,
        request: Request,
        rank: int = 0,
        n_ranks: int = 1,
        make: Callable[[Forecaster, Store, Any, Any], pa.Table] = forecast_part,
    ) -> Iterator[int]:
        """Make the missing parts among those of this process, and yield the number of items of each of its parts.

        Args:
            make: returns the table of the items of a part.

        Raises:
            UserError: a part cannot be written, or the model forecasts NaN.
        """
        for number, items in enumerate(split_parts(store, request)):
            if number % n_ranks != rank:
                continue
            file = self._file(number)
            if not file.is_file():
                table = make(forecaster, store, items, request)
                with atomic_write(file) as temporary, pa.ipc.new_stream(str(temporary), table.schema) as writer:
                    writer.write_table(table)
            yield len(items)

    def merge(self, n_parts: int) -> int:
        """Write all parts to the file, remove them, and return the number of rows.

        Raises:
            UserError: the file cannot be written.
        """
        n_rows = write_predictions(self.path, map(self.read, range(n_parts)))
        shutil.rmtree(self.folder)
        return n_rows

    def remove_if_empty(self) -> None:
        """Remove the folder if it has no forecasts that a later run can continue with."""
        if not any(self.folder.glob("*.arrow")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.arrow"

    def read(self, number: int) -> pa.Table:
        """Return the table of a part."""
        with pa.OSFile(str(self._file(number))) as file, pa.ipc.open_stream(file) as reader:
            return reader.read_all()


def identity_of(forecaster: Forecaster, store: Store, request: Request, precision: str) -> dict[str, Any]:
    """Return everything that the forecasts depend on. Files count by size and modification time, which is fast."""
    model = str(forecaster.model)
    files = sorted(file for file in Path(model).glob("*") if file.is_file()) if Path(model).is_dir() else []
    is_alone = request.groups(store) is None and forecaster.trained_levels is not None  # samples depend on the batch
    batch_size = 0 if is_alone else request.batch_size
    settings = dataclasses.asdict(dataclasses.replace(request, future=None, batch_size=batch_size))
    return {
        "model": [str(Path(model).resolve()) if files else model, *map(_stamp, files)],
        "data": _stamp(store.path) if store.path else len(store),
        "future": None if request.future is None else request.future.fingerprint(),
        "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()},
        "seed": forecaster.seed,
        "precision": precision,
        "flip": forecaster.flip,
        "non_negative": forecaster.non_negative,
    }


def _stamp(file: Path) -> str:
    return f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}"


def write_predictions(path: str | Path, tables: Iterable[pa.Table]) -> int:
    """Write tables to one .parquet, .csv, .jsonl or .xlsx file as they come, and return the number of rows.

    Raises:
        UserError: the path has another suffix, or the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    n_rows = 0
    with atomic_write(path) as temporary, contextlib.ExitStack() as stack:
        writer: Any = None
        for table in tables:
            writer = writer or stack.enter_context(_open_writer(path.suffix, temporary, table.schema))
            writer.write_table(table)
            n_rows += len(table)
    return n_rows


def check_suffix(path: Path) -> None:
    """Refuse a path to which forecasts cannot be written.

    Raises:
        UserError: the path has an unknown suffix.
    """
    if path.suffix not in FORECAST_SUFFIXES:
        raise UserError(
            f"inference.output_path: {path}: unknown suffix for a forecast file; use {', '.join(FORECAST_SUFFIXES)}, "
            "or create the folder if it is one"
        )


def check_predictions_size(path: Path, store: Store, request: Request) -> None:
    """Refuse, before forecasts are computed, those that do not fit into a workbook.

    Raises:
        UserError: there are too many rows, or an item ID is too long for a cell.
    """
    if path.suffix != ".xlsx":
        return
    n_rows = 1 + len(store) * len(store.variates.targets) * request.steps_per_target
    if n_rows > _EXCEL_ROWS:
        raise UserError(
            f"inference.output_path: {path}: {n_rows:,} rows, and a sheet of Excel has at most {_EXCEL_ROWS:,}; write "
            ".parquet or .csv"
        )
    if any(len(item_id) > _EXCEL_TEXT for item_id in store.item_ids):
        raise UserError(
            f"inference.output_path: {path}: a cell of Excel has at most {_EXCEL_TEXT:,} characters, and an item ID "
            "has more; write .parquet or .csv"
        )


def _open_writer(suffix: str, path: Path, schema: pa.Schema) -> Any:
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema)
    if suffix == ".csv":
        import pyarrow.csv as csv

        return csv.CSVWriter(path, schema)
    return _JsonLinesWriter(path) if suffix == ".jsonl" else _ExcelWriter(path)


class _JsonLinesWriter(contextlib.AbstractContextManager):
    def __init__(self, path: Path) -> None:
        self._file = open(path, "w", encoding="utf-8")

    def write_table(self, table: pa.Table) -> None:
        frame = table.to_pandas()
        frame.to_json(self._file, orient="records", lines=True, date_format="iso", date_unit="s", double_precision=15)

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _ExcelWriter(contextlib.AbstractContextManager):
    """Writes a workbook row by row, in constant memory. Item IDs stay texts."""

    def __init__(self, path: Path) -> None:
        import xlsxwriter

        # A missing forecast is an empty cell.
        options = {"constant_memory": True, "default_date_format": "yyyy-mm-dd hh:mm:ss"}
        self._book = xlsxwriter.Workbook(str(path), options)
        self._sheet = self._book.add_worksheet("forecasts")
        self._n_rows = 0

    def write_table(self, table: pa.Table) -> None:
        if not self._n_rows:
            self._write_row(table.column_names)
        if self._n_rows + len(table) > _EXCEL_ROWS:
            raise UserError(f"a sheet of Excel has at most {_EXCEL_ROWS:,} rows; write .parquet or .csv")
        for row in zip(*(column.to_pylist() for column in table.columns)):
            self._write_row(row)

    def _write_row(self, row: Iterable[Any]) -> None:
        for column, value in enumerate(row):
            write_cell(self._sheet, self._n_rows, column, value)
        self._n_rows += 1

    def __exit__(self, *_: object) -> None:
        self._book.close()
