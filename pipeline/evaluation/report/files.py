"""The files of a report: the page, the score table in Markdown, the tables as CSV and as one workbook."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, check_writable_folder, staged_files
from pipeline.core.locks import locked
from pipeline.core.tables import FORMULA, Row, escape_markdown, markdown_table, write_cell, write_csv
from pipeline.evaluation.report.page import Findings, render_page
from pipeline.evaluation.report.rows import SHOWN, series_tables, window_tables

PAGE, FORECASTS = "report.html", "forecasts.parquet"
_SCORES, _WORKBOOK = "scores.md", "report.xlsx"
_UNFINISHED = "<!doctype html><title>Report</title><p>This report is not finished. Repeat the command.</html>\n"
_CSV = ("scores.csv", "scores_by_series.csv", "scores_by_window.csv")
FILES = (PAGE, FORECASTS, _SCORES, _WORKBOOK, *_CSV)
_MAX_SHEET_ROWS = 200_000
"""Maximum number of rows of a sheet: more take minutes to write and to open, and Excel's limit is 1,048,576."""
logger = logging.getLogger(__name__)


def check_report_folder(folder: Path) -> None:
    """Refuse, before anything is scored, a folder that cannot be written to or has files that are not of a report.

    Raises:
        UserError: the folder cannot be written to, or has files with the names of a report's files, but no report.
    """
    check_writable_folder(folder)
    existing = [name for name in (*_CSV, _SCORES, _WORKBOOK, FORECASTS) if (folder / name).exists()]
    if existing and not (folder / PAGE).exists():
        raise UserError(
            f"evaluation.report_path: {folder} has {', '.join(existing)}, which no report wrote; choose another folder"
        )


@contextmanager
def report_files(folder: Path) -> Iterator[Path]:
    """Yield a folder for the files of a report, and move them to the report's folder at the end of the block.

    The report's folder is locked meanwhile.

    Raises:
        UserError: another process writes to the folder, or it cannot be written.
    """
    lock = locked(folder, "evaluation.report_path", folder / ".lock")
    with lock, staged_files(folder, last=PAGE, unfinished=_UNFINISHED) as staging:
        yield staging


def write_report(findings: Findings, folder: Path) -> None:
    """Write the page, the score table, the CSV files and the workbook to a folder.

    Raises:
        UserError: a file cannot be written.
    """
    scores, evaluations, tasks = findings.tables["scores"], findings.evaluations, findings.tasks
    conclusions, warnings = map(escape_markdown, findings.conclusions), map(escape_markdown, findings.warnings)
    paragraphs = [*conclusions, markdown_table(scores, SHOWN), *warnings]
    texts = {
        _SCORES: "\n\n".join(paragraph.rstrip("\n") for paragraph in paragraphs) + "\n",
        PAGE: render_page(findings),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_csv(folder / _CSV[0], scores)
    for name, tables in zip(_CSV[1:], (series_tables(evaluations, tasks), window_tables(evaluations, tasks))):
        with atomic_write(folder / name) as temporary, open(temporary, "wb") as file:
            for number, table in enumerate(tables):
                csv.write_csv(_without_formulas(table), file, csv.WriteOptions(include_header=number == 0))
    by_series = (row for table in series_tables(evaluations, tasks) for row in _rows(table))
    _write_workbook(
        folder / _WORKBOOK,
        {
            "scores": scores,
            "ranking": findings.tables["ranking"],
            "by series": by_series,
            "by step": findings.tables["scores_by_step"],
            "calibration": findings.tables["calibration"],
            "training": findings.tables["training"],
        },
    )


def _without_formulas(table: pa.Table) -> pa.Table:
    """Return a table with an apostrophe before texts that spreadsheets take for formulas."""
    for position, column in enumerate(table.columns):
        if pa.types.is_string(column.type):
            texts = pc.replace_substring_regex(column, FORMULA, r"'\1")
            table = table.set_column(position, table.column_names[position], texts)
    return table


def _rows(table: pa.Table) -> Iterable[Row]:
    return (row for batch in table.to_batches(max_chunksize=1024) for row in batch.to_pylist())


def _write_workbook(path: Path, sheets: Mapping[str, Iterable[Row]]) -> None:
    """Write rows with the same keys to the sheets of a workbook, in constant memory. Texts stay texts.

    Raises:
        UserError: the file cannot be written.
    """
    import xlsxwriter

    with atomic_write(path) as temporary, xlsxwriter.Workbook(temporary, {"constant_memory": True}) as workbook:
        bold = workbook.add_format({"bold": True})
        for name, rows in sheets.items():
            sheet = workbook.add_worksheet(name)
            sheet.freeze_panes(1, 0)
            sheet.set_column(0, 20, 16)
            rows = iter(rows)
            first = next(rows, None)
            if first is None:
                continue
            sheet.write_row(0, 0, list(first), bold)
            for number, row in enumerate(chain([first], rows), 1):
                if number > _MAX_SHEET_ROWS:
                    logger.warning("%s: the sheet %s has only the first %d rows", path, name, _MAX_SHEET_ROWS)
                    break
                for column, value in enumerate(row.values()):
                    write_cell(sheet, number, column, value)
