"""A Trainer's checkpoint that was changed, or is somebody else's, is not continued: the one before it is."""

import json
import os
import pickle

import pytest
import torch
from support.runs import last_checkpoint, same, trained, unfinish, weights

from pipeline.training.checkpointing import RunFolder, is_sealed, seal_checkpoint


class Bomb:
    """An object whose unpickling writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run of four steps with a checkpoint at every second, and its weights."""
    out = tmp_path_factory.mktemp("whole") / "out"
    trained(tiny["bolt"], out, max_steps=4)
    return weights(out)


@pytest.fixture
def unfinished(tiny, tmp_path):
    """The folder of a run that was killed at its end, with two checkpoints, and the last of them."""
    trained(tiny["bolt"], tmp_path / "out", max_steps=4)
    unfinish(tmp_path / "out")
    last = last_checkpoint(tmp_path / "out")
    assert len(list(last.parent.glob("checkpoint-*"))) > 1
    return tmp_path / "out", last


def test_one_changed_byte_tears_a_checkpoint(unfinished):
    out, last = unfinished
    content = bytearray((last / "optimizer.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (last / "optimizer.pt").write_bytes(content)
    assert not is_sealed(last) and RunFolder(out).last_checkpoint() != last


@pytest.mark.parametrize("seal", ["[]", "{}", '{"config.json": 5}', '[["a"]]', '{"a": {}}', "5", '{"../../x": "0"}'])
def test_a_damaged_seal_is_none(unfinished, seal):
    _, last = unfinished
    (last / "sealed.json").write_text(seal)
    assert not is_sealed(last)


@pytest.mark.parametrize("kind", ["bomb", "garbage", "list", "state", "negative state", "weights"])
def test_a_foreign_file_under_a_foreign_seal_runs_no_code_and_is_not_continued(
    tiny, whole, unfinished, tmp_path, kind, caplog
):
    out, last = unfinished
    state = json.loads((last / "trainer_state.json").read_text())
    match kind:
        case "bomb":
            for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
                torch.save({"state": Bomb(tmp_path / "exploded")}, last / name)
        case "garbage":
            (last / "rng_state.pth").write_bytes(pickle.dumps({"python": Bomb(tmp_path / "exploded")}))
        case "list":
            torch.save([1, 2], last / "scheduler.pt")
        case "state":
            (last / "trainer_state.json").write_text(json.dumps({**state, "more": 1}))
        case "negative state":
            (last / "trainer_state.json").write_text(json.dumps({**state, "global_step": -1}))
        case "weights":
            os.truncate(last / "model.safetensors", 1000)
    seal_checkpoint(last)
    assert is_sealed(last)
    caplog.clear()
    trained(tiny["bolt"], out, max_steps=4)
    assert same(weights(out), whole) and not (tmp_path / "exploded").exists()
    (record,) = [record for record in caplog.records if str(last) in record.getMessage()]
    assert record.levelname == "WARNING" and "deleted" in record.getMessage()
