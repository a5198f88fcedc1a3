"""The public data sets of benchmarks/public_sets.py: their table, their roles, and a set built from a repository."""

import hashlib
import io
import json
import re
import subprocess
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import yaml
from support import ROOT

from benchmarks import public_sets
from pipeline.config import Config, EvaluationConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.evaluation.tasks import open_tasks

SETS, REPOSITORIES = public_sets.read_table(public_sets.TABLE)
TEN = {
    *("aus_retail", "epf_short", "ercot_short", "hospital", "m1_yearly", "m3_monthly", "nab_hourly", "nn5_daily"),
    *("tourism_quarterly", "vic_elec"),
}
CSV = """shop,day,sales,note
a,2024-01-03,3,x
a,2024-01-01,1,x
a,2024-01-04,4,x
b,2024-01-01,7,x
b,2024-01-02,8,x
b,2024-01-03,-1,x
b,2024-01-04,9,x
c,2024-01-01,5,x
c,2024-01-02,6,x
d,2024-01-01,2,x
d,2024-01-02,2,x
d,2024-01-03,2,x
d,2024-01-04,2,x
a,2024-01-02,6,y
"""
EXPECTED = [
    ("a", "2024-01-01", 1.0),
    ("a", "2024-01-02", np.nan),
    ("a", "2024-01-03", 3.0),
    ("a", "2024-01-04", 4.0),
    ("b", "2024-01-01", 7.0),
    ("b", "2024-01-02", 8.0),
    ("b", "2024-01-03", np.nan),
    ("b", "2024-01-04", 9.0),
]
"""Series a lacks a day (its row is not kept) and b a value; c is short and d is constant."""


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder of clones with one repository, that the table in use names with one set."""
    clone = tmp_path / "mirror" / "someone+shops"
    clone.mkdir(parents=True)
    (clone / "sales.csv").write_text(CSV)
    git = ["git", "-C", str(clone), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in ("init -q", "add .", "commit -qm data"):
        subprocess.run([*git, *command.split()], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    files = {"sales.csv": hashlib.sha256(CSV.encode()).hexdigest()}
    options = {"time": "day", "values": ["sales"], "ids": ["shop"], "only": "note == 'x'", "missing": -1}
    row = dict(name="shops", repository="someone/shops", files=["sales"], reader="table", freq="D", horizon=2)
    row = dict(**row, seasonality=1, series=2, scored=True, options=options)
    table = {"repositories": {"someone/shops": {"commit": commit, "licence": "MIT", "files": files}}, "sets": [row]}
    monkeypatch.setattr(public_sets, "TABLE", tmp_path / "table.yaml")
    public_sets.TABLE.write_text(yaml.safe_dump(table))
    return tmp_path / "mirror"


def check_rows(path):
    rows = pd.read_parquet(path)
    assert [(row.item_id, str(row.timestamp.date())) for row in rows.itertuples()] == [row[:2] for row in EXPECTED]
    np.testing.assert_array_equal(rows["target"], np.array([row[2] for row in EXPECTED], dtype="float32"))


def test_the_table_names_files_with_hashes_and_none_of_the_ten_sets():
    names = [public.name for public in SETS]
    assert len(names) == len(set(names)) >= 40
    assert not TEN & set(names)
    used = {
        (public.repository, path)
        for public in SETS
        for path in REPOSITORIES[public.repository].files
        if path.startswith(public.files)
    }
    assert used == {(name, path) for name, repository in REPOSITORIES.items() for path in repository.files}
    for repository in REPOSITORIES.values():
        assert re.fullmatch("[0-9a-f]{40}", repository.commit) and repository.licence
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in repository.files.values())
    for public in SETS:
        assert any(path.startswith(public.files) for path in REPOSITORIES[public.repository].files), public.name
        assert public.reader in public_sets.READERS and public.horizon > 0 and public.series > 0


def test_eight_sets_are_to_choose_by_and_eight_others_to_confirm_by_alike_in_frequency():
    roles = public_sets.assign_roles(SETS)
    assert Counter(roles.values()) == {"choose": 8, "confirm": 8, "more": len(SETS) - 16}
    strata = {
        role: Counter(public.stratum for public in SETS if roles[public.name] == role) for role in ("choose", "confirm")
    }
    assert strata["choose"] == strata["confirm"] == public_sets.STRATA
    assert roles == public_sets.assign_roles(SETS[::-1])
    # A new result of a model moves no set: only numbers of series and frequencies are read.
    accuracy = (ROOT / "docs" / "experiments" / "accuracy.md").read_text()
    scored = {public.name for public in SETS if re.search(rf"^\| {public.name} \(", accuracy, re.M)}
    assert scored == {public.name for public in SETS if public.scored}
    assert not scored & {name for name, role in roles.items() if role != "more"}


def test_the_readme_lists_the_table():
    assert public_sets._describe(SETS, REPOSITORIES) in (ROOT / "benchmarks" / "README.md").read_text()


def test_a_set_is_built_from_a_git_repository_and_opened_as_an_evaluation_set(mirror, tmp_path):
    output = tmp_path / "built"
    public_sets.main([str(output), "--mirror", str(mirror)])
    check_rows(output / "shops.parquet")
    (entry,) = json.loads((output / "index.json").read_text())
    assert (entry["role"], entry["n_series"], entry["n_dropped"], entry["missing_values"]) == ("more", 2, 2, 2)
    config = Config(
        evaluation=EvaluationConfig(data_path=str(output / "index.json")), paths=PathsConfig(data_dir=str(tmp_path))
    )
    (task,) = open_tasks(config)
    assert (task.name, task.prediction_length, task.seasonality) == ("shops", 2, 1)
    assert list(task.store.item_ids) == ["a", "b"]


def test_a_role_that_no_set_has_builds_nothing(mirror, tmp_path):
    public_sets.main([str(tmp_path / "built"), "--mirror", str(mirror), "--role", "choose"])
    assert [path.name for path in (tmp_path / "built").iterdir()] == ["index.json"]


def test_without_a_mirror_the_file_comes_from_its_commit_on_github(mirror, tmp_path, monkeypatch):
    (repository,) = public_sets.read_table(public_sets.TABLE)[1].values()
    addresses = []

    def urlopen(address, timeout):
        addresses.append(address)
        return io.BytesIO(CSV.encode())

    monkeypatch.setattr(public_sets, "urlopen", urlopen)
    public_sets.main([str(tmp_path / "built")])
    assert addresses == [f"https://raw.githubusercontent.com/someone/shops/{repository.commit}/sales.csv"]
    check_rows(tmp_path / "built" / "shops.parquet")


@pytest.mark.parametrize("key, value, fact", [
    ("commit", "0" * 40, "sales.csv of someone/shops in .*mirror"),
    ("sales.csv", "0" * 64, "sales.csv of someone/shops has another SHA-256"),
    ("series", 3, "shops has 2 series, .*3"),
    ("freq", "W-MON", "2 timestamps are not on the grid W-MON"),
])  # fmt: skip
def test_a_table_that_differs_from_the_files_is_refused(mirror, tmp_path, key, value, fact):
    table = yaml.safe_load(public_sets.TABLE.read_text())
    repository, (row,) = table["repositories"]["someone/shops"], table["sets"]
    (row if key in row else repository if key in repository else repository["files"])[key] = value
    public_sets.TABLE.write_text(yaml.safe_dump(table))
    with pytest.raises(UserError, match=fact):
        public_sets.main([str(tmp_path / "built"), "--mirror", str(mirror)])


@pytest.mark.parametrize("freq, length, start, first", [
    ("MS", 5, 1975 + 11 / 12, "1975-12-01"),
    ("QS", 5, 1975.75, "1975-10-01"),
    ("YS", 5, 1, "1990-01-01"),
    ("YS", 900, 1, "1700-01-01"),
    ("YS", 900, 1300, "1700-01-01"),
    ("h", 20_000, 2009.5, "2009-07-02 15:00"),
])  # fmt: skip
def test_series_of_r_begin_at_their_start_in_years_or_where_timestamps_have_room(freq, length, start, first):
    dated = public_sets._date(np.arange(length), freq, start)
    assert dated.index[0] == pd.Timestamp(first) and dated.iloc[-1] == length - 1
    assert (dated.index == pd.date_range(first, periods=min(length, 500) if freq == "YS" else length, freq=freq)).all()


def test_a_competition_joins_the_test_part_to_the_training_part(monkeypatch):
    part = public_sets.RSeries
    entry = {
        "period": np.array(["YEARLY"]),
        "x": part(np.array([1.0, 2.0]), 1980, 1),
        "xx": part(np.array([3.0]), 1982, 1),
    }
    monkeypatch.setattr(public_sets, "_read_r", lambda files: [{"Y1": entry, "M1": {"period": ["MONTHLY"]}}])
    ((name, values),) = public_sets.READERS["competition"]({}, "YS", period="YEARLY")
    assert name == "Y1" and list(values.index.year) == [1980, 1981, 1982] and list(values) == [1, 2, 3]


@pytest.mark.parametrize("horizon, season, shortest", [(3, 1, 6), (1, 7, 9)])
def test_a_series_shorter_than_two_horizons_or_a_season_and_a_horizon_is_dropped(horizon, season, shortest):
    lengths = (shortest - 1, shortest, shortest + 1)
    table = pd.DataFrame({name: pd.Series(range(length)) for name, length in zip("abc", lengths)})
    files = {"s.csv": table.to_csv(index=False).encode()}
    public = public_sets.PublicSet("s", "o/r", ("s",), "matrix", "D", horizon, season, 2, options={"header": True})
    series, dropped = public_sets.build_series(public, files)
    assert {name: len(values) for name, values in series.items()} == {"b": shortest, "c": shortest + 1} and dropped == 1
