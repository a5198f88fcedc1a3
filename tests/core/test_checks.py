"""Checks of outputs against inputs and each other, and of sizes against the machine."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from pipeline.config import Config, DummyDataConfig
from pipeline.core.checks import check_at_least, check_disk, check_memory, check_outputs
from pipeline.core.errors import UserError
from pipeline.data.source import open_source


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data.csv", "other.csv", "model/weights"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("x")
    Path("link.csv").symlink_to("data.csv")
    Path("new-link.csv").symlink_to("new.csv")
    Path("linked").symlink_to("model")
    os.link("data.csv", "hard.csv")
    Path("loop").symlink_to("loop")
    os.mkfifo("fifo")
    return tmp_path


@pytest.mark.parametrize("name, output", [
    ("file", "data.csv"), ("file", "./data.csv"), ("file", "link.csv"), ("file", "hard.csv"),
    ("file", "model/data.csv"),
    ("file", "linked/x.csv"), ("file", "fifo"), ("file", "/dev/null"), ("file", "/dev/full"), ("file", "loop"),
    ("file", "loop/x.csv"), ("file", "fifo/x.csv"), ("file", "model"), ("file", "x" * 250), ("file", "x/" * 3000),
    ("folder", "."), ("folder", "model"), ("folder", "linked"), ("folder", "model/sub"), ("folder", "data.csv"),
    ("folder", "fifo"), ("folder", "loop"), ("folder", "x" * 300),
])  # fmt: skip
def test_an_output_that_would_replace_something_else_is_refused(folder, name, output):
    inputs = {"data": ["data.csv"], "model": ["model"], "url": ["https://h/x.csv"], "missing": ["nowhere", "y/" * 3000]}
    with pytest.raises(UserError, match="^output: "):
        check_outputs(**{f"{name}s": {"output": Path(output)}}, inputs=inputs)


def test_new_and_replaceable_outputs_pass(folder):
    inputs = {"data": ["data.csv", "nowhere/x.csv", "s3://b/data.csv"], "model": ["model"]}
    for path in ("new.csv", "other.csv", "new/deep/x.csv", "new-link.csv", "x" * 200):
        check_outputs(files={"output": Path(path)}, inputs=inputs)
    for path in ("new", "model2"):
        check_outputs(folders={"output": Path(path)}, inputs=inputs)
    assert not Path("new").exists()


@pytest.mark.parametrize("outputs", [
    {"files": {"a": Path("new.csv"), "b": Path("./new.csv")}},
    {"files": {"a": Path("new.csv"), "b": Path("new-link.csv")}},
    {"folders": {"a": Path("new"), "b": Path("new/sub")}},
    {"folders": {"a": Path("new/sub"), "b": Path("new")}},
])  # fmt: skip
def test_two_outputs_in_the_same_place_are_refused(folder, outputs):
    with pytest.raises(UserError, match="^b: .* a;"):
        check_outputs(**outputs)


def test_sizes_are_compared_with_the_machine(tmp_path):
    check_memory("k", 1e6, "it")
    check_disk("k", tmp_path / "new" / "deep", 1e3, "it")
    with pytest.raises(UserError, match="^k: it"):
        check_memory("k", 1e15, "it")
    with pytest.raises(UserError, match="^k: it"):
        check_disk("k", tmp_path / "new" / "deep", 1e18, "it")


def test_counts_fit_into_32_bits():
    check_at_least("k", 2**31 - 1, 1)
    for value in (0, 2**31, 10**400):
        with pytest.raises(UserError, match="^k must be"):
            check_at_least("k", value, 1)


@pytest.mark.parametrize("options", [{"decimal": "x"}, {"duplicates": None}, {"decimal": ["."]}])
def test_python_callers_get_the_choices_of_a_key(options):
    (name,) = options
    with pytest.raises(UserError, match=f"^{name} must be one of"):
        open_source(pd.DataFrame({"item_id": ["a"] * 3, "target": [1.0, 2.0, 3.0]}), **options)


@pytest.mark.parametrize("section, settings, key", [
    ("evaluation", {"baselines": ["AutoETS", "AutoArima"]}, "evaluation.baselines"),
    ("training", {"metric": "mape"}, "training.metric"),
    ("training", {"dummy_data": DummyDataConfig(patterns=[cast(Any, "cycle")])}, "training.dummy_data.patterns"),
])  # fmt: skip
def test_lists_and_nested_sections_have_choices_too(section, settings, key):
    config = getattr(Config(), section)
    with pytest.raises(UserError, match=f"^{key} must be one of"):
        Config(**{section: replace(config, **settings)})
