"""The files of a report: the page, the score table in Markdown, and all tables in CSV."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, check_writable_folder
from pipeline.core.tables import markdown_table, write_csv
from pipeline.evaluation.report.page import Findings, render_page
from pipeline.evaluation.report.rows import SHOWN, TABLES

PAGE = "report.html"
_SCORES = "scores.md"


def check_report_folder(folder: Path) -> None:
    """Refuse, before anything is scored, a folder that cannot be written to or has files that are not of a report.

    Raises:
        UserError: the folder cannot be written to, or has files with the names of a report's tables, but no report.
    """
    check_writable_folder(folder)
    names = [*(f"{name}.csv" for name in TABLES), _SCORES]
    existing = [name for name in names if (folder / name).exists()]
    if existing and not (folder / PAGE).exists():
        raise UserError(
            f"evaluation.report_path: {folder} has {', '.join(existing)}, which no report wrote; choose another folder"
        )


def write_report(findings: Findings, folder: Path) -> None:
    """Write the page and the tables to a folder, and remove tables that an earlier report has and this one lacks.

    Raises:
        UserError: a file cannot be written.
    """
    page = render_page(findings)
    for name in TABLES:
        if findings.tables[name]:
            write_csv(folder / f"{name}.csv", findings.tables[name])
        else:
            (folder / f"{name}.csv").unlink(missing_ok=True)
    paragraphs = [*findings.conclusions, markdown_table(findings.tables["scores"], SHOWN), *findings.warnings]
    texts = {_SCORES: "\n\n".join(paragraph.rstrip("\n") for paragraph in paragraphs) + "\n", PAGE: page}
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
