"""Export models to ONNX: one file that runs without torch, and a JSON file that describes it."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.config import Config
from pipeline.core.checks import check_outputs
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_folder, fingerprint, write_json
from pipeline.core.locks import locked
from pipeline.core.processes import Processes
from pipeline.models.checkpoint import (
    EXPORT_INFO,
    GRAPH,
    TRAINING_INFO,
    Checkpoint,
    is_export,
    read_checkpoint,
    training_info,
    weights_fingerprint,
)
from pipeline.models.find import find_model
from pipeline.models.load import read_model
from pipeline.models.onnx_model import ONNX_PACKAGES, read_export_info

_KEY = "export.output_path"
_OPSET = 18
"""The version of ONNX's operators that torch's exporter is written for; others are converted from it."""
_OUTPUTS = {
    "bolt": {"quantiles": "[batch, level, step]: all steps of the horizon"},
    "chronos-2": {"quantiles": "[row, level, step]: as many steps as `future` has; ignore the rows of covariates"},
}
_INPUTS = {
    "bolt": {"context": "float32 [batch, length]: the history, oldest step first; NaN where missing, and to pad"},
    "chronos-2": {
        "context": "float32 [row, length]: the history of a target or covariate; NaN where missing, and to pad",
        "future": "float32 [row, step]: known covariates at the steps to forecast; NaN for targets and past covariates",
        "group_ids": "int64 [row]: rows with the same number are forecast together",
    },
}
logger = logging.getLogger(__name__)


def provide_export(config: Config, model: str) -> str:
    """Return the folder of the exported model, after exporting it as `export_model` does if it is not there.

    Several processes call this together; the first one exports.

    Raises:
        UserError: as `export_model` does.
    """
    source, folder = find_model(model), config.export_path()
    if is_export(source):
        return model
    processes = Processes()
    with processes.first_alone(config.chronos.device):
        if processes.rank == 0 and not (is_export(folder) and _is_current(folder, source, config)):
            export_model(config, model)
    return str(folder)


def _is_current(folder: Path, source: Path, config: Config) -> bool:
    """Return whether an export has the weights and training_info.json of a checkpoint, in the configured precision."""
    info = read_export_info(folder)
    remembered, copied = (path / TRAINING_INFO for path in (source, folder))
    is_same = remembered.is_file() == copied.is_file()
    is_same = is_same and (not copied.is_file() or remembered.read_bytes() == copied.read_bytes())
    precision = "int8" if config.export.int8 else "float32"
    return is_same and (info.weights, info.precision) == (weights_fingerprint(source), precision)


def export_model(config: Config, model: str) -> dict[str, Any]:
    """Export a model to the folder export.output_path, and return the content of onnx.json.

    Raises:
        UserError: the model or the folder cannot be used, or a package is missing.
    """
    folder = config.export_path()
    check_outputs(folders={_KEY: folder}, inputs={"export.model_path": [model]})
    checkpoint = read_checkpoint(find_model(model))
    if checkpoint.family not in _INPUTS:
        raise UserError(
            f"export.model_path: {model} is a {checkpoint.family} model, which draws samples. Only Bolt and Chronos-2 "
            "models can be exported"
        )
    if is_export(checkpoint.path):
        raise UserError(f"export.model_path: {model} is an exported model. Name the checkpoint")
    if folder.is_dir() and any(folder.iterdir()) and not is_export(folder):
        raise UserError(f"{_KEY}: {folder} is not empty and contains no exported model. Choose another folder")
    with locked(folder, _KEY), atomic_folder(folder) as temporary:
        _write_graph(checkpoint, temporary / GRAPH)
        if config.export.int8:
            _quantize(temporary / GRAPH)
        for name in ("config.json", TRAINING_INFO):
            if (checkpoint.path / name).is_file():
                shutil.copyfile(checkpoint.path / name, temporary / name)
        info = _describe(checkpoint, temporary / GRAPH, model, config.export.int8)
        write_json(temporary / EXPORT_INFO, info)
    logger.info("exported %s to %s (%.1f MB)", model, folder, (folder / GRAPH).stat().st_size / 1e6)
    return info


def _write_graph(checkpoint: Checkpoint, file: Path) -> None:
    import torch

    from pipeline.models.onnx_graphs import BoltGraph, Chronos2Graph

    model: Any = read_model(checkpoint.path).float().eval()
    model.set_attn_implementation("eager")  # the exporter does not know the other one's mask
    graph = (BoltGraph if checkpoint.family == "bolt" else Chronos2Graph)(model).eval()
    inputs, shapes = graph.example()
    with _quiet():
        program = torch.onnx.export(
            graph,
            kwargs=inputs,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=["quantiles"],
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph:  # they have paths of this machine
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()
        program.save(file)


def _quantize(file: Path) -> None:
    """Replace the weights of matrix products by whole numbers of 8 bits, with a scale for each column.

    Only 7 bits are used: processors without VNNI add two products in 16 bits, which 8 bits overflow.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(file, file, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch and onnxruntime print, warn and log while they export.

    Raises:
        UserError: a package is missing.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise UserError(ONNX_PACKAGES) from error
    finally:
        logging.disable(disabled)


def _describe(checkpoint: Checkpoint, graph: Path, model: str, int8: bool) -> dict[str, Any]:
    """Return the content of onnx.json: all that a program needs to use the graph."""
    content, info = training_info(checkpoint.path)
    data = {} if info.config is None else info.config.data.model_dump(exclude_unset=True)
    names = ("id_column", "timestamp_column", "target", "past_covariates", "known_covariates")
    return {
        "model": model,
        "family": checkpoint.family,
        "precision": "int8" if int8 else "float32",
        "context_length": checkpoint.context_length,
        "horizon": checkpoint.prediction_length,
        "trained_horizon": info.horizon,
        "quantiles": checkpoint.quantiles,
        "inputs": _INPUTS[checkpoint.family],
        "outputs": _OUTPUTS[checkpoint.family],
        "scaling": "in the graph: values in, values out",
        "columns": {name: data[name] for name in names if name in data},
        "categories": content.get("variates", {}).get("categories", {}),
        "freq": None if info.formats is None else info.formats.freq,
        "flip": info.flip,
        "weights": weights_fingerprint(checkpoint.path),
        "graph": fingerprint([graph]),
        "version": __version__,
    }
