"""Fine-tune Chronos time-series models on your series, and forecast with them.

```python
from pipeline import fine_tune, load

model = fine_tune(df, horizon=28, target="sales", id_column="store", timestamp_column="date")
forecast = model.predict_df(df)
model = load("data/models/trained")  # later, in another process
```
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.base_model import ChronosBaseModel
    from pipeline.config import Config
    from pipeline.core.errors import UserError
    from pipeline.data.source import open_source
    from pipeline.load_model import ChronosLoader
    from pipeline.models.training_report import TrainingReport
    from pipeline.train_model import ChronosTrainer

__version__ = "0.1.0"
__all__ = [
    "ChronosBaseModel",
    "ChronosLoader",
    "ChronosTrainer",
    "Config",
    "TrainingReport",
    "UserError",
    "fine_tune",
    "load",
    "open_source",
]
_MODULES = {
    "ChronosBaseModel": "base_model",
    "ChronosLoader": "load_model",
    "ChronosTrainer": "train_model",
    "Config": "config",
    "TrainingReport": "models.training_report",
    "UserError": "core.errors",
    "open_source": "data.source",
}


def fine_tune(
    data: Any,
    horizon: int | None = None,
    *,
    target: str | Sequence[str] | None = None,
    id_column: str | Sequence[str] | None = None,
    timestamp_column: str | Sequence[str] | None = None,
    known_covariates: str | Sequence[str] | None = None,
    past_covariates: str | Sequence[str] | None = None,
    base: str | None = None,
    method: str | None = None,
    max_steps: int | None = None,
    time_limit: float | None = None,
    output_path: str | Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    config: Config | str | Path | None = None,
    **options: Any,
) -> ChronosLoader:
    """Fine-tune a base model on your series, save the model, and return it, ready to forecast.

    The base is scored first. If training does not lower the loss on held-out steps, the base is saved, and the report
    says so. An argument that is left out has the default of the command line (docs/configuration.md).

    Args:
        data: a path of any format, a long table of pandas, polars or pyarrow, an array [n_series, length], or a store.
        horizon: steps to forecast. The last `horizon` steps of each series are left out for `evaluate`; with
            `test_length=0` the model is trained on everything.
        target: column of the values; several are forecast together, by Chronos-2.
        id_column: column of the item ID; several form it together.
        timestamp_column: column of the timestamps.
        known_covariates: columns that are known over the horizon too, for Chronos-2.
        past_covariates: columns that are known up to the forecast start, for Chronos-2.
        base: a Hub ID, a folder, `builtin:chronos2-synth`, or `scratch:SIZE`; `amazon/chronos-bolt-base` by default.
        method: `full` for all weights, or `lora` for low-rank adapters.
        max_steps: optimizer steps.
        time_limit: seconds that the call may take; the steps are reduced to fit.
        output_path: folder of the trained model; `data/models/trained` by default.
        seed: of windows, dropout and sampled forecasts.
        device: `cpu`, `cuda`, `mps`, or `auto` for a GPU if there is one.
        config: settings of all sections, or a YAML file with them; arguments take precedence.
        options: any other key of the sections `data` and `training`, such as `freq="D"` or `overwrite=True`.

    Raises:
        UserError: an argument, the data or the base is wrong; the message is one line.
    """
    from pipeline.front_door import fine_tune as run

    arguments = {name: value for name, value in locals().items() if name not in ("run", "data", "config", "options")}
    return run(data, config, {**arguments, **options})


def load(path: str | Path, *, device: str | None = None, config: Config | None = None) -> ChronosLoader:
    """Load a trained model, a base, or any other Chronos model for forecasts.

    Args:
        path: a checkpoint folder, a Hub ID, an s3:// prefix or `builtin:chronos2-synth`.
        device: `cpu`, `cuda`, `mps`, or `auto` for a GPU if there is one.
        config: all settings; None takes columns, horizon and levels from the training of the model, if it is not under
            an s3:// prefix.

    Raises:
        UserError: there is no such model, or its checkpoint is incomplete.
    """
    from pipeline.front_door import load as run

    return run(str(path), device, config)


def __getattr__(name: str) -> Any:
    # The classes import torch, which takes seconds.
    if name in _MODULES:
        return getattr(import_module(f"pipeline.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
