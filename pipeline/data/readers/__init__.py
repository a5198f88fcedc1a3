"""Reading of sources of any format as Arrow tables, with the columns, names and types of the source.

Columns of text files are strings, null for an empty cell. Columns of other files keep their types.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from urllib.parse import unquote

import pyarrow as pa

from pipeline.core.errors import UserError, first_few
from pipeline.core.locks import temporary_path
from pipeline.data.columns import Columns
from pipeline.data.readers.arrow import read_arrow, read_parquet
from pipeline.data.readers.files import (
    DataFile,
    files_left_out,
    gluonts_freq,
    identify,
    report_parse_errors,
    source_files,
    stem,
)
from pipeline.data.readers.hub import datasets_files, hub_commit, read_hub
from pipeline.data.readers.json_lines import read_json
from pipeline.data.readers.monash import read_monash
from pipeline.data.readers.text import read_csv
from pipeline.data.readers.workbook import read_workbook
from pipeline.data.rows import SourceLocation, is_list

__all__ = ["gluonts_freq", "hub_commit", "read_tables", "source_files"]

_READERS = {
    "csv": read_csv,
    "json": read_json,
    "tsf": read_monash,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "workbook": read_workbook,
}
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_TEXT_FORMATS = ("csv", "json", "tsf")


def read_tables(
    source: str, columns: Columns, location: SourceLocation, folder: Path | None = None
) -> Iterator[pa.Table]:
    """Yield the selected columns of a source, in order, with a bounded number of rows each.

    Args:
        location: records which file has which rows, and the share of the source that has been read.
        folder: folder of downloads, which are removed after reading; None is the temporary folder of the system.

    Raises:
        UserError: a file does not parse, is empty or truncated, or lacks a column.
    """
    if "://" in source:
        yield from _read_remote(source, columns, location, folder)
    elif files := datasets_files(Path(source)) or source_files(source):
        n_bytes = sum(file.stat().st_size for file in files)
        _warn_about_files(files_left_out(Path(source), files), location)
        yield from _read_files(files, list(map(str, files)), n_bytes, Path(source), columns, location)
    else:
        yield from read_hub(source, columns, location)


def _read_remote(source: str, columns: Columns, location: SourceLocation, folder: Path | None) -> Iterator[pa.Table]:
    from pipeline.data.readers import remote

    listing = remote.list_files(source)
    _warn_about_files(listing.left_out, location)
    folder = folder or Path(tempfile.gettempdir())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with temporary_path(folder / "remote", is_folder=True) as downloads:
        files, n_bytes = listing.download(downloads), sum(listing.sizes())
        yield from _read_files(files, list(listing.files), n_bytes, downloads, columns, location, remove=True)


def _warn_about_files(left_out: Sequence[str], location: SourceLocation) -> None:
    if left_out:
        names = first_few(left_out)
        location.warn_once(
            f"not read (another suffix, an underscore in front, or a subfolder): {names}; rename or move those to read"
        )


def _read_files(
    paths: Iterable[Path],
    names: Sequence[str],
    n_bytes: int,
    folder: Path,
    columns: Columns,
    location: SourceLocation,
    remove: bool = False,
) -> Iterator[pa.Table]:
    """Yield the tables of files, of which all names are known before the first is downloaded."""
    n_rows = n_bytes_before = 0
    n_files, n_suffixes = len(names), len({PurePath(name).suffix for name in names})
    stems: dict[str, Path] = {}
    with_ids: Path | None = None
    for path in paths:
        relative = path.relative_to(folder)
        if n_files > 1:
            location.start_file(str(relative), n_rows)
        file, size = identify(path, str(relative) if remove else None), path.stat().st_size
        location.has_types = file.format != "json" and n_suffixes == 1  # texts of another file may decide the formats
        _warn_about_files(file.members_left_out, location)
        for table in _read_file(file, relative, columns, location):
            n_rows += len(table)
            location.fraction_read = min(1, (n_bytes_before + file.fraction_read() * size) / (n_bytes or size))
            named = _add_file_name(table, columns, path) if n_files > 1 else table
            if set(columns.item_ids) & set(table.column_names):
                with_ids = with_ids or relative
            if with_ids is not None and (stems or named is not table):
                unnamed = next(iter(stems.values()), relative)
                raise UserError(
                    f"{location}: {with_ids} has item IDs (data.id_column), and {unnamed} has none; add the column to "
                    "all files, or read them apart"
                )
            if named is not table and stems.setdefault(stem(path), relative) != relative:
                raise UserError(
                    f"{location}: {stems[stem(path)]} and {relative} would be one series, since a file's name is its "
                    "item ID; rename one of them, or add a column with the item ID (data.id_column)"
                )
            yield named
        n_bytes_before += size
        if remove:
            path.unlink()
    location.fraction_read = 1


def _read_file(file: DataFile, relative: Path, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the tables of a file."""
    folders = (part.partition("=") for part in relative.parent.parts)
    file.partition = {
        unquote(name): None if value == _NULL_PARTITION else unquote(value) for name, equals, value in folders if equals
    }
    if file.partition and file.format != "parquet":
        raise UserError(f"{file} is in a folder with partitions, named COLUMN=VALUE; write partitions as Parquet files")
    with report_parse_errors(file, columns.encoding if file.format in _TEXT_FORMATS else None):
        for table in _READERS[file.format](file, columns, location):
            if columns.wide and (lists := [field.name for field in table.schema if is_list(field.type)]):
                raise UserError(f"{file}: the column {lists[0]!r} has lists, one row per series; remove data.wide")
            yield table


def _add_file_name(table: pa.Table, columns: Columns, path: Path) -> pa.Table:
    """Return a table with the name of its file as the item ID if it is long and has no item IDs, else unchanged."""
    if columns.wide or set(columns.item_ids) & set(table.column_names):
        return table
    if is_list(table.schema.field(columns.target).type):
        return table
    return table.append_column(columns.item_ids[0], pa.repeat(pa.scalar(stem(path)), len(table)))
