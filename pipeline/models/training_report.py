"""The report of a training: what training_info.json of a checkpoint says about it, as values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.models.checkpoint import TRAINING_INFO, training_info


@dataclass(frozen=True)
class TrainingReport:
    """How a model was trained, and its scores beside the base's on the validation windows. As a text, the verdict."""

    verdict: str
    """Whether training helped and which model is saved, in a few sentences."""
    base: str
    """Name of the base model."""
    horizon: int
    """Steps of the horizon."""
    steps: int
    """Optimizer steps of the training."""
    scores: dict[str, dict[str, float]]
    """WQL, MASE and loss of the base and of every candidate on the validation windows; empty without a holdout."""
    wql_reduction: float | None
    """Reduction of WQL against the base in per cent; None if the base is saved or nothing was held out."""
    interval: tuple[float, float] | None
    """95% interval of the reduction, by a bootstrap over series."""
    n_better: int | None
    """Number of series on which the model's WQL is lower than the base's."""
    n_series: int | None
    """Number of series that were compared."""
    old_wql_reduction: float | None
    """Reduction of WQL against the base in per cent on the validation windows of the base's own training, negative if
    the model has forgotten; None if it was not measured."""

    @staticmethod
    def read(model_path: str | Path) -> TrainingReport:
        """Read the report of a checkpoint folder.

        Raises:
            UserError: the model was not trained by this package, or its training_info.json has a wrong value.
        """
        content, info = training_info(model_path)
        if not content:
            raise UserError(f"{model_path} has no {TRAINING_INFO}: it was not trained by this package")
        if info.verdict is None or info.base_model is None or info.horizon is None:
            raise UserError(
                f"{model_path}/{TRAINING_INFO} has no verdict, base_model or horizon. Train the model again"
            )
        comparison = info.comparison.model_dump() if info.comparison else {}
        return TrainingReport(
            verdict=info.verdict,
            base=info.base_model,
            horizon=info.horizon,
            steps=info.steps,
            scores={row.candidate: row.model_dump(exclude={"candidate"}) for row in info.candidates},
            wql_reduction=comparison.get("reduction"),
            interval=(comparison["low"], comparison["high"]) if comparison else None,
            n_better=comparison.get("n_better"),
            n_series=comparison.get("n_series"),
            old_wql_reduction=info.forgetting.reduction if info.forgetting else None,
        )

    def __str__(self) -> str:
        return self.verdict
