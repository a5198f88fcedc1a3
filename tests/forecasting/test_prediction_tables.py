"""Forecasts of stores as tables and arrays, compared with `predict_df` of stock Chronos."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from chronos import BaseChronosPipeline
from support.series import long_frame

from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.source import open_source
from pipeline.forecasting.files import write_predictions
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.request import Request, array_store
from pipeline.forecasting.tables import forecast_array, forecast_store, predictions_table, split_parts

LEVELS = [0.1, 0.5, 0.9]


def table(forecaster, store, **settings):
    """Return the forecasts of a store as one DataFrame."""
    request = Request(**{"prediction_length": 12, "levels": LEVELS, **settings})
    parts = forecast_store(forecaster, store, request)
    return pd.concat([part.to_pandas() for part in parts], ignore_index=True)


@pytest.fixture(scope="module")
def bolt(tiny):
    return Forecaster.load(str(tiny["bolt"]))


@pytest.mark.parametrize("freq", ["h", "D", "MS", "W-WED", "B"])
@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
def test_predictions_are_those_of_stock_predict_df(uncrossed, tmp_path, family, freq):
    frame = long_frame(n_series=5, freq=freq)
    frame = frame[frame.groupby("item_id").cumcount() >= 15 * frame["item_id"].str[-1].astype(int)]
    stock = BaseChronosPipeline.from_pretrained(uncrossed[family])
    expected = stock.predict_df(frame, prediction_length=12, quantile_levels=LEVELS, freq=freq).reset_index(drop=True)
    ours = table(Forecaster(stock), open_source(frame, tmp_path), batch_size=2)
    assert list(ours.columns) == list(expected.columns)
    assert (ours["item_id"] == expected["item_id"]).all()
    assert (ours["timestamp"].astype("M8[ns]") == expected["timestamp"].astype("M8[ns]")).all()
    for column in ("predictions", "0.1", "0.5", "0.9"):
        np.testing.assert_allclose(ours[column], expected[column].astype(float), rtol=1e-4, atol=1e-4)


def test_a_shorter_context_hides_earlier_steps_from_the_model(bolt):
    series = np.random.default_rng(0).normal(size=60).astype(np.float32)
    forecast = table(bolt, store_from_arrays([series]), context_length=32)
    np.testing.assert_allclose(forecast["0.5"], bolt.quantiles([series[-32:]], 12, [0.5])[0].ravel(), rtol=1e-5)


def test_steps_are_counted_if_a_store_has_no_timestamps(bolt):
    stamps = table(bolt, store_from_arrays([np.sin(np.arange(30)), np.sin(np.arange(10))]))["timestamp"]
    assert stamps.tolist() == [*range(30, 42), *range(10, 22)]


def test_parts_have_a_bounded_number_of_items_and_values():
    store = store_from_arrays(np.zeros((10, 2)))
    assert [len(part) for part in split_parts(store, Request(6, LEVELS))] == [10]
    assert [len(part) for part in split_parts(store, Request(6, LEVELS, max_part_size=4))] == [4, 4, 2]
    # Four items of 20,000 steps at 100 columns have just under 2^23 values.
    assert [len(part) for part in split_parts(store, Request(20_000, [0.1] * 99))] == [4, 4, 2]


def test_a_series_without_values_is_forecast_as_missing(bolt, tmp_path, caplog):
    values = {"A": [1, 5, 2], "B": []}
    rows = [{"item_id": name, "start": "2020-01-01", "target": target} for name, target in values.items()]
    (tmp_path / "s.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    forecast = table(bolt, open_source(tmp_path / "s.jsonl", tmp_path / "cache", freq="D"), prediction_length=6)
    assert forecast["item_id"].tolist() == ["A"] * 6 + ["B"] * 6
    assert forecast["0.5"].notna().tolist() == [True] * 6 + [False] * 6
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "pipeline.forecasting.tables"]
    assert warning.startswith("1 series") and warning.endswith("B")


def test_arrays_are_forecast_in_batches_of_their_order(tiny):
    """The samples of a token model depend on the batch, so the order of the batches is a fact."""
    forecaster = Forecaster.load(str(tiny["t5"]))
    series = [np.sin(np.arange(length) / 3).astype(np.float32) for length in (50, 9, 30)]
    ours = forecast_array(forecaster, store_from_arrays(series), Request(4, LEVELS, batch_size=2))
    expected = [forecaster.quantiles(batch, 4, LEVELS)[0] for batch in (series[:2], series[2:])]
    np.testing.assert_array_equal(ours, np.concatenate(expected))


def test_contexts_that_are_not_arrays_of_series_are_refused():
    assert array_store(np.arange(4)).lengths.tolist() == [4]
    wrong = [pd.DataFrame({"a": [1]}), "s.csv", [[1.0, 2.0], [3.0]], np.float32(3), np.zeros((1, 2, 3)), ["a", "b"]]
    for context in wrong:
        with pytest.raises(UserError):
            array_store(context)


def test_an_array_of_predictions_needs_its_levels_and_the_median():
    predictions = np.arange(12.0).reshape(2, 2, 3)
    rows = predictions_table(predictions, LEVELS).to_pandas()
    assert rows["item_id"].tolist() == ["0", "0", "1", "1"] and rows["timestamp"].tolist() == [0, 1, 0, 1]
    assert rows["predictions"].tolist() == rows["0.5"].tolist() == [1.0, 4.0, 7.0, 10.0]
    for levels, key in (([0.1, 0.9], "inference.quantiles"), ([0.1, 0.5], r"\[2, 2, 3\]")):
        with pytest.raises(UserError, match=key):
            predictions_table(predictions, levels)


def test_forecasts_of_series_without_negative_values_are_raised_to_zero_if_asked(uncrossed, tmp_path):
    """The quantiles of these random weights are far apart, so that some are below zero."""
    forecaster = Forecaster.load(str(uncrossed["bolt"]))
    frame = long_frame(n_series=2)
    frame.loc[frame["item_id"] == "item1", "target"] -= 100
    store = open_source(frame.assign(target=frame["target"].where(frame["item_id"] == "item1", frame["target"].abs())))
    plain, raised = (table(forecaster.with_non_negative(asked), store) for asked in (False, True))
    columns = ["predictions", *map(str, LEVELS)]
    expected = plain.copy()
    first = expected["item_id"] == "item0"
    expected.loc[first, columns] = expected.loc[first, columns].clip(lower=0)
    assert (plain.loc[first, "0.1"] < 0).any() and (plain.loc[~first, columns] < 0).any(axis=None)
    pd.testing.assert_frame_equal(raised, expected)


def test_timestamps_of_a_zone_are_forecast_in_utc(bolt, tmp_path):
    stamps = pd.date_range("2024-03-01", periods=60, freq="h", tz="Europe/Berlin")
    store = open_source(pd.DataFrame({"timestamp": stamps, "target": np.arange(60.0)}))
    forecast = table(bolt, store, prediction_length=2)
    assert forecast["timestamp"].tolist() == [stamps[-1] + pd.Timedelta(hours=hours) for hours in (1, 2)]
    assert str(forecast["timestamp"].dt.tz) == "UTC"
    write_predictions(tmp_path / "f.xlsx", [pa.Table.from_pandas(forecast)])
    assert (
        pd.read_excel(tmp_path / "f.xlsx")["timestamp"].tolist() == forecast["timestamp"].dt.tz_localize(None).tolist()
    )
