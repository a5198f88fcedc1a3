"""Backtests in which series see each other, compared with stock Chronos-2 from each origin."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from chronos import BaseChronosPipeline
from support.groups import GROUPS, grouped_frame, save_coupled_model
from test_backtest import ThreadProcesses

from pipeline.config import Config, DataConfig, EvaluationConfig, InferenceConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.core.metrics import WQL_LEVELS
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.evaluate import score_models
from pipeline.forecasting.forecaster import Forecaster
from pipeline.load_model import ChronosLoader

LENGTH, LEVELS = 5, list(WQL_LEVELS)


@pytest.fixture(scope="module")
def coupled(nano, tmp_path_factory):
    return save_coupled_model(nano["chronos-2"], tmp_path_factory.mktemp("coupled") / "model")


@pytest.fixture(scope="module")
def frame():
    return grouped_frame()


def kept_forecasts(task, forecaster, batch_size=64, processes=None):
    """Return the forecast of each window by series and origin, which counts from the end."""
    kept = {}

    def keep(indices, quantiles):
        for index, window in zip(indices, quantiles):
            series, start = task.windows[index]
            kept[task.store.item_ids[series], (int(task.store.lengths[series]) - start) // LENGTH] = window

    evaluate_task(task, forecaster.predict_quantiles, batch_size, processes, keep=keep)
    return kept


@pytest.mark.parametrize("by_group", [False, True])
def test_each_origin_is_forecast_together_as_by_stock(coupled, frame, by_group):
    stock = BaseChronosPipeline.from_pretrained(coupled)
    store = open_source(frame, columns=Columns(group=("region",) if by_group else ()))
    kept = kept_forecasts(make_task("t", store, LENGTH, 1, 2, not by_group), Forecaster(stock))
    assert len(kept) == 22
    for origin in (1, 2):
        from_end = frame.groupby("item_id").cumcount(ascending=False)
        known = frame[from_end >= LENGTH * origin].reset_index(drop=True)
        for group in GROUPS if by_group else [""]:
            part = known[known["region"] == group] if by_group else known
            table = stock.predict_df(
                part.drop(columns="region"), prediction_length=LENGTH, quantile_levels=LEVELS, cross_learning=True
            )
            for item_id, rows in table.groupby("item_id"):
                expected = rows[[str(level) for level in LEVELS]].to_numpy()
                np.testing.assert_allclose(kept[item_id, origin], expected, rtol=1e-4, atol=2e-3)


def test_processes_share_batches_of_groups(coupled, frame):
    forecaster = Forecaster.load(str(coupled))
    task = make_task("t", open_source(frame, columns=Columns(group=("region",))), LENGTH, 1, 2)
    expected = kept_forecasts(task, forecaster, 4)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda rank: kept_forecasts(task, forecaster, 4, ThreadProcesses(rank)), range(2)))
    for result in results:
        assert result.keys() == expected.keys()
        for window, forecast in expected.items():
            np.testing.assert_array_equal(result[window], forecast)


def config_of(tmp_path, **settings):
    return Config(
        inference=InferenceConfig(**settings),
        evaluation=EvaluationConfig(baselines=[]),
        paths=PathsConfig(str(tmp_path)),
    )


def test_other_models_are_scored_alone_beside_chronos_2_and_refused_without_it(coupled, tiny, frame, tmp_path):
    config = config_of(tmp_path, cross_learning=True)
    tasks = [make_task("t", open_source(frame), LENGTH, 1, 1, True)]
    grouped = [make_task("t", open_source(frame, columns=Columns(group=("region",))), LENGTH, 1, 1)]
    models = [str(coupled), str(tiny["bolt"])]
    scores = {name: each.scores() for name, each in score_models(models, tasks, config)["t"].items()}
    alone = [make_task("t", open_source(frame), LENGTH, 1, 1)]
    without = score_models(models, alone, config_of(tmp_path))["t"]
    assert scores["seasonal naive"] == pytest.approx(without["seasonal naive"].scores())
    assert scores[models[1]] == pytest.approx(without[models[1]].scores(), rel=1e-5)
    assert abs(scores[models[0]]["WQL"] / without[models[0]].scores()["WQL"] - 1) > 1e-4
    for refused, key in ((tasks, "inference.cross_learning"), (grouped, "data.group_column")):
        chosen = config if refused is tasks else config_of(tmp_path)
        with pytest.raises(UserError, match=f"{key}: .*bolt"):
            score_models(models[1:], refused, chosen)


@pytest.mark.parametrize("by_group", [False, True])
def test_the_loader_evaluates_as_the_backtest_does(coupled, frame, tmp_path, by_group):
    data = DataConfig(group_column="region" if by_group else None)
    inference = InferenceConfig(cross_learning=not by_group, batch_size=4, prediction_length=LENGTH)
    loader = ChronosLoader(
        str(coupled), config=Config(data=data, inference=inference, paths=PathsConfig(str(tmp_path)))
    )
    loader.load_trained_model()
    store = open_source(frame, columns=Columns(group=("region",) if by_group else ()))
    expected = evaluate_task(
        make_task("t", store, LENGTH, None, 1, not by_group), loader.loaded().predict_quantiles, 4
    ).scores()
    alone = evaluate_task(make_task("t", open_source(frame), LENGTH, None, 1), loader.loaded().predict_quantiles)
    assert abs(alone.scores()["WQL"] - expected["WQL"]) > 1e-5
    assert loader.evaluate(frame).loc["model", "WQL"] == pytest.approx(expected["WQL"])
    assert loader.evaluate_on_test_data(frame)["WQL"] == pytest.approx(expected["WQL"])


def test_evaluate_py_scores_groups(coupled, frame, tmp_path, run_script):
    frame.to_csv(tmp_path / "series.csv", index=False)
    settings = ["--evaluation.models", f"[{coupled}]", "--evaluation.baselines", "[]", "--horizon", LENGTH]
    data = ["--evaluation.data_path", "series.csv", "--data.group_column", "region", "--inference.batch_size", 3]
    code, out, err = run_script("evaluate", *settings, *data)
    assert (code, err) == (0, "") and "2 groups" in out
    scores = pd.read_csv(tmp_path / "data" / "reports" / "scores.csv").set_index("model")
    store = open_source(frame, columns=Columns(group=("region",)))
    forecast = Forecaster.load(str(coupled)).predict_quantiles
    expected = evaluate_task(make_task("t", store, LENGTH, None, 1), forecast, 3).scores()
    assert scores.loc[str(coupled), "WQL"] == pytest.approx(expected["WQL"], rel=1e-4)
