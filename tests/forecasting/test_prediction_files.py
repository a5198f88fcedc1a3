"""Forecast files: the same in parts, after an interruption, and over processes."""

import datetime as dt
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support import ROOT
from support.series import long_frame

from pipeline.core.errors import UserError
from pipeline.data.source import open_source
from pipeline.forecasting import files
from pipeline.forecasting.files import Parts, identity_of, write_predictions
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.request import Request
from pipeline.forecasting.tables import forecast_store

LEVELS = [0.1, 0.5, 0.9]
IN_PARTS_OF_3 = Request(6, LEVELS, max_part_size=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Ten hourly series of falling lengths."""
    frame = long_frame(n_series=10, freq="h")
    frame = frame[frame.groupby("item_id").cumcount() >= 9 * frame["item_id"].str[-1].astype(int)]
    return open_source(frame, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def bolt(tiny):
    return Forecaster.load(str(tiny["bolt"]))


@pytest.fixture(scope="module")
def expected(bolt, store):
    """The forecasts of the store, made in parts of three items but without files."""
    return pd.concat([part.to_pandas() for part in forecast_store(bolt, store, IN_PARTS_OF_3)], ignore_index=True)


def fill_some(parts, forecaster, store, n):
    """Fill the first parts and stop, as an interrupted process does."""
    filled = parts.fill(forecaster, store, IN_PARTS_OF_3)
    sizes = [next(filled) for _ in range(n)]
    filled.close()
    return sizes


def test_an_interrupted_forecast_continues_with_the_next_part(bolt, store, expected, tmp_path):
    path = tmp_path / "out" / "p.parquet"
    parts = Parts(path, {"seed": 0})
    parts.claim()
    assert fill_some(parts, bolt, store, 2) == [3, 3] and not path.exists()
    written = {file: file.stat().st_mtime_ns for file in parts.folder.glob("*.arrow")}
    resumed = Parts(path, {"seed": 0})
    resumed.claim()
    assert list(resumed.fill(bolt, store, IN_PARTS_OF_3)) == [3, 3, 3, 1]
    assert len(written) == 2 and all(file.stat().st_mtime_ns == time for file, time in written.items())
    assert resumed.merge(4) == 60
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected, check_dtype=False)
    assert [file.name for file in path.parent.iterdir()] == ["p.parquet"]


def test_parts_of_another_request_are_removed(bolt, store, tmp_path):
    for seed, n_kept in ((0, 0), (0, 2), (1, 0)):
        parts = Parts(tmp_path / "p.csv", {"seed": seed})
        parts.claim()
        assert len(list(parts.folder.glob("*.arrow"))) == n_kept
        fill_some(parts, bolt, store, 2)


def test_the_identity_differs_if_the_forecasts_may_differ(tiny, bolt, store, tmp_path):
    request = Request(6, LEVELS)
    identity = identity_of(bolt, store, request, "fp32")
    assert json.loads(json.dumps(identity)) == identity
    assert identity == identity_of(bolt, store, Request(6, LEVELS, batch_size=3), "fp32")
    for other in (
        identity_of(Forecaster.load(str(tiny["t5"])), store, request, "fp32"),
        identity_of(bolt, store, Request(7, LEVELS), "fp32"),
        identity_of(bolt, store, Request(6, [0.5]), "fp32"),
        identity_of(bolt, store, Request(6, LEVELS, max_part_size=3), "fp32"),
        identity_of(Forecaster.load(str(tiny["bolt"]), seed=1), store, request, "fp32"),
        identity_of(bolt.with_flip(True), store, request, "fp32"),
        identity_of(bolt, store, request, "bf16"),
        identity_of(bolt, open_source(long_frame(), tmp_path), request, "fp32"),
    ):
        assert other != identity


def test_two_processes_make_the_file_of_one(bolt, store, expected, tmp_path):
    parts = Parts(tmp_path / "p.parquet", {})
    parts.claim()
    assert list(parts.fill(bolt, store, IN_PARTS_OF_3, rank=1, n_ranks=2)) == [3, 1]
    assert list(parts.fill(bolt, store, IN_PARTS_OF_3, rank=0, n_ranks=2)) == [3, 3]
    parts.merge(4)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "p.parquet"), expected, check_dtype=False)


@pytest.mark.parametrize("suffix, read", [
    (".parquet", pd.read_parquet),
    (".csv", pd.read_csv),
    (".jsonl", lambda path: pd.read_json(path, lines=True)),
])  # fmt: skip
def test_every_format_has_the_same_numbers(bolt, store, expected, tmp_path, suffix, read):
    path = tmp_path / f"p{suffix}"
    assert write_predictions(path, forecast_store(bolt, store, IN_PARTS_OF_3)) == 60
    frame = read(path)
    assert list(frame.columns) == ["item_id", "timestamp", "target_name", "predictions", "0.1", "0.5", "0.9"]
    np.testing.assert_allclose(frame["0.9"], expected["0.9"], rtol=1e-6)
    assert (pd.to_datetime(frame["timestamp"]).to_numpy() == expected["timestamp"].to_numpy().astype("M8[ns]")).all()


def test_an_error_between_two_tables_leaves_no_file(bolt, store, tmp_path):
    def tables():
        yield from forecast_store(bolt, store, IN_PARTS_OF_3)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_predictions(tmp_path / "p.parquet", tables())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_torchrun_forecasts_as_one_process_does(tiny, tmp_path):
    long_frame(n_series=7).to_csv(tmp_path / "s.csv", index=False)
    arguments = ["--inference.model_path", tiny["bolt"], "--inference.data_path", "s.csv"]
    arguments += ["--inference.prediction_length", 5]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for launcher, output in (([], "one.csv"), (torchrun, "two.csv")):
        command = [sys.executable, *launcher, ROOT / "scripts" / "forecast.py", *arguments]
        command += ["--inference.output_path", output]
        done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()


def test_a_workbook_keeps_item_ids_as_texts_and_missing_forecasts_as_empty_cells(tmp_path):
    stamps = pd.date_range("2024-01-31 13:00", periods=3, freq="h").as_unit("s")
    table = pa.table({"store": ["037", "1e5", "=1+1"], "day": stamps, "predictions": [1.5, float("nan"), -2.0]})
    assert write_predictions(tmp_path / "f.xlsx", [table, table]) == 6
    found = pd.read_excel(tmp_path / "f.xlsx", dtype={"store": str})
    pd.testing.assert_frame_equal(found, pd.concat([table.to_pandas()] * 2, ignore_index=True), check_dtype=False)


def test_a_workbook_of_too_many_rows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_EXCEL_ROWS", 4)
    table = pa.table({"predictions": [1.0, 2.0]})
    write_predictions(tmp_path / "f.xlsx", [table])
    with pytest.raises(UserError, match="at most 4 rows"):
        write_predictions(tmp_path / "g.xlsx", [table, table])
    assert not (tmp_path / "g.xlsx").exists()


def test_an_infinite_forecast_is_written_to_excel(tmp_path):
    table = pa.table({"item_id": ["A", "B"], "predictions": [1.5, np.inf]})
    write_predictions(tmp_path / "f.xlsx", [table])
    assert pd.read_excel(tmp_path / "f.xlsx")["predictions"].tolist() == [1.5, np.inf]


def test_dates_before_those_of_excel_are_texts(tmp_path):
    stamps = [dt.datetime(1850, 1, 1), dt.datetime(1899, 12, 31), dt.datetime(1900, 2, 15), dt.datetime(1950, 1, 1)]
    table = pa.table({"timestamp": pa.array(stamps, pa.timestamp("s"))})
    write_predictions(tmp_path / "f.xlsx", [table])
    found = pd.read_excel(tmp_path / "f.xlsx")["timestamp"]
    assert [dt.datetime.fromisoformat(str(value)) for value in found] == stamps
