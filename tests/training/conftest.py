"""Settings that make many short trainings in one process fast, and a base that few steps can improve."""

import gc

import pytest
import torch
from support.runs import trained


@pytest.fixture(scope="session", autouse=True)
def fast_short_runs():
    """Leave imported modules out of garbage collection, which each training does three times, and use one thread."""
    import chronos  # noqa: F401

    import pipeline.training.report
    import pipeline.training.run  # noqa: F401

    gc.collect()
    gc.freeze()
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
    gc.unfreeze()


@pytest.fixture(scope="session")
def good_base(tiny, tmp_path_factory):
    """Folder of a Bolt that has been trained on the seasonal series, so that ruined weights score worse."""
    folder = tmp_path_factory.mktemp("good") / "base"
    trained(tiny["bolt"], folder, learning_rate=3e-2, max_steps=10, trainer={"eval_steps": 10})
    return folder
