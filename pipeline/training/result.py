"""The result of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.comparison import Comparison
from pipeline.forecasting.plots import DrawnForecast
from pipeline.training.forgetting import describe_forgetting
from pipeline.training.prepare import TrainingRun
from pipeline.training.selection import Refit, Selection, describe


@dataclass(frozen=True)
class TrainingResult:
    """The model that a run ends with, and how it came about."""

    run: TrainingRun
    model: Any
    """The model to save, adapters merged."""
    adapter: tuple[Any, dict[str, Any]] | None
    """Configuration and weights of the low-rank adapters, if they fit the base."""
    selection: Selection | None
    """None if nothing was held out."""
    comparison: Comparison | None
    """The selected model beside the base on the validation windows; None if nothing was held out, if the base won, or
    if WQL is not defined."""
    refit: Refit | None
    """None if the winner was not retrained."""
    flip: bool
    """Whether the model's forecasts are averaged with those of the negated series."""
    forgetting: Comparison | str | None
    """The saved model beside the base on the validation windows of the base's own training, or why they were not
    scored; None if the base was not trained by this package, or is saved itself."""
    drawn: list[DrawnForecast]
    """Forecasts of some validation windows by the selected model, beside the base's if it is another."""
    history: list[dict[str, Any]]
    """The log of the first training."""
    identity: dict[str, Any]
    """Everything that the weights depend on."""
    mlflow_run: str | None = None
    """ID of the MLflow run, if there is one."""

    @property
    def verdict(self) -> str:
        """Whether training helped and which model is saved, in a few sentences."""
        answer = describe(self.selection, self.comparison, self.refit, self.run.config.training.metric)
        return f"{answer}{describe_forgetting(self.forgetting)}"
