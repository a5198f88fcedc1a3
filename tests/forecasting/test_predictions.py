"""Forecasts of whole stores: the same in parts, after a stop, over processes and in smaller batches."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from support import ROOT
from support.series import long_frame

from pipeline.core.errors import UserError
from pipeline.data.source import open_source
from pipeline.evaluation.backtest import make_task
from pipeline.forecasting.files import Parts, Request, check_request, forecast_store, identity_of, parts_of
from pipeline.forecasting.forecaster import Forecaster

LEVELS = [0.1, 0.5, 0.9]


@pytest.fixture
def store(tmp_path):
    frame = long_frame(n_series=10, freq="h")
    frame = frame[frame.groupby("item_id").cumcount() >= 9 * frame["item_id"].str[-1].astype(int)]
    return open_source(frame, tmp_path / "cache")


@pytest.fixture
def request_of_three(monkeypatch):
    """A request whose parts are of three items each."""
    monkeypatch.setattr("pipeline.forecasting.files._ITEMS_PER_PART", 3)
    return lambda **settings: Request(6, LEVELS, **settings)


def whole(forecaster, store, request):
    return pd.concat([part.to_pandas() for part in forecast_store(forecaster, store, request)], ignore_index=True)


def close(one, other):
    """Batches of other sizes round differently."""
    pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-4, atol=1e-4)


def test_parts_are_a_number_of_items_bounded_by_their_values(store):
    assert [len(part) for part in parts_of(store, Request(6, LEVELS))] == [10]
    assert Request(1000, [0.1] * 99).items_per_part() == (1 << 23) // 100_000


def test_an_interrupted_forecast_goes_on_with_the_next_part(nano, store, request_of_three, tmp_path, monkeypatch):
    forecaster, request = Forecaster.load(str(nano["bolt"])), request_of_three()
    path = tmp_path / "out" / "p.parquet"
    parts = Parts(path, {"seed": 0})
    parts.claim()
    filled = parts.fill(forecaster, store, request)
    assert next(filled) == 3 and next(filled) == 3
    filled.close()
    assert not path.exists()
    asked = []
    forecast = Forecaster.quantiles
    monkeypatch.setattr(
        Forecaster,
        "quantiles",
        lambda self, histories, *rest: asked.append(len(histories)) or forecast(self, histories, *rest),
    )
    again = Parts(path, {"seed": 0})
    again.claim()
    assert list(again.fill(forecaster, store, request)) == [3, 3, 3, 1] and asked == [3, 1]
    assert again.merge(4) == 60
    monkeypatch.undo()
    close(pd.read_parquet(path), whole(forecaster, store, request))
    assert [file.name for file in path.parent.iterdir()] == ["p.parquet"]


def test_parts_of_another_request_are_thrown_away(nano, store, request_of_three, tmp_path):
    forecaster = Forecaster.load(str(nano["bolt"]))
    for seed, found in ((0, 0), (0, 2), (1, 0)):
        parts = Parts(tmp_path / "p.csv", {"seed": seed})
        parts.claim()
        assert len(list(parts.folder.glob("*.arrow"))) == found
        filled = parts.fill(forecaster, store, request_of_three())
        next(filled), next(filled)
        filled.close()


def test_what_forecasts_depend_on_tells_runs_apart(nano, store, tmp_path):
    one = identity_of(str(nano["bolt"]), store, Request(6, LEVELS), 0, "fp32")
    assert json.loads(json.dumps(one)) == one
    assert one == identity_of(str(nano["bolt"]), store, Request(6, LEVELS, batch_size=3), 0, "fp32")
    for other in (
        identity_of(str(nano["t5"]), store, Request(6, LEVELS), 0, "fp32"),
        identity_of(str(nano["bolt"]), store, Request(7, LEVELS), 0, "fp32"),
        identity_of(str(nano["bolt"]), store, Request(6, [0.5]), 0, "fp32"),
        identity_of(str(nano["bolt"]), store, Request(6, LEVELS), 1, "fp32"),
        identity_of(str(nano["bolt"]), store, Request(6, LEVELS), 0, "bf16"),
        identity_of(str(nano["bolt"]), open_source(long_frame(), tmp_path), Request(6, LEVELS), 0, "fp32"),
    ):
        assert other != one


def test_shares_of_two_processes_make_the_file_of_one(nano, store, request_of_three, tmp_path):
    forecaster, request = Forecaster.load(str(nano["bolt"])), request_of_three()
    parts = Parts(tmp_path / "p.parquet", {})
    parts.claim()
    assert list(parts.fill(forecaster, store, request, rank=1, n_ranks=2)) == [3, 1]
    assert list(parts.fill(forecaster, store, request, rank=0, n_ranks=2)) == [3, 3]
    parts.merge(4)
    found = pd.read_parquet(tmp_path / "p.parquet")
    close(found, whole(forecaster, store, request))


def test_series_that_ended_long_ago_are_told_of(nano, tmp_path, caplog):
    frame = long_frame(n_series=4)
    ended = (frame["item_id"] == "item2") & (frame["timestamp"] > "2021-04-15")
    forecaster = Forecaster.load(str(nano["bolt"]))
    for horizon, said in ((15, False), (14, True)):  # the others go on for fifteen days more
        caplog.clear()
        check_request(forecaster, open_source(frame[~ended], tmp_path), Request(horizon, LEVELS))
        assert ("1 series end so long before the others" in caplog.text) == said
        assert ("item2, which ends at 2021-04-15T00:00:00" in caplog.text) == said


def run_alone_and_by_torchrun(name, cwd, *arguments, output):
    """Run a script by one process, then by two, each with an output of its own."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for launcher, where in (([], "one"), (torchrun, "two")):
        command = [sys.executable, *launcher, ROOT / "scripts" / f"{name}.py", *arguments, *output(where)]
        done = subprocess.run(list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_torchrun_forecasts_as_one_process_does(nano, tmp_path):
    frame = long_frame(n_series=7)
    frame.to_csv(tmp_path / "s.csv", index=False)
    arguments = ["--inference.model_path", nano["bolt"], "--inference.data_path", "s.csv"]
    arguments += ["--inference.prediction_length", 5]
    run_alone_and_by_torchrun(
        "forecast", tmp_path, *arguments, output=lambda where: ("--inference.output_path", f"{where}.csv")
    )
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()


def test_torchrun_evaluates_as_one_process_does(nano, tmp_path):
    """A token model's samples follow from the batch, and the batches are those of one process."""
    long_frame(n_series=7).to_csv(tmp_path / "s.csv", index=False)
    arguments = ["--evaluation.models", f"[{nano['t5']}]", "--evaluation.data_path", "s.csv"]
    arguments += ["--evaluation.prediction_length", 5, "--evaluation.windows", 3, "--evaluation.batch_size", 4]
    run_alone_and_by_torchrun(
        "evaluate",
        tmp_path,
        *arguments,
        "--evaluation.baselines",
        "[]",
        output=lambda where: ("--evaluation.report_path", where),
    )
    for name in ("scores.csv", "scores_by_series.csv", "forecasts.csv", "ranking.csv"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()


@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
def test_a_batch_that_does_not_fit_is_halved(nano, store, monkeypatch, family):
    forecaster, sizes, most = Forecaster.load(str(nano[family])), [], 3
    expected, predict = whole(forecaster, store, Request(6, LEVELS)), forecaster.pipeline.predict

    def limited(contexts, **settings):
        sizes.append(len(contexts))
        if len(contexts) > most:
            raise torch.OutOfMemoryError("no more")
        return predict(contexts, **settings)

    monkeypatch.setattr(forecaster.pipeline, "predict", limited)
    found = whole(forecaster, store, Request(6, LEVELS, batch_size=8))
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    np.testing.assert_allclose(found["0.9"], expected["0.9"], rtol=1e-4)
    most = 0
    with pytest.raises(UserError, match="one series"):
        whole(forecaster, store, Request(6, LEVELS, batch_size=8))


def test_what_was_read_of_a_store_is_given_back_and_read_again(store):
    before = store.target(3).copy()
    store.release_pages()
    np.testing.assert_array_equal(store.target(3), before)


def test_a_series_without_values_is_forecast_as_missing_beside_the_others(uncrossed, tmp_path, request_of_three):
    rows = [
        {"item_id": name, "start": "2020-01-01", "target": values} for name, values in (("A", [1, 5, 2]), ("B", []))
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = open_source(tmp_path / "s.jsonl", tmp_path / "cache", freq="D")
    found = whole(Forecaster.load(str(uncrossed["bolt"])), store, request_of_three())
    assert found["item_id"].tolist() == ["A"] * 6 + ["B"] * 6
    assert found["0.5"].notna().tolist() == [True] * 6 + [False] * 6
    assert len(make_task("s", store, 1, None, 1).cuts) == 1
