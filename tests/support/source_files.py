"""Series in every format that can be read, for the tests of sources."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from support.series import long_frame

from pipeline.core.errors import UserError

FRAME = long_frame(n_series=3, length=20).assign(target=lambda frame: frame["target"].round(3))
VALID_ROWS = [f"A,2020-01-{day:02d},{day}" for day in range(1, 6)]
FORMATS = ["csv", "csv semicolons", "tsv", "csv bom", "csv quoted", "csv.gz", "parquet", "parquet nested", "feather"]
FORMATS += ["feather v1", "jsonl", "jsonl gluonts", "json.gz", "parts", "gluonts", "datasets", "datasets dict", "frame"]
FORMATS += ["arrow file", "ipc file", "arrow stream", "arrow zstd", "jsonl nested", "parquetparts", "xlsx"]


def refused(*facts):
    """Expect a UserError whose message has these facts, as regular expressions, in this order.

    A fact such as data.freq is the key in a message of a command, and the argument freq in one of `open_source`.
    """
    return pytest.raises(UserError, match="(?s)" + ".*".join(fact.removeprefix("data.") for fact in facts))


def write_csv(folder, *rows, header="item_id,timestamp,target", name="s.csv"):
    """Write lines of a CSV file, and return its path."""
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def write_json(folder, rows):
    """Write rows as a JSON Lines file, and return its path."""
    path = folder / "s.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(path)


def gluonts_rows(frame):
    """One record per series, with NaN as a string."""
    for name, rows in frame.groupby("item_id", sort=False):
        target = ["NaN" if np.isnan(value) else value for value in rows["target"]]
        yield {"item_id": name, "start": str(rows["timestamp"].iloc[0]), "target": target}


def to_nested(frame):
    """One row per series, with lists of timestamps and values."""
    rows = [
        {"item_id": name, "timestamp": rows["timestamp"].tolist(), "target": rows["target"].tolist()}
        for name, rows in frame.groupby("item_id", sort=False)
    ]
    return pa.Table.from_pylist(rows)


def write_source(kind, folder, frame=FRAME):
    """Write a frame in one of `FORMATS`, and return what `open_source` takes."""
    path = folder / f"s.{kind.split()[0]}"
    lines = [json.dumps(row) for row in json.loads(frame.to_json(orient="records", date_format="iso"))]
    match kind:
        case "csv":
            frame.to_csv(path, index=False)
        case "csv semicolons":
            frame.to_csv(path, index=False, sep=";")
        case "tsv":
            frame.to_csv(path, index=False, sep="\t")
        case "csv bom":
            frame.to_csv(path, index=False, encoding="utf-8-sig")
        case "csv quoted":
            frame.to_csv(path, index=False, quoting=2)
        case "csv.gz":
            frame.to_csv(path, index=False)
        case "xlsx":
            frame.to_excel(path, index=False)
        case "parquet":
            frame.to_parquet(path)
        case "parquet nested":
            pa.parquet.write_table(to_nested(frame), path)
        case "feather":
            pyarrow.feather.write_feather(frame, path)
        case "feather v1":
            pyarrow.feather.write_feather(frame, path, version=1)
        case "arrow file" | "ipc file" | "arrow stream" | "arrow zstd":
            table = pa.Table.from_pandas(frame, preserve_index=False)
            options = pa.ipc.IpcWriteOptions(compression="zstd" if "zstd" in kind else None)
            new_writer = pa.ipc.new_file if "file" in kind else pa.ipc.new_stream
            with new_writer(str(path), table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=7)
        case "jsonl":
            path.write_text("\n".join(lines))
        case "jsonl gluonts":
            path.write_text("\n".join(map(json.dumps, gluonts_rows(frame))) + "\n")
        case "json.gz":
            with gzip.open(path, "wt") as file:
                file.write("\n".join(lines))
        case "jsonl nested":
            rows = to_nested(frame.assign(timestamp=frame["timestamp"].astype(str))).to_pylist()
            path.write_text("\n".join(map(json.dumps, rows)))
        case "parquetparts":
            path.mkdir()
            for part, start in enumerate(range(0, len(frame), 13)):
                frame.iloc[start : start + 13].to_parquet(path / f"part{part}.parquet")
        case "parts":
            path.mkdir()
            for part, name in enumerate(frame["item_id"].unique()):
                frame[frame["item_id"] == name].to_csv(path / f"part{part}.csv", index=False)
        case "gluonts":
            for name in ("metadata", "train", "test"):
                (path / name).mkdir(parents=True)
            (path / "metadata" / "metadata.json").write_text('{"freq": "D"}')
            rows = "\n".join(map(json.dumps, gluonts_rows(frame)))
            (path / "train" / "data.json").write_text(rows)
            (path / "test" / "data.json").write_text("never read")
        case "datasets":
            import datasets

            datasets.Dataset(to_nested(frame)).save_to_disk(path)
        case "datasets dict":
            import datasets

            datasets.DatasetDict({"train": datasets.Dataset(to_nested(frame))}).save_to_disk(path)
        case "frame":
            return frame
    return str(path)


def to_dict(store):
    """The frequency, start and values of each series, by item ID."""
    return {
        name: (store.freq, store.starts[index], store.target(index).tolist())
        for index, name in enumerate(store.item_ids)
    }
