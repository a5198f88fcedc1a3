"""Files of a source: their paths, formats and decompressed bytes."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError, first_few, to_one_line
from pipeline.core.files import read_json

_FORMATS = {
    "csv": (".csv", ".tsv", ".txt"),
    "json": (".jsonl", ".json", ".ndjson"),
    "tsf": (".tsf",),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc"),
    "workbook": (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
}
_FORMAT_OF = {suffix: name for name, suffixes in _FORMATS.items() for suffix in suffixes}
_COMPRESSION_SUFFIXES = (".gz", ".bz2", ".zst", ".zip")
SUFFIXES = (*_FORMAT_OF, ".zip")
"""Suffixes of the known formats. The suffix of a compression may follow."""
# A text may start with the letters of a format, such as a column PAR1, but not with the bytes after them.
_BINARY_FORMATS = {
    "parquet": rb"PAR1[^ -~\s]",
    "arrow": rb"ARROW1\0\0|\xff\xff\xff\xff|FEA1\0",
    "workbook": rb"PK\x03\x04|\xd0\xcf\x11\xe0",
}
_COMPRESSIONS = {
    "gzip": rb"\x1f\x8b",
    "zstd": rb"\x28\xb5\x2f\xfd",
    "bz2": rb"BZh[1-9](1AY&SY|\x17rE8P\x90)",
    "zip": rb"PK(\x03\x04|\x05\x06)",
}
_WORKBOOK_MEMBERS = {"[Content_Types].xml", "content.xml"}
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_PARSE_ERRORS = (
    *(pa.ArrowException, OSError, ValueError, EOFError, MemoryError, OverflowError, RuntimeError),
    *(csv.Error, struct.error, zipfile.BadZipFile, zlib.error),
)
"""Errors of the libraries for a damaged file; RuntimeError is that of encrypted archives and of deep recursion."""


_MAX_BYTES, _MAX_LINE = 1 << 30, 1 << 27
"""Maximum sizes in memory: of a file or the content of a workbook (a million rows of 20 columns), and of a line."""


@dataclass
class DataFile:
    """A file of a source, and the format and compression that its first bytes show."""

    path: Path
    name: str
    """Path of the file in messages."""
    format: str
    """A key of `_FORMATS`."""
    compression: str | None = None
    member: str | None = None
    """Name of the data in a zip archive."""
    members_left_out: Sequence[str] = ()
    """Names of other files in the archive that may have series too."""
    partition: Mapping[str, str | None] = field(default_factory=dict)
    """Values of further columns, from the names of its folders."""
    fraction_read: Callable[[], float] = lambda: 0.0
    """Returns the share of the file that has been read, from 0 to 1."""

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def open(self) -> Iterator[pa.NativeFile]:
        """Open the decompressed bytes as a stream."""
        with ExitStack() as stack:
            if self.member is not None:
                raw = stack.enter_context(self.path.open("rb"))
                archive = stack.enter_context(zipfile.ZipFile(raw))
                stream = pa.PythonFile(stack.enter_context(archive.open(self.member)), "r")
            else:
                raw = stream = stack.enter_context(pa.OSFile(os.fsencode(self.path)))
                if self.compression is not None:
                    stream = stack.enter_context(pa.CompressedInputStream(raw, self.compression))
            n_bytes = self.path.stat().st_size
            self.fraction_read = lambda: 1.0 if raw.closed else raw.tell() / n_bytes
            yield stream

    @contextmanager
    def open_text(self, encoding: str) -> Iterator[io.TextIOWrapper]:
        """Open the decompressed text; a byte order mark of UTF-16 takes precedence over the encoding."""
        with self.open() as stream:
            buffered = io.BufferedReader(stream)
            if buffered.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                encoding = "utf-16"
            encoding = codecs.lookup(encoding).name
            yield io.TextIOWrapper(buffered, "utf-8-sig" if encoding == "utf-8" else encoding)

    @contextmanager
    def open_random_access(self, memory_map: bool = False) -> Iterator[pa.NativeFile]:
        """Open the bytes for reading at any position; those of a compressed file are decompressed in memory."""
        if self.compression is None:
            with pa.memory_map(os.fsencode(self.path)) if memory_map else pa.OSFile(os.fsencode(self.path)) as source:
                yield source
        else:
            yield pa.BufferReader(self.read())

    def read(self) -> pa.Buffer:
        """Return the decompressed bytes.

        Raises:
            UserError: there are too many.
        """
        content = pa.BufferOutputStream()
        with self.open() as stream:
            while block := stream.read(1 << 24):
                if content.tell() + len(block) > _MAX_BYTES:
                    raise UserError(f"{self} has more than {_MAX_BYTES >> 20} MB; write it as CSV, or decompress it")
                content.write(block)
        return content.getvalue()

    def lines(self, stream: Any) -> Iterator[Any]:
        """Yield the lines of a stream of texts or bytes.

        Raises:
            UserError: a line is too long.
        """
        while line := stream.readline(_MAX_LINE):
            if len(line) == _MAX_LINE:
                raise UserError(f"{self} has a line of more than {_MAX_LINE >> 20} MB; check its format")
            yield line


def identify(path: Path, name: str | None = None) -> DataFile:
    """Return a file with its format: from its first bytes, or, for a text file, from its suffix.

    Raises:
        UserError: the file is empty or of no known format, or a zip archive without exactly one data file.
    """
    name = name or str(path)
    with path.open("rb") as stream:
        head = stream.read(16)
    if not head:
        raise UserError(f"{name} is empty")
    file = DataFile(path, name, _FORMAT_OF.get(_suffix(path), ""), _match(_COMPRESSIONS, head))
    with report_parse_errors(file):
        if file.compression == "zip":
            with zipfile.ZipFile(path) as archive:
                if not _WORKBOOK_MEMBERS.isdisjoint(archive.namelist()):
                    file.compression = None
                    if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                        raise UserError(f"{name} has more than {_MAX_BYTES >> 20} MB of content; write it as CSV")
                else:
                    file.member, file.members_left_out = _data_member(archive, name)
                    file.format = _FORMAT_OF.get(_suffix(Path(file.member)), file.format)
        if file.compression is not None:
            with file.open() as stream:
                head = stream.read(16)
    file.format = _match(_BINARY_FORMATS, head) or file.format
    if not file.format:
        raise UserError(f"{name} has no suffix of a known format; known formats are {', '.join(SUFFIXES)}")
    return file


def _match(patterns: dict[str, bytes], head: bytes) -> str | None:
    return next((name for name, pattern in patterns.items() if re.match(pattern, head)), None)


def _data_member(archive: zipfile.ZipFile, name: str) -> tuple[str, list[str]]:
    """Return the name of the only file in a zip archive, or of the only one with a known suffix, and of the others."""
    paths = {member: PurePosixPath(member) for member in archive.namelist() if not member.endswith("/")}
    paths = {member: path for member, path in paths.items() if "__MACOSX" not in path.parts and not is_ignored(path)}
    visible = [member for member, path in paths.items() if path.name[0] != "_"]
    members = [member for member in visible if _suffix(paths[member]) in _FORMAT_OF] or visible
    if len(members) != 1:
        contents = first_few(members) if members else "no data file"
        raise UserError(f"{name}: the archive contains {contents}; give an archive of one file, or extract it")
    if archive.getinfo(members[0]).flag_bits & 1:
        raise UserError(f"{name}: the archive is protected by a password; extract it")
    return members[0], sorted(paths.keys() - {members[0]})


@contextmanager
def report_parse_errors(file: DataFile, encoding: str | None = None) -> Iterator[None]:
    """Raise a UserError that names the file if the block fails to parse it.

    Args:
        encoding: that of a text file, for the message.
    """
    try:
        yield
    except UserError as error:  # the name of a column may have line breaks
        raise UserError(to_one_line(error)) from error
    except _PARSE_ERRORS as error:
        if encoding and (isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error)):
            raise UserError(
                f"{file} is not encoded in {encoding}; set data.encoding to its encoding, such as cp1252"
            ) from error
        problem = to_one_line(error) or type(error).__name__
        raise UserError(f"cannot read {file}: {problem}; check that it is complete and in the right format") from error


def source_files(source: str) -> list[Path]:
    """Return the files of a source, none for a remote source or the name of a data set on the Hub.

    A GluonTS folder gives the files of its train split. A `datasets` folder or a folder with partitions gives all files
    in it, at any depth. Any other folder gives the files directly in it. Files of unknown formats are left out.

    Raises:
        UserError: the path does not exist, has no file of a known format, or is a Delta table.
    """
    path = Path(source)
    if "://" in source:
        return []
    if path.is_file():
        if not path.stat().st_size:  # such as the endless files of /proc
            raise UserError(f"{path} is empty")
        return [path]
    if path.is_dir():
        if (path / "metadata" / "metadata.json").exists() or (path / "metadata.json").exists():
            path = path / "train" if (path / "train").is_dir() else path
        if (path / "_delta_log").is_dir():  # some of its files contain deleted rows
            raise UserError(f"{path} is a Delta table; write its rows to Parquet files in another folder")
        is_partitioned = any(entry.is_dir() for entry in path.glob("*=*"))
        depth = "**/*" if is_partitioned or is_datasets_folder(path) else "*"
        files = sorted(file for file in path.glob(depth) if is_data_file(file.relative_to(path)) and file.is_file())
        if not files:
            raise UserError(
                f"the folder {path} has no data file, and its subfolders are not read; known formats are "
                f"{', '.join(SUFFIXES)}"
            )
        return files
    if _HUB_NAME.fullmatch(source) and not is_data_file(PurePosixPath(path.name)):
        return []
    raise UserError(f"no such file or folder: {source}; give the path of your series, or owner/name on the Hub")


def files_left_out(source: Path, files: Sequence[Path]) -> list[str]:
    """Return the names of files beside those that are read which may have series too, and of folders with data files.

    Args:
        files: the files of the source that are read; if they are in several folders, or listed by `datasets`, no name
            is returned.
    """
    if source.is_file() or is_datasets_folder(source) or len({file.parent for file in files}) > 1:
        return []
    read, found = set(files), []
    for entry in sorted(files[0].parent.iterdir()):
        if entry in read or is_ignored(entry):
            continue
        if entry.is_dir():
            found += [f"{entry.name}/"] if any(is_data_file(PurePath(file.name)) for file in entry.glob("*")) else []
        elif entry.is_file():
            found.append(entry.name)
    return found


def is_ignored(path: PurePath) -> bool:
    """Return whether a file has no series by its name: hidden and temporary ones, and marks of Spark as `_SUCCESS`."""
    has_suffix = not _FORMAT_OF.keys().isdisjoint(map(str.lower, path.suffixes))
    return path.name[:1] in ".~" or (path.name[0] == "_" and not has_suffix)


def is_data_file(path: PurePath) -> bool:
    """Return whether a path in a folder has a known suffix, and is not hidden or temporary, like some of Spark."""
    is_hidden = any(part[0] in "._~" for part in path.parts)
    return not is_hidden and (_suffix(path) in _FORMAT_OF or path.suffix.lower() == ".zip")


def is_datasets_folder(path: Path) -> bool:
    """Return whether a folder was written by `save_to_disk` of `datasets`."""
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json", "state.json"))


def gluonts_freq(source: str) -> str | None:
    """Return the frequency in the metadata of a GluonTS folder, None for any other source."""
    for path in (Path(source, "metadata", "metadata.json"), Path(source, "metadata.json")):
        if path.is_file():
            return metadata_freq(read_json(path))
    return None


def metadata_freq(metadata: Any) -> str | None:
    """Return the frequency in the metadata of a GluonTS folder, None if they have none."""
    freq = metadata.get("freq") if isinstance(metadata, dict) else None
    return None if freq is None else str(freq)


def stem(path: PurePath) -> str:
    """Return the name of a file without the suffixes of its format and compression."""
    path = _without_compression(path)
    return path.stem if path.suffix.lower() in _FORMAT_OF else path.name


def _suffix(path: PurePath) -> str:
    return _without_compression(path).suffix.lower()


def _without_compression(path: PurePath) -> PurePath:
    return path.with_suffix("") if path.suffix.lower() in _COMPRESSION_SUFFIXES else path
