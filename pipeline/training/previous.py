"""The validation windows of a base's own training, on which a retrained model shows what it has forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Config, DataConfig, TrainingConfig, source_name
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import Store
from pipeline.models.checkpoint import read_checkpoint, read_formats, training_info
from pipeline.synthetic.bank import SYNTHETIC
from pipeline.windows.prepare import holdout_windows
from pipeline.windows.training_sets import open_training_data
from pipeline.windows.validation_windows import ValidationWindows


def previous_windows(config: Config, base: Path) -> ValidationWindows | str | None:
    """Return the windows on which the candidates of a base's training were scored, or why they cannot be.

    Only local files are opened, since the description of a foreign model may name any address; and only files that have
    not changed since that training.

    Returns:
        the windows, the reason as the end of a sentence, or None for a base that was not trained by this package.
    """
    content, info = training_info(base)
    if info.config is None or info.identity is None or info.horizon is None:
        return None
    if any(store.in_memory for store in info.data):
        return "the base was trained on data in memory"
    try:
        earlier = _earlier_config(config, content["config"])
        sources = [source.path for source in earlier.data.sources()] or [str(earlier.dummy_path())]
        sources = [source for source in sources if not str(source).startswith(SYNTHETIC)]
        if not sources:
            return "the base was trained on synthetic series alone"
        if earlier.training.validation_split == 0:
            return "the training of the base held nothing out"
        for source in sources:
            if not isinstance(source, str) or not Path(source).exists():
                return f"{source_name(source)}, which the base was trained on, is not a file on this machine"
        sets = open_training_data(earlier, read_formats(base))
        hashes = sorted(entry.series.fingerprint for entry in sets if isinstance(entry.series, Store))
        if hashes != sorted(name for entry in info.identity.data for name in entry.stores):
            return f"{', '.join(map(source_name, sources))} has changed since the training of the base"
        checkpoint = read_checkpoint(base)
        return holdout_windows(sets, earlier, checkpoint.family, checkpoint.context_length, info.horizon)
    except UserError as error:
        return f"the training data of the base cannot be read: {error}"


def _earlier_config(config: Config, saved: dict[str, Any]) -> Config:
    """Return a configuration with the data and the holdout of an earlier one.

    Raises:
        UserError: a value of the earlier one is wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        data = TypeAdapter(DataConfig).validate_python(saved["data"])
        training = TypeAdapter(TrainingConfig).validate_python(saved["training"])
    except ValidationError as error:
        raise UserError(f"its training_info.json has a wrong configuration ({error.error_count()} values)") from error
    names = ("validation_split", "validation_windows", "min_past")
    holdout = {name: getattr(training, name) for name in names}
    return replace(config, data=data, training=replace(config.training, **holdout))
