"""The output folder of a training run: whether it is free, to be continued, or somebody else's; and its whole checkpoints.

Inside: `checkpoints/` with run.json and the Trainer's checkpoints, `logs/`, and, once the run is finished, the native
checkpoint itself, whose training_info.json is written last.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoint import TRAINING_INFO, check_safetensors
from pipeline.errors import UserError
from pipeline.files import check_folder, read_json, write_json


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
    def _identity_file(self) -> Path:
        return self.checkpoints / "run.json"

    def check(self, resume: bool, overwrite: bool) -> None:
        """Refuse, before anything is read or written, a folder that this run may not write to.

        Raises:
            UserError: it is a file, holds something that is no run, or a run that may be neither continued nor replaced.
        """
        check_folder(self.path)
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        finished = (self.path / TRAINING_INFO).is_file()
        if not finished and not self._identity_file.is_file():
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

    def claim(self, identity: dict[str, Any], overwrite: bool) -> None:
        """Make the folder this run's: start it anew, or make sure that what is there is the same run.

        Raises:
            UserError: it holds a run of another configuration, or cannot be written.
        """
        if overwrite and self.path.is_dir():
            shutil.rmtree(self.path)
        if self._identity_file.is_file():
            differing = _differing(read_json(self._identity_file), identity)
            if differing:
                raise UserError(
                    f"training.output_path: {self.path} holds an unfinished run that differs in {', '.join(differing)}; "
                    "choose another path, or replace it with training.overwrite true"
                )
            return
        write_json(self._identity_file, identity)

    def last_checkpoint(self) -> Path | None:
        """Return the latest of the Trainer's checkpoints that was written to its end, None where there is none."""
        saved = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        return next((path for path in reversed(saved) if _is_whole(path)), None)

    @contextmanager
    def publishing(self) -> Iterator[Path]:
        """Yield a folder for the files of the finished checkpoint; they are moved in one by one, TRAINING_INFO last."""
        staging = self.path / ".finished"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        for file in sorted(staging.iterdir(), key=lambda file: file.name == TRAINING_INFO):
            target = self.path / file.name
            if target.is_dir():
                shutil.rmtree(target)
            file.replace(target)
        staging.rmdir()


def _is_whole(checkpoint: Path) -> bool:
    """The Trainer writes trainer_state.json last; weights cut short by a full disk show in their size."""
    try:
        read_json(checkpoint / "trainer_state.json")
        for file in checkpoint.glob("*.safetensors"):
            check_safetensors(file)
    except UserError:
        return False
    return True


def _differing(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            keys += _differing(one, other, f"{prefix}{key}.")
        elif one != other:
            keys.append(f"{prefix}{key}")
    return keys
