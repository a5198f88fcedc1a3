"""The file of all scored forecasts, and the pictures that the report takes from it."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from support.series import long_frame

from pipeline.core.series import Series, Variates, target_rows
from pipeline.data.arrow_store import store_from_arrays, store_from_series
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.evaluation.backtest import Evaluation, evaluate_task, make_task
from pipeline.evaluation.forecasts import read_forecasts, write_forecasts
from pipeline.evaluation.report import pictures as pictures_module
from pipeline.evaluation.report.pictures import collect_pictures
from pipeline.evaluation.report.rows import window_tables

LEVELS = [f"0.{k}" for k in range(1, 10)]


def last_value(offset):
    """Return a forecast function: the last value of each target plus an offset, and k at level k/10 more."""

    def forecast(histories, length):
        ends = np.array([row[-1] for row in target_rows(histories)])
        return ends[:, None, None] + offset + np.arange(1.0, 10)[None, None] + np.zeros((1, length, 1))

    return forecast


def score(path, tasks, models):
    """Score models, given as functions by name, and write their forecasts; return the evaluations."""
    evaluations: dict[str, dict[str, Evaluation]] = {task.name: {} for task in tasks}
    with write_forecasts(path, tasks) as writer:
        for name, forecast in models.items():
            for task in tasks:
                keep = lambda indices, quantiles: writer.write(task, name, indices, quantiles)  # noqa: B023, E731
                evaluations[task.name][name] = evaluate_task(task, forecast, 2, keep=keep)
    return evaluations


def month_ends(values):
    series = [Series(f"0{k}", np.datetime64("2024-01-31", "s"), "ME", row) for k, row in enumerate(values)]
    return make_task("months", store_from_series(series), 2, 1, 2)


def test_the_file_has_a_row_for_each_model_window_and_step(tmp_path):
    values = np.arange(30, dtype=np.float32).reshape(3, 10)
    score(tmp_path / "f.parquet", [month_ends(values)], {"a": last_value(0), "b": last_value(100)})
    table = pd.read_parquet(tmp_path / "f.parquet")
    keys = ["data set", "item_id", "target_name", "origin", "timestamp", "actual", "model"]
    assert list(table.columns) == keys + LEVELS and len(table) == 2 * 3 * 2 * 2
    ends = pd.date_range("2024-01-31", periods=10, freq="ME")
    own = table.query("model == 'b' and item_id == '01'").sort_values("timestamp")
    assert own["timestamp"].tolist() == ends[6:].tolist() and own["actual"].tolist() == [16, 17, 18, 19]
    assert own["origin"].tolist() == [ends[5]] * 2 + [ends[7]] * 2
    assert own["0.3"].tolist() == [15 + 103.0] * 2 + [17 + 103.0] * 2 and set(table["item_id"]) == {"00", "01", "02"}


def test_timestamps_that_had_a_time_zone_are_utc(tmp_path):
    stamps = pd.date_range("2024-03-29", periods=60, freq="h", tz="Europe/Oslo")
    store = open_source(pd.DataFrame({"timestamp": stamps, "target": np.arange(60.0)}))
    task = make_task("hours", store, 2, 1, 2)
    evaluations = score(tmp_path / "f.parquet", [task], {"a": last_value(0)})
    table = pd.read_parquet(tmp_path / "f.parquet")
    assert sorted(table["timestamp"]) == stamps[-4:].tz_convert("UTC").tolist()
    (windows,) = window_tables(evaluations, [task])
    assert sorted(windows["origin"].to_pandas()) == stamps[[-5, -3]].tz_convert("UTC").tolist()


def test_steps_are_counted_without_timestamps_and_rows_are_written_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.forecasts._ROWS_PER_GROUP", 8)
    task = make_task("t", store_from_arrays(np.arange(60.0).reshape(6, 10)), 3, 1, 1)
    score(tmp_path / "f.parquet", [task], {"a": last_value(0)})
    file = pq.ParquetFile(tmp_path / "f.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [12, 6]
    table = file.read().to_pandas()
    assert set(table["origin"]) == {6} and table["timestamp"].tolist()[:3] == [7, 8, 9]


def test_an_evaluation_that_fails_leaves_the_file_of_the_one_before(tmp_path):
    (tmp_path / "f.parquet").write_text("before")
    task = month_ends(np.ones((1, 10), np.float32))
    with pytest.raises(ZeroDivisionError), write_forecasts(tmp_path / "f.parquet", [task]):
        raise ZeroDivisionError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_forecasts_are_read_in_the_order_of_an_evaluation(tmp_path):
    """Two targets of each item, two windows, and items of different lengths."""
    table = long_frame(n_series=4, length=40).assign(other=np.arange(160.0))
    table = table.drop(table.index[table["item_id"] == "item2"][:7])
    store = open_source(table, tmp_path, Columns(variates=Variates(("target", "other"))))
    task = make_task("t", store, 3, 1, 2)
    evaluation = score(tmp_path / "f.parquet", [task], {"a": last_value(0), "b": last_value(9)})["t"]["b"]
    merged = pd.read_parquet(tmp_path / "f.parquet").merge(table, on=["item_id", "timestamp"])
    assert set(merged["target_name"]) == {"target", "other"} and len(merged) == 4 * 2 * 2 * 2 * 3
    for row in merged.to_dict("records"):
        assert row["actual"] == pytest.approx(row[row["target_name"]])
    quantiles = read_forecasts(tmp_path / "f.parquet", task, "b", [1, 2])
    rows = np.flatnonzero(np.isin(evaluation.series, [1, 2]))
    assert quantiles.shape == (8, 3, 3)
    for row, forecast in zip(rows, quantiles):
        last = store.rows(int(evaluation.series[row]))[row % 2, evaluation.starts[row] - 1]
        np.testing.assert_allclose(forecast, last + 9 + np.array([[1.0], [5], [9]]) + np.zeros((3, 3)), rtol=1e-6)


@pytest.fixture
def scored(tmp_path):
    """A base that is right, and a model that is wrong by another amount on each of five series of 30 steps."""
    series = np.tile(np.array([10, 20], np.float32), (5, 15)) + np.arange(5, dtype=np.float32)[:, None] / 8
    task = make_task("t", store_from_arrays(series), 2, 1, 2)

    def truth(offset):
        def forecast(histories, length):
            return np.array([[[row[0] + offset(row[0])] * 9, [row[0] + 10] * 9] for row in histories])

        return forecast

    wrong = [3, -1, 0, 5, 2]
    models = {"model": truth(lambda first: wrong[int(8 * (first - 10))]), "base": truth(lambda first: 0)}
    return task, score(tmp_path / "f.parquet", [task], models), tmp_path / "f.parquet"


def test_the_series_that_became_worse_come_first_with_their_forecasts(scored):
    task, evaluations, path = scored
    pictures = collect_pictures(evaluations, [task], "model", "base", path)
    assert [picture["name"] for picture in pictures.worse] == ["3", "0", "4", "1"] and pictures.n_worse == 4
    worst = pictures.worse[0]
    assert (worst["median"], worst["base"]) == ([15.375, 20.375], [10.375, 20.375])
    assert worst["WQL"] == [pytest.approx(5 / 30.75, rel=1e-4), 0] and worst["y"][-2:] == [10.375, 20.375]
    assert not worst["dated"] and worst["x"][1] == 1 and worst["x"][0] + len(worst["y"]) in (28, 30)
    assert {picture["label"]: picture["name"] for picture in pictures.examples} == {
        "best": "2", "median": "4", "worst": "3"
    }  # fmt: skip
    assert [picture["name"] for picture in pictures.last] == list("01234")
    assert all(picture["x"][0] + len(picture["y"]) == 30 for picture in pictures.last)


def test_a_model_without_a_base_has_pictures_too(scored):
    task, evaluations, path = scored
    pictures = collect_pictures(evaluations, [task], "model", None, path)
    assert (pictures.worse, pictures.n_worse) == ([], 0) and pictures.last[0]["base"] == []


def test_the_number_of_series_of_a_page_is_bounded(scored, monkeypatch):
    task, evaluations, path = scored
    monkeypatch.setattr(pictures_module, "_MAX_VALUES", 3 * (24 + 5 * 2))
    monkeypatch.setattr(pictures_module, "_MAX_WORSE", 1)
    pictures = collect_pictures(evaluations, [task], "model", "base", path)
    assert [picture["name"] for picture in pictures.last] == list("012") and pictures.worse[0]["name"] == "3"
    assert (pictures.n_drawn, pictures.n_series, pictures.n_worse, len(pictures.worse)) == (3, 5, 4, 1)


def test_months_have_their_own_timestamps_in_pictures(tmp_path):
    task = month_ends(np.random.default_rng(0).normal(5, 1, (2, 10)).astype(np.float32))
    evaluations = score(tmp_path / "f.parquet", [task], {"a": last_value(0)})
    picture = collect_pictures(evaluations, [task], "a", None, tmp_path / "f.parquet").last[1]
    stamps = pd.to_datetime(picture["x"], unit="s")
    assert picture["dated"] and stamps.tolist() == pd.date_range("2024-01-31", periods=10, freq="ME").tolist()


def test_forecasts_that_are_nan_are_gaps(tmp_path):
    task = month_ends(np.ones((2, 10), np.float32))
    evaluations = score(tmp_path / "f.parquet", [task], {"a": last_value(np.nan), "b": last_value(np.nan)})
    pictures = collect_pictures(evaluations, [task], "a", "b", tmp_path / "f.parquet")
    assert pictures.last[0]["median"] == [None, None] and pictures.n_worse == 0
