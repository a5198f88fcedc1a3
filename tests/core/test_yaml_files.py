"""YAML that would take all memory, hang, or mean something else than it seems to."""

import os
import time

import pytest
import yaml

from pipeline.core.errors import UserError
from pipeline.core.yaml_files import check_option, parse_yaml, read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 40))
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 12))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}]\n" for k in range(1, 100))


@pytest.mark.parametrize("text, fact", [
    (LAUGHS, "values"), (MERGES, "values"), (CHAIN, "levels"), ("a: &a {b: *a}", "alias"), ("a: &a\n  <<: *a", "alias"),
    ("[" * 3000 + "]" * 3000, "levels"), ("{a: " * 3000, "levels"), ("[" * 100_000, "levels"),
    ("a: 1\na: 2", "'a'"), ("a: {b: 1, b: 2}", "'b'"), ("5: a", "5"), ("on: a", "on"), ("2020-01-01: a", "2020-01-01"),
    ("? [a]\n: b", "key"), ("a: " + "9" * 400, "line 1"), ("a: " + "9" * 5000, "YAML"), ("a: 2020-99-99", "YAML"),
    ("a: !!python/object/apply:os.getcwd []", "YAML"), ("a:\n\tb: 1", "YAML"), ("a: *b", "YAML"), ("a: \0", "YAML"),
    ("a: 1\n---\nb: 2", "YAML"),
])  # fmt: skip
def test_a_text_is_refused_at_once_in_one_line(text, fact):
    begin = time.monotonic()
    with pytest.raises(UserError, match=rf"^c\.yaml\b.*{fact}") as refused:
        parse_yaml(text, "c.yaml")
    assert "\n" not in str(refused.value)
    assert time.monotonic() - begin < 10


def test_ordinary_files_are_read_as_by_yaml(tmp_path):
    texts = ["", "a: 1", "a: &x {b: [1, 2.5, true, null]}\nc: *x\nd: {<<: *x, b: 2}", "\ufeffa: ä"]
    for text in texts:
        (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
        assert read_yaml(tmp_path / "c.yaml", "--config") == yaml.safe_load(text.removeprefix("\ufeff"))


def test_other_things_than_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "large").write_text("#" * 10**7)
    (tmp_path / "utf16").write_text("a: 1", encoding="utf-16")
    names = ["fifo", "loop", "large", "utf16", "nowhere", ".", "x/" * 3000, "a\0b"]
    for path in [*(tmp_path / name for name in names), "/dev/zero", "/dev/null"]:
        with pytest.raises(UserError, match="--config"):
            read_yaml(path, "--config")


def test_a_value_on_the_command_line_may_be_any_text():
    for text in ("*.csv", "a: b: c", "[a", "{", "%", "'"):
        check_option(text, "--data.train")
    for text in (LAUGHS, "[" * 1000, "9" * 400):
        with pytest.raises(UserError, match="--data.train"):
            check_option(text, "--data.train")


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-3", 0.001),
        ("-2E5", -2e5),
        ("1.5e+3", 1500.0),
        ("e3", "e3"),
        ("12", 12),
        ("5e4f3a2b", "5e4f3a2b"),
        ("1e5,2", "1e5,2"),
    ],
)
def test_a_number_with_an_exponent_needs_no_point(text, value):
    parsed = parse_yaml(f"a: {text}", "c.yaml")["a"]
    assert (parsed, type(parsed)) == (value, type(value))
