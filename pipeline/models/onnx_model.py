"""Models that were exported to ONNX: a folder with model.onnx, onnx.json and the JSON files of the checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal

from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import fingerprint
from pipeline.models.checkpoint import EXPORT_INFO, GRAPH, read_checkpoint
from pipeline.models.json_objects import Name, Part, read_object

if TYPE_CHECKING:
    import torch

ONNX_PACKAGES = "ONNX needs more packages. Install them with: pip install 'chronos-native[onnx]'"


class ExportInfo(Part):
    """What the pipeline reads of onnx.json."""

    graph: Name
    """Hash of model.onnx."""
    weights: Name
    """Hash of the checkpoint that was exported."""
    precision: Literal["float32", "int8"]


def read_export_info(folder: Path) -> ExportInfo:
    """Return onnx.json of an exported model.

    Raises:
        UserError: it is missing, or a value is wrong.
    """
    return read_object(folder / EXPORT_INFO, ExportInfo)[1]


class OnnxModel:
    """An exported model in the place of the torch model of a stock pipeline."""

    def __init__(self, folder: Path) -> None:
        """Load an exported model.

        Raises:
            UserError: it is incomplete, or model.onnx is not the exported one, or onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(ONNX_PACKAGES) from error
        import torch
        from transformers import PretrainedConfig

        checkpoint = read_checkpoint(folder)
        if read_export_info(folder).graph != fingerprint([folder / GRAPH]):
            raise UserError(f"{folder / GRAPH} has changed since it was exported. Export the model again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(folder / GRAPH, options, ["CPUExecutionProvider"])
        except Exception as error:  # of many kinds, without a common class
            raise UserError(f"cannot load {folder / GRAPH}: {to_one_line(error)}. Export the model again") from error
        self.config = PretrainedConfig.from_dict(checkpoint.config)
        self.chronos_config = SimpleNamespace(**{"max_output_patches": 1} | checkpoint.config["chronos_config"])
        self.device = torch.device("cpu")
        self.dtype = torch.float32

    def __call__(
        self,
        context: torch.Tensor,
        group_ids: torch.Tensor | None = None,
        future_covariates: torch.Tensor | None = None,
        num_output_patches: int = 1,
    ) -> SimpleNamespace:
        """Return `quantile_preds` [batch, n_levels, horizon], as the torch model does."""
        import torch

        inputs = {"context": context}
        if group_ids is not None:
            horizon = num_output_patches * self.chronos_config.output_patch_size
            future = torch.full((len(context), horizon), torch.nan) if future_covariates is None else future_covariates
            inputs |= {"future": future, "group_ids": group_ids}
        outputs = self._session.run(None, {name: values.numpy() for name, values in inputs.items()})
        return SimpleNamespace(quantile_preds=torch.from_numpy(outputs[0]))
