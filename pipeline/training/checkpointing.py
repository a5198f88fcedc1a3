"""The output folder of a training run, and its sealed checkpoints.

It contains `checkpoints/` with run.json and the Trainer's checkpoints, `refit/` with those of the retraining, `logs/`
of both, and, once the run is finished, the native checkpoint, whose training_info.json is written last.
"""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.files import (
    STAGING,
    check_writable_folder,
    fingerprint,
    fsync_files,
    read_json,
    staged_files,
    write_json,
)
from pipeline.core.locks import locked
from pipeline.core.processes import Processes
from pipeline.models.checkpoint import TRAINING_INFO, read_training_info

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_SEAL = "sealed.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_PUBLISHED = (
    "adapter", "config.json", "generation_config.json", "model*.safetensors*", TRAINING_INFO, "config.yaml",
    "README.md", "report.md", "training.png", "forecasts.png",
)  # fmt: skip
"""Patterns of the files of a finished checkpoint."""
_WRITTEN = (*_PUBLISHED, "checkpoints", "logs", "refit", STAGING)
"""Patterns of the files that a run writes. All other files in its folder belong to the user."""


def published_files(folder: Path) -> list[Path]:
    """Return the files and folders of the finished checkpoint in a run's folder."""
    return _matching(folder, _PUBLISHED)


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [entry for entry in folder.iterdir() if any(fnmatchcase(entry.name, pattern) for pattern in patterns)]


@dataclass(frozen=True)
class RunFolder:
    """A folder that one run writes to."""

    path: Path
    run_path: Path | None = None
    """For the folder of a retraining, that of its run."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the Trainer's checkpoints."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Folder of the TensorBoard log, after which TensorBoard names the training."""
        return self.path / "logs/training" if self.run_path is None else self.run_path / "logs/retraining"

    @property
    def refit(self) -> "RunFolder":
        """Folder of the retraining on all data."""
        return RunFolder(self.path / "refit", self.path)

    @property
    def _identity_file(self) -> Path:
        return self.checkpoints / "run.json"

    def check(self, resume: bool, overwrite: bool) -> None:
        """Refuse, before anything is read or written, a folder that this run may not write to.

        Raises:
            UserError: it is a file, has other files than those of a run, or a run that may be neither continued nor
                replaced.
        """
        check_writable_folder(self.path)
        if not self.path.is_dir() or {entry.name for entry in self.path.iterdir()} <= {_LOCK, STAGING}:
            return
        finished = (self.path / TRAINING_INFO).is_file()
        if not (finished or self._identity_file.is_file() or (self.path / _LOCK).is_file()):
            raise UserError(
                f"training.output_path: {self.path} is not empty and has no training run; choose another path"
            )
        if overwrite:
            return
        if finished:
            self._finish_clean_up()
            raise UserError(
                f"training.output_path: {self.path} has a finished run; choose another path, or replace it "
                "with training.overwrite true"
            )
        if not resume:
            raise UserError(
                f"training.output_path: {self.path} has an unfinished run; continue it with training.resume true, "
                "replace it with training.overwrite true, or choose another path"
            )

    def check_apart(self, base: Path) -> None:
        """Refuse a folder that contains the base model: writing the run would delete it.

        Raises:
            UserError: the base is in this folder.
        """
        if base.resolve().is_relative_to(self.path.resolve()):
            raise UserError(f"training.output_path: the base model {base} is in {self.path}; choose another path")

    def make_room(self, base: Path, *, overwrite: bool) -> None:
        """Prepare the folder for a model that was trained elsewhere: delete the run in it if that may be replaced.

        Raises:
            UserError: the folder has other files, or a run that may not be replaced, or the base.
        """
        if Processes().rank:
            return
        self.check(resume=False, overwrite=overwrite)
        self.check_apart(base)
        if self.path.is_dir():
            self.clear()

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder against other runs, as `core.locks.locked`.

        Raises:
            UserError: another run is writing to the folder, or it cannot be written.
        """
        check_writable_folder(self.path)
        return locked(self.path, "training.output_path", self.path / _LOCK)

    def claim(self, identity: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Make the folder this run's: begin the run, or check that the unfinished run in it is the same.

        With both `resume` and `overwrite`, an unfinished run is continued if it is the same and replaced otherwise. So
        a command that replaces a run, and is killed, can be repeated to continue.

        Raises:
            UserError: the folder has a run of another configuration, or cannot be written.
        """
        if overwrite and not (resume and self._is_unfinished(identity)):
            self.clear()
        if not self._identity_file.is_file():
            for leftover in (
                self.checkpoints,
                self.refit.path,
            ):  # checkpoints without run.json belong to an unknown run
                shutil.rmtree(leftover, ignore_errors=True)
            write_json(self._identity_file, identity)
            return
        differing = differing_keys(read_json(self._identity_file), identity)
        if differing:
            raise UserError(
                f"training.output_path: {self.path} has an unfinished run that differs in {', '.join(differing)}; "
                "choose another path, or replace it with training.overwrite true"
            )
        for folder in (self, self.refit):
            for _, saved in folder._saved():
                if not is_sealed(saved):
                    logger.warning("deleting %s: it is torn or was changed", saved)
                    shutil.rmtree(saved)

    def clear(self) -> None:
        """Delete the files that a run writes, and keep all others."""
        written = _matching(self.path, _WRITTEN)
        # training_info.json first: it marks a finished run, and a folder that is half cleared is none.
        for entry in sorted(written, key=lambda entry: entry.name != TRAINING_INFO):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _is_unfinished(self, identity: dict[str, Any]) -> bool:
        return self.unfinished_steps(identity) == identity["steps"]

    def unfinished_steps(self, identity: dict[str, Any]) -> int | None:
        """Return the steps of the unfinished run in the folder; None if it differs in more than its steps."""
        if (self.path / TRAINING_INFO).is_file() or not self._identity_file.is_file():
            return None
        try:
            unfinished = read_json(self._identity_file)
        except UserError:  # the file is broken
            return None
        return unfinished.get("steps") if {*differing_keys(unfinished, identity)} <= {"steps"} else None

    def last_checkpoint(self) -> Path | None:
        """Return the Trainer's latest whole checkpoint; None if there is none."""
        return next((path for _, path in sorted(self._saved(), reverse=True) if is_sealed(path)), None)

    def _saved(self) -> list[tuple[int, Path]]:
        """Return the Trainer's checkpoints with their steps, torn ones included."""
        folders = [path for path in self.checkpoints.glob("checkpoint-*") if path.is_dir()]
        return [(int(name[1]), path) for path in folders if (name := _CHECKPOINT.fullmatch(path.name))]

    @contextmanager
    def publishing(self, keep_checkpoints: bool) -> Iterator[Path]:
        """Yield a folder for the files of the finished checkpoint, and move them in at the end, training_info.json
        last. Then the Trainer's checkpoints are deleted unless they are kept.

        Raises:
            UserError: another run is writing to the folder, or it cannot be written.
        """
        with self.locked():
            with staged_files(self.path, last=TRAINING_INFO) as staging:
                yield staging
            self._clean_up(keep_checkpoints)

    def _clean_up(self, keep_checkpoints: bool) -> None:
        if not keep_checkpoints:
            for folder in (self.checkpoints, self.refit.path):
                shutil.rmtree(folder, ignore_errors=True)

    def _finish_clean_up(self) -> None:
        """Delete what a finished run that was killed at its very end has left."""
        if (self.path / _LOCK).is_file():
            with self.locked():
                training = read_training_info(self.path).get("config", {}).get("training", {})
                self._clean_up(training.get("keep_checkpoints", True))
                shutil.rmtree(self.path / STAGING, ignore_errors=True)


def seal_checkpoint(checkpoint: Path) -> None:
    """Write the names of a checkpoint's files and hashes of their contents to its seal, after they are on disk."""
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file() and _SEAL not in file.name)
    fsync_files(files)
    write_json(checkpoint / _SEAL, {str(file.relative_to(checkpoint)): fingerprint([file]) for file in files})


def is_sealed(checkpoint: Path) -> bool:
    """Return whether a checkpoint has all files of its seal as they were: it was neither torn nor changed."""
    try:
        files = {checkpoint / name: content for name, content in dict(read_json(checkpoint / _SEAL)).items()}
        return bool(files) and all(file.is_file() and fingerprint([file]) == content for file, content in files.items())
    except (TypeError, ValueError, OSError):  # the seal is missing or damaged, or a file cannot be read
        return False


def differing_keys(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys in which two nested dictionaries differ."""
    keys = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            keys += differing_keys(old, new, f"{prefix}{key}.")
        elif old != new:
            keys.append(f"{prefix}{key}")
    return keys
