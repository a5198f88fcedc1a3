"""The output folder of a training run: whether it is free, to be continued, or somebody else's; and its whole checkpoints.

Inside: `checkpoints/` with run.json and the Trainer's checkpoints, `logs/`, `refit/` with both of the second training, and,
once the run is finished, the native checkpoint itself, whose training_info.json is written last.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import check_folder, read_json, report_disk_errors, sync, write_json
from pipeline.models.checkpoint import TRAINING_INFO

_LOCK = ".lock"
_STAGING = ".finished"
_SEAL = "sealed.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_WRITTEN = (
    "checkpoints", "logs", "refit", "adapter", _STAGING, "config.json", "generation_config.json", "model*.safetensors*",
    TRAINING_INFO, "config.yaml", "README.md", "report.md", "training.png", "forecasts.png",
)  # fmt: skip
"""Patterns of all that a run writes; whatever else lies in its folder is the user's."""


@dataclass(frozen=True)
class RunFolder:
    """A folder that one run writes to."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the Trainer's checkpoints."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Folder of the TensorBoard log."""
        return self.path / "logs"

    @property
    def refit(self) -> "RunFolder":
        """Folder of the second training, on the held-out steps too."""
        return RunFolder(self.path / "refit")

    @property
    def _identity_file(self) -> Path:
        return self.checkpoints / "run.json"

    def check(self, resume: bool, overwrite: bool) -> None:
        """Refuse, before anything is read or written, a folder that this run may not write to.

        Raises:
            UserError: it is a file, holds something that is no run, or a run that may be neither continued nor replaced.
        """
        check_folder(self.path)
        if not self.path.is_dir() or {entry.name for entry in self.path.iterdir()} <= {_LOCK, _STAGING}:
            return
        finished = (self.path / TRAINING_INFO).is_file()
        if not (finished or self._identity_file.is_file() or (self.path / _LOCK).is_file()):
            raise UserError(f"training.output_path: {self.path} is not empty and holds no training run; choose another")
        if overwrite:
            return
        if finished:
            raise UserError(
                f"training.output_path: {self.path} holds a finished run; "
                "choose another path, or replace it with training.overwrite true"
            )
        if not resume:
            raise UserError(
                f"training.output_path: {self.path} holds an unfinished run; continue it with training.resume true, "
                "replace it with training.overwrite true, or choose another path"
            )

    def check_apart(self, base: Path) -> None:
        """Refuse a folder that the base model lies in: writing the run there would delete it.

        Raises:
            UserError: it does.
        """
        if base.resolve().is_relative_to(self.path.resolve()):
            raise UserError(
                f"training.output_path: the base model, {base}, lies in {self.path}; choose another path for what is trained"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep any other run from this folder while the block runs; the lock ends with the process, however it ends.

        Raises:
            UserError: another run is writing to the folder, or it cannot be written.
        """
        check_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / _LOCK, "a", encoding="utf-8") as file:
            # A loader's worker would hold the lock for as long as it takes to notice that this process was killed.
            os.register_at_fork(after_in_child=file.close)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"training.output_path: another run is writing to {self.path}; wait for its end, or choose another path"
                ) from error
            except OSError as error:
                raise UserError(
                    f"training.output_path: {self.path} cannot be locked ({error.strerror}); choose a path on another disk"
                ) from error
            yield

    def claim(self, identity: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Make the folder this run's: start it anew, or make sure that what is there is the same run.

        With both `resume` and `overwrite`, an unfinished run is continued where it is the same one, and else replaced: the
        command that replaces a run, itself killed, goes on where it stood.

        Raises:
            UserError: it holds a run of another configuration, or cannot be written.
        """
        if overwrite and not (resume and self._is_unfinished(identity)):
            self.clear()
        if not self._identity_file.is_file():
            for left in (self.checkpoints, self.refit.path):  # of a run that nobody can name any more
                shutil.rmtree(left, ignore_errors=True)
            write_json(self._identity_file, identity)
            return
        differing = differing_keys(read_json(self._identity_file), identity)
        if differing:
            raise UserError(
                f"training.output_path: {self.path} holds an unfinished run that differs in {', '.join(differing)}; "
                "choose another path, or replace it with training.overwrite true"
            )
        for folder in (self, self.refit):
            for _, saved in folder._saved():
                if not is_sealed(saved):
                    shutil.rmtree(saved)

    def clear(self) -> None:
        """Delete all that a run writes; what else lies there stays."""
        written = [entry for entry in self.path.iterdir() if any(fnmatchcase(entry.name, name) for name in _WRITTEN)]
        # First what says that the run is finished, so that a folder half cleared is not taken for one.
        for entry in sorted(written, key=lambda entry: entry.name != TRAINING_INFO):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _is_unfinished(self, identity: dict[str, Any]) -> bool:
        if (self.path / TRAINING_INFO).is_file() or not self._identity_file.is_file():
            return False
        try:
            return not differing_keys(read_json(self._identity_file), identity)
        except UserError:  # of a broken file
            return False

    def last_checkpoint(self) -> Path | None:
        """Return the latest of the Trainer's checkpoints that was written to its end, None where there is none."""
        return next((path for _, path in sorted(self._saved(), reverse=True) if is_sealed(path)), None)

    def _saved(self) -> list[tuple[int, Path]]:
        """Return the Trainer's checkpoints by their steps, torn ones too."""
        folders = [path for path in self.checkpoints.glob("checkpoint-*") if path.is_dir()]
        return [(int(name[1]), path) for path in folders if (name := _CHECKPOINT.fullmatch(path.name))]

    @contextmanager
    def publishing(self) -> Iterator[Path]:
        """Yield a folder for the files of the finished checkpoint; they are moved in one by one, TRAINING_INFO last.

        Raises:
            UserError: another run is writing to the folder, or it cannot be written.
        """
        staging = self.path / _STAGING
        with report_disk_errors(self.path), self.locked():
            shutil.rmtree(staging, ignore_errors=True)
            try:
                staging.mkdir()
                yield staging
                sync(staging.rglob("*"))
                for file in sorted(staging.iterdir(), key=lambda file: file.name == TRAINING_INFO):
                    target = self.path / file.name
                    if target.is_dir():
                        shutil.rmtree(target)
                    file.replace(target)
            finally:
                shutil.rmtree(staging, ignore_errors=True)


def seal_checkpoint(checkpoint: Path) -> None:
    """Write down, once all files of a Trainer's checkpoint are on disk, which they are and how long."""
    sync(_files(checkpoint))
    write_json(checkpoint / _SEAL, _sizes(checkpoint))


def is_sealed(checkpoint: Path) -> bool:
    """Return whether a checkpoint has what it had when it was sealed: neither torn while written nor while deleted."""
    try:
        return read_json(checkpoint / _SEAL).items() <= _sizes(checkpoint).items()
    except UserError:
        return False


def _sizes(checkpoint: Path) -> dict[str, int]:
    return {str(file.relative_to(checkpoint)): file.stat().st_size for file in _files(checkpoint)}


def _files(checkpoint: Path) -> list[Path]:
    return sorted(file for file in checkpoint.rglob("*") if file.is_file() and _SEAL not in file.name)


def differing_keys(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys in which two nested dictionaries differ."""
    keys = []
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            keys += differing_keys(one, other, f"{prefix}{key}.")
        elif one != other:
            keys.append(f"{prefix}{key}")
    return keys
