import csv as csv_module
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.series import long_frame

from pipeline.config import Config, EvaluationConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.series import Variates, target_rows
from pipeline.core.tables import markdown_table
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.evaluation.backtest import evaluate, examples, make_task
from pipeline.evaluation.baselines import naive_forecast
from pipeline.evaluation.evaluate import score_models
from pipeline.evaluation.tasks import tasks_of
from pipeline.forecasting.forecaster import Forecaster

DATA = Path(__file__).parents[3] / "shared" / "data"


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
    task = make_task("t", store_from_arrays(series), 6, 4, windows)
    scores = evaluate(
        task, lambda histories, _: np.stack([spread(history) for history in histories]), batch_size=2
    ).scores()
    wql, mase, coverage = plain_scores(series, 6, windows, 4, spread)
    assert scores["WQL"] == pytest.approx(wql) and scores["MASE"] == pytest.approx(mase)
    assert scores["coverage_80"] == pytest.approx(coverage)


def test_a_rolling_origin_never_shows_the_forecaster_what_it_is_to_forecast():
    series = np.arange(50, dtype=np.float32)
    seen = []

    def forecast(histories, prediction_length):
        seen.extend(len(history) for history in histories)
        return naive_forecast(1)(histories, prediction_length)

    evaluate(make_task("t", store_from_arrays([series]), 7, 1, 3), forecast)
    assert sorted(seen) == [29, 36, 43]


def test_a_set_without_a_series_longer_than_the_horizon_is_refused():
    with pytest.raises(UserError, match="evaluation.prediction_length"):
        evaluate(make_task("t", store_from_arrays([np.arange(5)]), 6, 1, 1), naive_forecast(1))


def test_windows_that_were_asked_for_and_are_not_there_are_told_of(caplog):
    """Of the second series, of 25 steps, three of four horizons of 8 have a step before them."""
    store = store_from_arrays([np.arange(60.0), np.arange(25.0)])
    config = Config(evaluation=EvaluationConfig(baselines=[]))
    score_models([], [make_task("t", store, 8, 1, 3)], config)
    assert not caplog.text
    score_models([], [make_task("t", store, 8, 1, 4)], config)
    assert "t: 1 of 8 windows cannot be scored" in caplog.text


def test_scores_by_series_and_step_belong_to_their_series_and_step():
    """Forecasts of nought: each series is off by its own constant, each step of one series by its place."""
    series = [np.r_[np.arange(20.0), np.full(6, float(k))] for k in (1, 2, 3)] + [
        np.r_[np.arange(30.0), np.arange(1.0, 7)]
    ]
    task = make_task("t", store_from_arrays([one.astype(np.float32) for one in series]), 3, 1, 2)
    nought = evaluate(task, lambda histories, _: np.zeros((len(histories), 3, 9)), batch_size=3)
    found, scores = nought.by_series()
    assert found.tolist() == [0, 1, 2, 3] and scores["WAPE"] == pytest.approx(1.0)
    first = [np.abs(np.diff(one[: len(one) - back])).mean() for one in series for back in (6, 3)]
    error = [np.abs(one[len(one) - back :][:3]).mean() for one in series for back in (6, 3)]
    expected = (np.array(error) / first).reshape(4, 2).mean(axis=1)
    np.testing.assert_allclose(scores["MASE"], expected)
    steps = nought.by_step()
    assert len(steps) == 3 and np.mean([one["MASE"] for one in steps]) == pytest.approx(nought.scores()["MASE"])
    alone = evaluate(
        make_task("t", store_from_arrays([series[3]]), 3, 1, 1), lambda some, _: np.zeros((len(some), 3, 9))
    )
    assert [one["MASE"] for one in alone.by_step()] == pytest.approx([4 / first[7], 5 / first[7], 6 / first[7]])


def test_the_examples_are_the_best_the_median_and_the_worst_window():
    series = [np.r_[np.tile([0.0, 1.0], 10), np.full(4, 0.5 + off)] for off in (3, 1, 5, 2, 4)]
    task = make_task("t", store_from_arrays(series), 4, 1, 1)

    def half(histories, length):
        return np.full((len(histories), length, 9), 0.5)

    found = examples(task, evaluate(task, half), half)
    assert [(one.which, one.item_id, one.scaled_error) for one in found] == [
        ("best", "1", pytest.approx(1)),
        ("median", "0", pytest.approx(3)),
        ("worst", "2", pytest.approx(5)),
    ]
    assert found[2].target.tolist() == [5.5] * 4 and found[2].history.tolist() == [0.0, 1.0] * 8
    two = make_task("t", store_from_arrays(series[:2]), 4, 1, 1)
    assert [one.which for one in examples(two, evaluate(two, half), half)] == ["best", "median"]


def test_processes_share_the_batches_of_a_task():
    series = [np.arange(20.0) + k for k in range(7)]
    task, forecast, asked = make_task("t", store_from_arrays(series), 4, 1, 1), naive_forecast(1), []

    def counted(histories, length):
        asked.append(len(histories))
        return forecast(histories, length)

    class One:
        count = 2

        def __init__(self, rank, others):
            self.rank, self.others = rank, others

        def gather(self, own, device):
            return [*own, *self.others] if self.others is not None else own

    whole, own = evaluate(task, forecast, 2), []
    for rank in (0, 1):
        evaluator = One(rank, None)
        evaluator.gathered = lambda parts, _: (own.append(parts), [*parts, *parts])[1]
        evaluate(task, counted, 2, evaluator)
    assert asked == [2, 2, 2, 1] and [[number for number, _ in parts] for parts in own] == [[0, 2], [1, 3]]
    together = evaluate(task, counted, 2, One(1, own[0]))
    np.testing.assert_array_equal(together.errors.pinball, whole.errors.pinball)


def test_the_examples_of_several_targets_are_those_of_their_own_window(tmp_path):
    """In batches of two windows, each of two rows: of the worst one the second target is far off."""
    rng = np.random.default_rng(0)
    table = long_frame(n_series=5, length=30).assign(other=rng.normal(size=150))
    table.loc[table.index[(table["item_id"] == "item3")][-4:], "other"] = 50.0
    store = open_source(table, tmp_path, Columns(variates=Variates(("target", "other"))))
    task = make_task("t", store, 4, 1, 1)

    def last(histories, length):
        ends = np.array([row[-1] for row in target_rows(histories)])
        return np.broadcast_to(ends[:, None, None], (len(ends), length, 9))

    worst = {one.which: one for one in examples(task, evaluate(task, last, 2), last, 2)}["worst"]
    history = table.loc[table["item_id"] == "item3", "other"].to_numpy(np.float32)[:-4]
    assert worst.item_id == "item3" and worst.target.tolist() == [50.0] * 4
    np.testing.assert_array_equal(worst.history, history[-16:])
    np.testing.assert_array_equal(worst.quantiles, np.full((4, 9), history[-1]))


def test_a_markdown_table_has_as_many_cells_in_every_row():
    lines = markdown_table([{"a": 1.5, "b": None}, {"a": 2, "b": "long name"}], ("a", "b")).splitlines()
    assert {line.count("|") for line in lines} == {3} and len({len(line) for line in lines}) == 1


def test_the_script_scores_models_beside_seasonal_naive_and_writes_both_tables(nano, tmp_path, run_script):
    for name, freq in (("daily", "D"), ("hourly", "h")):
        long_frame(freq=freq).to_csv(tmp_path / f"{name}.csv", index=False)
    sets = "[daily.csv, {path: hourly.csv, prediction_length: 5, seasonality: 12}]"
    arguments = [
        "--evaluation.data_path",
        sets,
        "--evaluation.models",
        f"[{nano['bolt']}]",
        "--evaluation.baselines",
        "[]",
    ]
    code, out, err = run_script("evaluate", *arguments, "--evaluation.prediction_length", 8, "--evaluation.windows", 2)
    assert (code, err) == (0, "")
    rows = list(csv_module.DictReader(open(tmp_path / "data" / "reports" / "scores.csv")))
    assert [row["data set"] for row in rows] == ["daily", "daily", "hourly", "hourly", *["geometric mean of 2"] * 2]
    assert rows[2]["seasonality"] == "12" and rows[0]["windows"] == "12" and rows[0]["seasonality"] == "7"
    folder = tmp_path / "data" / "reports"
    assert "seasonal naive" in out and (folder / "scores.md").read_text() in out
    tables = {file.stem: pd.read_csv(file) for file in folder.glob("*.csv")}
    assert set(tables) == {"scores", "ranking", "scores_by_series", "scores_by_step", "calibration", "forecasts"}
    by_series = tables["scores_by_series"].query("model == 'seasonal naive' and `data set` == 'daily'")
    assert list(by_series["item_id"]) == [f"item{k}" for k in range(6)]
    assert by_series["MASE"].mean() == pytest.approx(tables["scores"]["MASE"][0])
    drawn = tables["forecasts"].query("`data set` == 'hourly' and window == 'worst' and step > 0")
    truth = long_frame(freq="h").query("item_id == @drawn.item_id.iloc[0]")["target"].to_numpy()
    assert any(np.allclose(drawn["target"], truth[at : at + 5]) for at in (len(truth) - 10, len(truth) - 5))


def test_seasonal_naive_scores_of_the_real_sets_are_met(tmp_path, run_script):
    if not DATA.is_dir():
        pytest.skip("the real series of ../shared/data are not here")
    nothing_else = ["--evaluation.models", "[]", "--evaluation.baselines", "[]"]
    code, _, err = run_script("evaluate", "--evaluation.data_path", DATA / "index.json", *nothing_else)
    assert (code, err) == (0, "")
    table = pd.read_csv(tmp_path / "data" / "reports" / "scores.csv").set_index("data set")
    for entry in json.loads((DATA / "index.json").read_text()):
        for score in ("MASE", "WQL"):
            assert table.loc[entry["name"], score] == pytest.approx(entry["seasonal_naive"][score], abs=1e-3)


@pytest.mark.parametrize("test_length, mixup, warned", [(0, False, True), (0, True, True), (8, False, False)])
def test_scores_on_steps_that_a_model_comes_from_are_told(nano, csv, tmp_path, run_script, test_length, mixup, warned):
    lengths = ["--training.max_steps", 1, "--training.context_length", 32, "--training.prediction_length", 8]
    base = ["--base_model.output_path", nano["bolt"], "--data.train", csv, "--data.test_length", test_length]
    mixed = ["--data.mixup", mixup, "--synthetic.mixup.min_length", 48]
    assert run_script("train", *base, *mixed, *lengths, "--training.validation_windows", 6)[0] == 0
    scored = ["--evaluation.data_path", csv, "--evaluation.prediction_length", 8, "--evaluation.baselines", "[]"]
    code, out, err = run_script("evaluate", *scored, "--evaluation.models", "[data/models/trained]")
    assert code == 0, err
    assert ("train it with data.test_length 8" in out + err) == warned
    for name in ("report.html", "scores.md"):
        assert ("train it with data.test_length 8" in Path("data", "reports", name).read_text()) == warned


def test_the_examples_of_a_token_model_are_the_forecasts_that_were_scored(nano):
    rng = np.random.default_rng(0)
    series = [rng.normal(5, 1, int(length)).astype(np.float32) for length in rng.integers(40, 90, 13)]
    task = make_task("t", store_from_arrays(series), 4, 1, 1)
    forecaster = Forecaster.load(str(nano["t5"]), seed=3)

    def forecast(histories, length):
        return forecaster.quantiles(histories, length, WQL_LEVELS)[0]

    for one in examples(task, evaluate(task, forecast, 5), forecast, 5):
        scale = np.abs(np.diff(series[int(one.item_id)][:-4])).mean()
        assert np.abs(one.target - one.quantiles[:, 4]).mean() / scale == pytest.approx(one.scaled_error, rel=1e-5)


@pytest.mark.parametrize("entry, said", [
    ({"prediction_length": 0}, "prediction_length"), ({"seasonality": -7}, "seasonality"),
    ({"prediction_length": "7"}, "prediction_length of s.csv must be a whole number, got '7'"),
    ({"prediction_length": 7.5}, "whole number"), ({"seasonality": True}, "whole number"),
    ({"name": 5}, "name of s.csv must be a text"), (None, "lists no data set"),
])  # fmt: skip
def test_a_wrong_entry_of_an_index_is_refused(tmp_path, entry, said):
    long_frame().to_csv(tmp_path / "s.csv", index=False)
    (tmp_path / "index.json").write_text(json.dumps([] if entry is None else [{"file": "s.csv", **entry}]))
    with pytest.raises(UserError, match=said):
        tasks_of(Config(evaluation=EvaluationConfig(data_path=str(tmp_path / "index.json"))))


def test_a_json_file_of_series_is_no_index(tmp_path):
    (tmp_path / "s.json").write_text(
        '{"item_id": "A", "target": [1, 2, 3, 4, 5]}\n{"item_id": "B", "target": [1, 5]}\n'
    )
    config = Config(evaluation=EvaluationConfig(data_path=str(tmp_path / "s.json")), paths=PathsConfig(str(tmp_path)))
    (task,) = tasks_of(config)
    assert list(task.store.item_ids) == ["A", "B"]
