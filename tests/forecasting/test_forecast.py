"""The command forecast.py."""

import json

import numpy as np
import pandas as pd
from support.series import long_frame


def arguments(model, data, length):
    return ["--inference.model_path", model, "--inference.data_path", data, "--inference.prediction_length", length]


def test_forecasts_have_the_timestamps_after_the_data(tiny, tmp_path, csv, run_script):
    paths = ["--inference.plot_path", "p.png", "--inference.output_path", "f.csv"]
    code, out, err = run_script("forecast", *arguments(tiny["bolt"], csv, 7), *paths)
    assert (code, err) == (0, "")
    frame = pd.read_csv(tmp_path / "f.csv", parse_dates=["timestamp"])
    last = pd.read_csv(csv, parse_dates=["timestamp"]).groupby("item_id")["timestamp"].max()
    first = frame.groupby("item_id")["timestamp"].min()
    assert ((first - last) == pd.Timedelta(days=1)).all() and len(frame) == 42
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG") and "f.csv" in out


def test_a_series_without_values_is_forecast_as_missing_and_named(tiny, tmp_path, run_script):
    frame = long_frame(n_series=2)
    empty = frame[frame["item_id"] == "item0"].assign(item_id="silent", target=np.nan)
    pd.concat([frame, empty]).to_parquet(tmp_path / "s.parquet")
    output = ["--inference.output_path", "f.jsonl"]
    code, out, _ = run_script("forecast", *arguments(tiny["bolt"], "s.parquet", 3), *output)
    rows = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert code == 0 and "silent" in out and len(rows) == 9
    assert all((row["predictions"] is None) == (row["item_id"] == "silent") for row in rows)


def test_a_file_that_is_read_is_not_overwritten(tiny, tmp_path, csv, run_script):
    before = csv.read_text()
    code, _, err = run_script("forecast", *arguments(tiny["bolt"], csv, 2), "--inference.output_path", csv)
    assert code == 2 and "inference.output_path" in err and csv.read_text() == before
