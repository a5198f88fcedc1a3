"""The group of each series: read from columns, constant within a series, kept in the store."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.groups import grouped_frame
from support.source_files import refused

from pipeline.config import Config, DataConfig
from pipeline.core.errors import UserError
from pipeline.core.series import Series, Variates
from pipeline.data.arrow_store import NotAStore, open_store, store_from_series, write_store
from pipeline.data.columns import Columns
from pipeline.data.source import open_configured, open_source

GROUPED = Columns(group=("region",))


def names_of(store):
    """Return the group of each item."""
    return {item_id: store.group_names[group] for item_id, group in zip(store.item_ids, store.groups)}


@pytest.fixture(scope="module")
def frame():
    return grouped_frame()


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_groups_of_a_file_are_those_of_its_rows(frame, tmp_path, suffix, shuffled):
    table = frame.sample(frac=1, random_state=0) if shuffled else frame
    path = tmp_path / f"s.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path, index=False)
    store = open_source(path, tmp_path, GROUPED)
    assert names_of(store) == dict(zip(frame["item_id"], frame["region"]))
    first_rows = dict.fromkeys(names_of(store)[item_id] for item_id in table["item_id"])
    assert list(store.group_names) == list(first_rows)
    assert open_source(path, tmp_path).groups is None


def test_several_columns_form_a_group_and_may_be_those_of_the_item_id(frame, tmp_path):
    table = frame.assign(kind=frame["item_id"].str[-1].astype(int) % 2)
    columns = Columns(item_id=("region", "item_id"), group=("region", "kind"))
    assert set(open_source(table, tmp_path, columns).group_names) == {"a/0", "a/1", "b/0", "b/1", "c/0", "c/1"}
    config = Config(data=DataConfig(id_column=["region", "item_id"], group_column="region"))
    assert names_of(open_configured(config, frame))["b/s1"] == "b"


@pytest.mark.parametrize("row", [15, 100, 506])
def test_two_groups_in_a_series_are_refused_by_its_name(frame, tmp_path, row):
    table = frame.assign(region=frame["region"].where(frame.index != row, "other"))
    table.to_csv(tmp_path / "s.csv", index=False)
    with refused(f"row {row + 1}", f"series {table['item_id'][row]} ", "'other'", f"'{frame['region'][row]}'"):
        open_source(tmp_path / "s.csv", tmp_path, GROUPED)


def test_rows_without_a_group_and_files_without_the_column_are_refused(frame, tmp_path):
    table = frame.assign(region=frame["region"].where(frame.index != 3))
    with refused("row 4 has no region"):
        open_source(table, tmp_path, GROUPED)
    with refused("no column 'region'", "data.group_column"):
        open_source(frame.drop(columns="region"), tmp_path, GROUPED)
    nested = pd.DataFrame({"item_id": ["a"], "region": ["x"], "target": [[1.0, 2.0]]})
    with pytest.raises(UserError, match="groups"):
        open_source(nested, tmp_path, GROUPED)
    with pytest.raises(UserError, match="data.wide"):
        DataConfig(wide=True, group_column="region")
    with pytest.raises(UserError, match="data.group_column"):
        DataConfig(group_column=["region", ""])


def grouped_series(variates=Variates()):
    rng = np.random.default_rng(0)
    for k in range(3000):
        shape = (len(variates), 20) if len(variates) > 1 else 20
        target = rng.normal(size=shape).astype(np.float32)
        yield Series(f"item{k}", np.datetime64("2020-01-01", "s"), "h", target, variates, f"group {k % 7}")


@pytest.mark.parametrize("variates", [Variates(), Variates(("a", "b"), ("c",))])
def test_a_store_keeps_the_groups(tmp_path, variates):
    write_store(tmp_path / "s.arrow", grouped_series(variates))
    opened, in_memory = open_store(tmp_path / "s.arrow"), store_from_series(grouped_series(variates))
    for store in (opened, in_memory, pickle.loads(pickle.dumps(opened)), pickle.loads(pickle.dumps(in_memory))):
        assert list(store.group_names) == [f"group {k}" for k in range(7)]
        np.testing.assert_array_equal(store.groups, np.arange(3000) % 7)
        np.testing.assert_array_equal(store.rows(2999), in_memory.rows(2999))
    with pytest.raises(UserError, match="without groups"):
        plain = tmp_path / "plain.arrow"
        write_store(plain, (Series("x", np.datetime64(0, "s"), "h", np.ones(3, np.float32)) for _ in range(1)))
        open_source(plain, tmp_path, GROUPED)


@pytest.mark.filterwarnings("ignore:Using .json.-module:UserWarning")
def test_gluonts_and_datasets_read_a_store_with_groups(tmp_path):
    import datasets
    from gluonts.dataset.common import FileDataset
    from gluonts.itertools import Filter

    write_store(tmp_path / "s.arrow", grouped_series())
    read = open_store(tmp_path / "s.arrow")
    # The training script of chronos-forecasting filters a FileDataset in this way.
    entries = list(Filter(lambda entry: len(entry["target"]) >= 10, FileDataset(tmp_path / "s.arrow", freq="h")))
    assert len(entries) == 3000
    for index in (0, 2999):
        np.testing.assert_array_equal(entries[index]["target"], read.target(index))
        assert entries[index]["item_id"] == read.item_ids[index]
    assert datasets.Dataset.from_file(str(tmp_path / "s.arrow"))[8]["group"] == "group 1"


def test_a_store_with_another_column_or_two_groups_in_an_item_is_refused(tmp_path):
    write_store(tmp_path / "s.arrow", grouped_series(Variates(("a", "b"))))
    with pa.ipc.open_stream((tmp_path / "s.arrow").read_bytes()) as reader:
        table = reader.read_all()

    def write(changed):
        with pa.ipc.new_stream(str(tmp_path / "changed.arrow"), changed.schema) as writer:
            writer.write_table(changed)
        return open_store(tmp_path / "changed.arrow")

    groups = table["group"].to_pylist()
    assert len(write(table)) == 3000
    with pytest.raises(UserError, match="complete"):
        write(table.set_column(3, table.schema.field("group"), pa.array(["other", *groups[1:]])))
    with pytest.raises(NotAStore):
        write(table.rename_columns(["item_id", "start", "target", "region"]))
    with pytest.raises(NotAStore):
        write(table.set_column(3, table.schema.field("group"), pa.array([None, *groups[1:]])))
