"""Reading of data sets on the Hugging Face Hub, and of the folders that `save_to_disk` of `datasets` writes."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import read_json
from pipeline.data.columns import Columns, select_columns
from pipeline.data.readers.arrow import NESTED_ROWS, validated
from pipeline.data.readers.files import is_datasets_folder
from pipeline.data.rows import SourceLocation


def hub_commit(source: str) -> str | None:
    """Return the commit of a data set on the Hub, None if the Hub is not reachable and a cached copy is used."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(source.partition(":")[0]).sha
    except Exception:  # the errors have no common base class; loading reports one that matters
        return None


def read_hub(source: str, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of the train split of a data set on the Hub, named `owner/name` or `owner/name:subset`.

    Raises:
        UserError: the data set cannot be loaded, or lacks a column.
    """
    import datasets

    name, _, subset = source.partition(":")
    try:
        dataset = datasets.load_dataset(name, subset or None, split="train")
    except Exception as error:  # errors of the Hub client, the network and datasets have no common base class
        raise UserError(
            f"{source} is not a file, and cannot be loaded from the Hub: {to_one_line(error)}; check its name"
        ) from error
    names = select_columns(dataset.column_names, columns, source, location)
    n_rows = 0
    for table in dataset.with_format("arrow").iter(batch_size=NESTED_ROWS):
        n_rows += len(table)
        location.fraction_read = n_rows / len(dataset)
        yield validated(table.select(names))


def datasets_files(folder: Path) -> list[Path]:
    """Return the Arrow files of a folder written by `datasets`, of its split `train` if there are several splits.

    They are read without `datasets`, which maps them into memory and does not check them. Any other folder has none.

    Raises:
        UserError: the folder has no split `train`, or its metadata are damaged.
    """
    if not is_datasets_folder(folder):
        return []
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = read_json(folder / "dataset_dict.json")["splits"]
            if "train" not in splits:
                raise UserError(f"{folder} has no train split, only {', '.join(splits)}; give the folder of one split")
            folder = folder / "train"
        files = [folder / entry["filename"] for entry in read_json(folder / "state.json")["_data_files"]]
        if any(file.parent != folder for file in files):
            raise KeyError("a data file is in another folder")
    except (KeyError, TypeError) as error:
        raise UserError(f"cannot read the datasets folder {folder}: its metadata are damaged; save it again") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise UserError(f"{folder}: {' and '.join(missing) or 'every data file'} is missing; save it again")
    return files
