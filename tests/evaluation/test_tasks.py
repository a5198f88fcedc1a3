"""The data sets of evaluation.data_path, and of a JSON index."""

import json

import numpy as np
import pytest
from support.series import long_frame

from pipeline.config import Config, EvaluationConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.evaluation.tasks import open_tasks


def tasks_of(data_path, folder):
    paths = PathsConfig(data_dir=str(folder))
    return open_tasks(Config(evaluation=EvaluationConfig(data_path=data_path), paths=paths))


def test_an_entry_of_an_index_configures_its_task(tmp_path):
    long_frame().to_csv(tmp_path / "s.csv", index=False)
    entries = [
        {"file": "s.csv", "name": "first", "prediction_length": 5, "seasonality": 3},
        {"path": "s.csv", "note": 1},
    ]
    (tmp_path / "index.json").write_text(json.dumps(entries))
    first, second = tasks_of(str(tmp_path / "index.json"), tmp_path)
    assert (first.name, first.prediction_length, first.seasonality) == ("first", 5, 3)
    assert (second.name, second.prediction_length, second.seasonality) == ("s", 48, 7)


@pytest.mark.parametrize("entry, fact", [
    ({"prediction_length": 0}, "prediction_length"),
    ({"seasonality": -7}, "seasonality"),
    ({"prediction_length": "7"}, "prediction_length of s.csv .*'7'"),
    ({"prediction_length": 7.5}, "7.5"),
    ({"seasonality": True}, "seasonality of s.csv .*True"),
    ({"name": 5}, "name of s.csv .*5"),
    ({"prediction_lenght": 5}, "'prediction_lenght'.*'prediction_length'"),
    ({"file": 3}, "index.json: .*3"),
    (None, "index.json"),
])  # fmt: skip
def test_a_wrong_index_is_refused_with_its_entry_and_key(tmp_path, entry, fact):
    long_frame().to_csv(tmp_path / "s.csv", index=False)
    (tmp_path / "index.json").write_text(json.dumps([] if entry is None else [{"file": "s.csv", **entry}]))
    with pytest.raises(UserError, match=fact):
        tasks_of(str(tmp_path / "index.json"), tmp_path)


def test_two_data_sets_of_the_same_name_are_refused(tmp_path):
    path = str(tmp_path / "s.csv")
    long_frame().to_csv(path, index=False)
    with pytest.raises(UserError, match=r"evaluation.data_path: .*\bs\b"):
        tasks_of([path, path], tmp_path)


def test_a_json_file_of_series_is_not_an_index(tmp_path):
    rows = [{"item_id": "A", "target": [1, 2, 3, 4, 5]}, {"item_id": "B", "target": [1, 5]}]
    (tmp_path / "s.json").write_text("\n".join(map(json.dumps, rows)))
    (task,) = tasks_of(str(tmp_path / "s.json"), tmp_path)
    assert list(task.store.item_ids) == ["A", "B"]
    np.testing.assert_array_equal(task.store.target(1), [1, 5])


@pytest.mark.parametrize("names", [("item_id", "target"), ("item_id", "timestamp", "target")])
def test_a_json_array_of_rows_is_not_an_index(tmp_path, names):
    frame = long_frame()[list(names)]
    frame.astype({"timestamp": str} if "timestamp" in names else {}).to_json(tmp_path / "s.json", orient="records")
    (task,) = tasks_of(str(tmp_path / "s.json"), tmp_path)
    assert list(task.store.item_ids) == list(frame["item_id"].unique())
    np.testing.assert_allclose(np.concatenate([*map(task.store.target, range(len(task.store)))]), frame["target"])


def test_an_index_with_an_entry_that_is_no_object_is_refused(tmp_path):
    long_frame().to_csv(tmp_path / "s.csv", index=False)
    for entries in (["s.csv"], [{"file": "s.csv"}, "s.csv"], [{"name": "s"}, "s.csv"]):
        (tmp_path / "index.json").write_text(json.dumps(entries))
        with pytest.raises(UserError, match="has no file"):
            tasks_of(str(tmp_path / "index.json"), tmp_path)
