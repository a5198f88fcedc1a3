"""Windows of several variates, compared with the data set of Chronos-2 in chronos-forecasting."""

import dataclasses

import numpy as np
import pytest
import torch
from support.shops import HORIZON, SHOP, shops

from pipeline.core.series import Panel, Variates
from pipeline.data.columns import Columns
from pipeline.data.covariates import encode_categories
from pipeline.data.source import open_source
from pipeline.models.load import read_model
from pipeline.windows.inputs import input_function
from pipeline.windows.samplers import SeriesSampler
from pipeline.windows.splits import split_store
from pipeline.windows.training_windows import TrainingWindows
from pipeline.windows.validation_windows import ValidationWindows


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_source(shops()[0], tmp_path_factory.mktemp("cache"), Columns(variates=SHOP))


def test_batches_are_those_of_the_data_set_of_chronos_2(store, tiny):
    from chronos.chronos2.dataset import Chronos2Dataset

    split = split_store(store, 0.0, HORIZON, 4)
    validation = ValidationWindows(
        [dataclasses.replace(split, train_ends=store.lengths - HORIZON)],
        context_length=1000,
        prediction_length=HORIZON,
        max_windows=99,
    )
    config = read_model(tiny["chronos-2"]).config.chronos_config
    windows = map(torch.from_numpy, validation.batch(range(5)))
    inputs = input_function("chronos-2", config, HORIZON, store.variates)(*windows)
    stock_items = []
    for index, history in enumerate(validation.histories(range(5))):
        assert isinstance(history, Panel)
        past, future = encode_categories(history.past[None], history.future[None], store.variates)
        horizon = np.where(np.isnan(future[0]), store.rows(index)[:, -HORIZON:], future[0])
        stock_items.append(
            {
                "context": torch.from_numpy(np.concatenate([past[0], horizon], axis=1).astype(np.float32)),
                "future_covariates": torch.full((4, HORIZON), torch.nan),
                "n_targets": 1,
                "n_covariates": 3,
                "n_future_covariates": 2,
            }
        )
    stock = Chronos2Dataset(stock_items, 1000, HORIZON, 20, config["output_patch_size"], mode="validation")
    expected = next(iter(stock))
    for key in ("context", "future_target", "future_covariates"):
        torch.testing.assert_close(inputs[key], expected[key], equal_nan=True)
    same_group, expected_group = (batch["group_ids"][:, None] == batch["group_ids"] for batch in (inputs, expected))
    assert same_group.equal(expected_group)
    assert inputs["num_output_patches"] == expected["num_output_patches"]


def test_the_variates_of_a_window_are_cut_at_the_same_steps(store):
    split = split_store(store, 0.2, HORIZON, 4)
    windows = TrainingWindows(
        [SeriesSampler(split)], [1.0], context_length=24, prediction_length=HORIZON, drop_prob=0.0, seed=0
    )
    context, target = windows.batch(range(20))
    assert context.shape == (80, 24) and target.shape == (80, HORIZON)
    for window in range(20):
        rows = np.concatenate([context, target], axis=1)[4 * window : 4 * window + 4]
        known = rows[:, ~np.isnan(rows[0])]
        matches = [
            index
            for index in range(len(store))
            for begin in range(store.lengths[index])
            if np.array_equal(store.rows(index)[:, begin : begin + known.shape[1]], known)
        ]
        assert len(matches) == 1
    alone, _ = windows.batch([7])
    np.testing.assert_array_equal(alone[:, -24:], context[28:32, -alone.shape[1] :])


def test_a_series_is_usable_if_any_of_its_targets_varies(tmp_path):
    past, _ = shops(2)
    past.loc[past["item_id"] == "shop0", "sold"] = 1.0
    for variates, usable in ((Variates(("sold", "visits")), [0, 1]), (Variates(("sold",), ("visits",)), [1])):
        split = split_store(open_source(past, tmp_path, Columns(variates=variates)), 0.2, HORIZON, 4)
        assert split.usable.tolist() == usable


def test_a_validation_window_has_the_known_covariates_of_its_horizon(store):
    split = split_store(store, 0.2, HORIZON, 4)
    validation = ValidationWindows([split], context_length=24, prediction_length=HORIZON, max_windows=10)
    panel = validation.histories([0])[0]
    assert isinstance(panel, Panel)
    _, series, start, _ = validation.windows[0]
    np.testing.assert_array_equal(panel.past, store.rows(series)[:, :start])
    np.testing.assert_array_equal(panel.future[2:], store.rows(series)[2:, start : start + HORIZON])
    assert np.isnan(panel.future[:2]).all()
