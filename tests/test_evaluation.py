import csv as csv_module
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import long_frame

from pipeline.arrow_store import store_of_arrays
from pipeline.errors import UserError
from pipeline.evaluation import evaluate, naive_forecast, task_of
from pipeline.metrics import WQL_LEVELS
from pipeline.report import markdown_table, score_rows

DATA = Path(__file__).parents[2] / "shared" / "data"


def plain_scores(series, prediction_length, windows, season, forecast):
    """WQL, MASE and coverage by the definition, one number at a time."""
    loss = scale = covered = known = 0.0
    scaled = []
    for target in series:
        for back in range(windows, 0, -1):
            start = len(target) - back * prediction_length
            if start <= 0:
                continue
            history, future = target[:start], target[start : start + prediction_length]
            quantiles = forecast(history)
            errors = []
            for step, value in enumerate(future):
                if np.isnan(value):
                    continue
                for level, quantile in zip(WQL_LEVELS, quantiles[step]):
                    loss += 2 * (level if value >= quantile else 1 - level) * abs(value - quantile) / len(WQL_LEVELS)
                scale += abs(value)
                errors.append(abs(value - quantiles[step][4]))
                covered += quantiles[step][0] <= value <= quantiles[step][-1]
                known += 1
            steps = [abs(a - b) for a, b in zip(history[season:], history) if not np.isnan(a - b)]
            if errors and steps and np.mean(steps) > 0:
                scaled.append(np.mean(errors) / np.mean(steps))
    return loss / scale, np.mean(scaled), covered / known


def spread(history):
    """A forecast that is no more than it needs to be: the last value, give or take."""
    last = history[~np.isnan(history)][-1]
    return np.array([[last + 3 * (level - 0.5) for level in WQL_LEVELS]] * 6)


@pytest.mark.parametrize("windows", [1, 3])
def test_scores_are_those_of_a_plain_loop(windows):
    rng = np.random.default_rng(0)
    series = [rng.normal(5, 1, length).astype(np.float32) for length in (40, 25, 9, 70)]
    series[0][[5, 36, 37]] = np.nan
    task = task_of("t", store_of_arrays(series), 6, 4, windows)
    scores = evaluate(task, lambda histories, _: np.stack([spread(history) for history in histories]), batch_size=2)
    wql, mase, coverage = plain_scores(series, 6, windows, 4, spread)
    assert scores["WQL"] == pytest.approx(wql) and scores["MASE"] == pytest.approx(mase)
    assert scores["coverage_80"] == pytest.approx(coverage)


def test_a_rolling_origin_never_shows_the_forecaster_what_it_is_to_forecast():
    series = np.arange(50, dtype=np.float32)
    seen = []

    def forecast(histories, prediction_length):
        seen.extend(len(history) for history in histories)
        return naive_forecast(1)(histories, prediction_length)

    evaluate(task_of("t", store_of_arrays([series]), 7, 1, 3), forecast)
    assert sorted(seen) == [29, 36, 43]


def test_a_set_without_a_series_longer_than_the_horizon_is_refused():
    with pytest.raises(UserError, match="evaluation.prediction_length"):
        evaluate(task_of("t", store_of_arrays([np.arange(5)]), 6, 1, 1), naive_forecast(1))


def test_relative_scores_divide_by_the_yardstick_and_average_geometrically():
    scores = {
        "a": {"naive": {"MASE": 1.0, "WQL": 0.5, "coverage_80": 0}, "m": {"MASE": 0.5, "WQL": 0.4, "coverage_80": 1}},
        "b": {"naive": {"MASE": 2.0, "WQL": 0.1, "coverage_80": 0}, "m": {"MASE": 4.0, "WQL": 0.2, "coverage_80": 1}},
    }
    rows = {(row["data set"], row["model"]): row for row in score_rows(scores, "naive")}
    assert rows["a", "m"]["relative MASE"] == 0.5 and rows["b", "m"]["relative WQL"] == pytest.approx(2)
    assert rows["geometric mean of 2", "m"]["relative MASE"] == pytest.approx(1.0)
    assert rows["geometric mean of 2", "m"]["relative WQL"] == pytest.approx((0.8 * 2) ** 0.5)


def test_a_markdown_table_has_as_many_cells_in_every_row():
    lines = markdown_table([{"a": 1.5, "b": None}, {"a": 2, "b": "long name"}], ("a", "b")).splitlines()
    assert {line.count("|") for line in lines} == {3} and len({len(line) for line in lines}) == 1


def test_the_script_scores_models_beside_seasonal_naive_and_writes_both_tables(nano, tmp_path, run_script):
    for name, freq in (("daily", "D"), ("hourly", "h")):
        long_frame(freq=freq).to_csv(tmp_path / f"{name}.csv", index=False)
    sets = "[daily.csv, {path: hourly.csv, prediction_length: 5, seasonality: 12}]"
    arguments = ["--evaluation.data_path", sets, "--evaluation.models", f"[{nano['bolt']}]"]
    code, out, err = run_script("evaluate", *arguments, "--evaluation.prediction_length", 8, "--evaluation.windows", 2)
    assert (code, err) == (0, "")
    rows = list(csv_module.DictReader(open(tmp_path / "data" / "reports" / "scores.csv")))
    assert [row["data set"] for row in rows] == ["daily", "daily", "hourly", "hourly", *["geometric mean of 2"] * 2]
    assert rows[2]["seasonality"] == "12" and rows[0]["windows"] == "12" and rows[0]["seasonality"] == "7"
    assert "seasonal naive" in out and (tmp_path / "data" / "reports" / "scores.md").read_text() in out


def test_seasonal_naive_scores_of_the_real_sets_are_met(tmp_path, run_script):
    if not DATA.is_dir():
        pytest.skip("the real series of ../shared/data are not here")
    code, _, err = run_script("evaluate", "--evaluation.data_path", DATA / "index.json", "--evaluation.models", "[]")
    assert (code, err) == (0, "")
    table = pd.read_csv(tmp_path / "data" / "reports" / "scores.csv").set_index("data set")
    for entry in json.loads((DATA / "index.json").read_text()):
        for score in ("MASE", "WQL"):
            assert table.loc[entry["name"], score] == pytest.approx(entry["seasonal_naive"][score], abs=1e-3)
