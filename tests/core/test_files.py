"""Atomic files and folders, JSON, fingerprints, and the checks before long work."""

import errno
import io
import os
import stat
from contextlib import suppress
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.core.files import (
    atomic_folder,
    atomic_write,
    check_stream_end,
    check_writable_file,
    check_writable_folder,
    fingerprint,
    read_json,
    report_disk_errors,
    staged_files,
    to_serializable,
    write_json,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("complete")
        assert temporary.parent == path.parent and not path.exists()
    assert path.read_text() == "complete" and names(path.parent) == ["scores.csv"]


def test_a_folder_has_its_name_only_when_it_is_complete_and_replaces_the_old_one(tmp_path):
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / name).touch()
            assert not (tmp_path / "model" / name).exists()
        assert names(tmp_path / "model") == [name] and names(tmp_path) == ["model"]


def test_an_error_in_the_block_keeps_the_existing_file_or_folder(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "weights").touch()
    with pytest.raises(KeyError), atomic_write(tmp_path / "a.json") as temporary:
        temporary.write_text("2")
        raise KeyError
    with pytest.raises(KeyError), atomic_folder(tmp_path / "model") as temporary:
        raise KeyError
    assert read_json(tmp_path / "a.json") == 1 and names(tmp_path / "model") == ["weights"]
    assert names(tmp_path) == ["a.json", "model"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", 1)
        with atomic_folder(tmp_path / "model"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o750


def test_a_path_of_the_wrong_type_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="folder"), atomic_write(tmp_path / "folder"):
        pass
    with pytest.raises(UserError, match="file"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(UserError, match="file"), atomic_write(tmp_path / "file" / "a.json"):
        pass
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError(errno.EROFS, os.strerror(errno.EROFS)),
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos"),
        ValueError("Error while serializing: I/O error: No space left on device"),
    ],
)
def test_disk_errors_of_any_library_name_the_path(error):
    with pytest.raises(UserError, match="run/model"), report_disk_errors(Path("run/model")):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "no file"), RuntimeError("shapes differ"), KeyError("a")])
def test_other_errors_pass_unchanged(error):
    with pytest.raises(type(error)) as raised, report_disk_errors(Path("run/model")):
        raise error
    assert raised.value is error


def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")
    check_writable_folder(tmp_path / "new" / "folder")
    check_writable_file(tmp_path / "new" / "a.csv")
    for path, name in ((tmp_path / "file" / "below", "file"), (tmp_path / "link", "unmounted")):
        with pytest.raises(UserError, match=name):
            check_writable_folder(path)
    with pytest.raises(UserError, match=tmp_path.name):
        check_writable_file(tmp_path)
    assert names(tmp_path) == ["file", "link"]


def test_invalid_or_missing_json_is_refused_by_its_path(tmp_path):
    (tmp_path / "half.json").write_text('{"a": ')
    for name in ("half.json", "missing.json"):
        with pytest.raises(UserError, match=name):
            read_json(tmp_path / name)


def test_numpy_scalars_paths_and_enums_become_values_of_yaml():
    class Size(Enum):
        SMALL = "small"

    value = {"n": np.int64(3), "path": Path("a/b"), "sizes": (Size.SMALL, [np.float32(0.5)]), "none": None}
    assert to_serializable(value) == {"n": 3, "path": "a/b", "sizes": ["small", [0.5]], "none": None}


def test_a_fingerprint_depends_on_contents_order_and_options_but_not_on_names(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path, text in zip(paths, ("1", "2", "1")):
        path.write_text(text)
    first, second, copy = paths
    assert fingerprint([first, second], "x", b"bytes") == fingerprint([copy, second], "x", b"bytes")
    others = [
        fingerprint([first, second]),
        fingerprint([second, first]),
        fingerprint([first]),
        fingerprint([first, second], "x", b"bytes"),
        fingerprint([first, second], "x", b"other"),
        fingerprint([first, second], "y", b"bytes"),
    ]
    assert len(set(others)) == len(others) and all(len(value) == 24 for value in others)


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"x" * 40])
def test_a_stream_without_its_end_is_refused_by_its_name(content):
    with pytest.raises(UserError, match="cut.arrow"):
        check_stream_end(io.BytesIO(content), "cut.arrow")
    check_stream_end(io.BytesIO(content + b"\xff\xff\xff\xff\x00\x00\x00\x00"), "cut.arrow")


def test_a_full_disk_leaves_no_file(tmp_path):
    for atomic in (atomic_write, atomic_folder):
        with pytest.raises(UserError, match="out: No space"):
            with atomic(tmp_path / "out"):
                raise OSError(28, "No space left on device")
        assert list(tmp_path.iterdir()) == []


def test_links_are_followed_and_devices_are_refused(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "file.json")
    write_json(tmp_path / "link.json", 1)
    assert (tmp_path / "link.json").is_symlink() and read_json(tmp_path / "file.json") == 1
    (tmp_path / "folder").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "folder")
    with atomic_folder(tmp_path / "alias") as temporary:
        (temporary / "weights").touch()
    assert (tmp_path / "alias").is_symlink() and names(tmp_path / "folder") == ["weights"]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "pipe", tmp_path / "loop", Path(os.devnull)):
        for atomic in (atomic_write, atomic_folder):
            with pytest.raises(UserError, match=path.name), atomic(path):
                pass
    assert Path(os.devnull).is_char_device()


def test_a_folder_is_replaced_in_one_step(tmp_path, monkeypatch):
    """Between the two steps of other file systems, there is no folder of this name."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not files._exchange(tmp_path / "old", tmp_path / "new"):
        pytest.skip("this file system cannot exchange two folders")
    assert names(tmp_path / "old") == ["new"] and names(tmp_path / "new") == ["old"]
    monkeypatch.setattr(Path, "replace", None)
    with atomic_folder(tmp_path / "old"):
        pass
    assert names(tmp_path) == ["new", "old"] and names(tmp_path / "old") == []


def test_staged_files_replace_earlier_ones_and_the_mark_comes_last(tmp_path):
    moved = []
    for text in ("1", "2"):
        with staged_files(tmp_path, "mark") as staging:
            for name in ("mark", "z", "a"):
                (staging / name).write_text(text)
            assert text == "1" or (tmp_path / "mark").read_text() == "1"
        assert names(tmp_path) == ["a", "mark", "z"]
        assert {path.read_text() for path in tmp_path.iterdir()} == {text}
    for fail_at in range(3):
        with pytest.MonkeyPatch.context() as patch, suppress(UserError):
            replace = Path.replace

            def failing(path, target):
                moved.append(path.name)
                if len(moved) > fail_at:
                    raise OSError(5, "Input/output error")
                return replace(path, target)

            patch.setattr(Path, "replace", failing)
            with staged_files(tmp_path, "mark") as staging:
                for name in ("mark", "z", "a"):
                    (staging / name).write_text("3")
        moved.clear()
        assert "mark" not in names(tmp_path), "a folder with some files of another writer has no mark"


def test_a_failed_rename_restores_the_old_folder(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    moved, failing = Path.replace, [False, True]

    def replace(path, target):
        if failing and failing.pop(0):
            raise OSError(5, "Input/output error")
        return moved(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(UserError, match="model: Input/output error"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / "weights").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"
