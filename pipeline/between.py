"""A checkpoint between two others of one training: their weights, mixed.

python -m pipeline.between data/pretrain/second data/pretrain/fourth 0.8 data/pretrain/fourth_mixed
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import read_json, whole_folder, write_json
from pipeline.models.checkpoint import TRAINING_INFO, read_checkpoint

BETWEEN = "between"
"""What training_info.json says beside what the later checkpoint's does."""


def between(earlier: Path, later: Path, share: float, path: Path) -> None:
    """Write the checkpoint that lies `share` of the way from an earlier one to a later one, whose configuration it has.

    Raises:
        UserError: one of them is no checkpoint, their weights are not alike, or `path` holds something else.
    """
    from safetensors.torch import load_file, save_file

    if not 0 <= share <= 1:
        raise UserError(f"the share is {share:g}; give one from 0, the earlier checkpoint, to 1, the later one")
    for one in (earlier, later):
        read_checkpoint(one)
    if path.is_dir() and any(path.iterdir()) and not (path / "config.json").is_file():
        raise UserError(f"{path} holds something else than a checkpoint; give another folder")
    start, end = (load_file(one / "model.safetensors") for one in (earlier, later))
    if {key: value.shape for key, value in start.items()} != {key: value.shape for key, value in end.items()}:
        raise UserError(f"{earlier} and {later} have weights of other shapes; give two checkpoints of one training")
    with whole_folder(path) as folder:
        shutil.copyfile(later / "config.json", folder / "config.json")
        mixed = {key: start[key].lerp(end[key], share) for key in end}
        save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
        way = f"{share:g} of the way from {earlier.name} to {later.name}"
        write_json(folder / TRAINING_INFO, read_json(later / TRAINING_INFO) | {BETWEEN: way})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path)
    parser.add_argument("later", type=Path)
    parser.add_argument("share", type=float, help="0 is the earlier one, 1 the later one")
    parser.add_argument("path", type=Path, help="folder of the new checkpoint")
    given = parser.parse_args()
    try:
        between(given.earlier, given.later, given.share, given.path)
    except UserError as error:
        parser.error(str(error))
