"""Copy a pretrained checkpoint into the package, with a model card and a reference forecast.

python tools/publish_builtin.py chronos2-synth data/pretrain/trained
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_folder, read_json, write_json
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.tables import markdown_table
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.builtin import BUILTIN
from pipeline.models.checkpoint import TRAINING_INFO, model_horizon, read_checkpoint

MAX_BYTES = 12_000_000
"""Maximum size of the weights: the repository and every installed package carry them."""
SYNTHETIC_SOURCES = ("synthetic:bank", "synthetic:panels")
"""Values of data.train without real series."""
FORECAST_FILE, EARLIER_INFO = "forecast.json", "earlier_training_info.json"
_FAMILY_NAMES = {"bolt": "Chronos-Bolt", "chronos-2": "Chronos-2"}
_HORIZON = 24
"""Steps of the reference forecast: one season of its context."""
_CHECKPOINT_FILES = ("config.json", "model.safetensors", TRAINING_INFO)


def publish(checkpoint: Path, name: str, parent: Path) -> Path:
    """Write a checkpoint to `parent / name` with a model card and a reference forecast, and return the folder.

    If its base was trained too, `EARLIER_INFO` has the list of the trainings before.

    Raises:
        UserError: the weights are larger than 12 MB, or the model was trained on series that are not synthetic.
    """
    read_checkpoint(checkpoint)
    infos = trainings(checkpoint)
    for info in infos:
        data = info["config"]["data"]["train"]
        if data not in SYNTHETIC_SOURCES:
            raise UserError(
                f"the training to {info['config']['training']['output_path']} has data.train {data}. Train a model for "
                f"the package on {' or '.join(SYNTHETIC_SOURCES)} only"
            )
    with atomic_folder(parent / name) as folder:
        for file in _CHECKPOINT_FILES:
            shutil.copyfile(checkpoint / file, folder / file)
        size = (folder / "model.safetensors").stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{checkpoint}/model.safetensors has {size:,} bytes, and the maximum is {MAX_BYTES:,}. "
                "Train a smaller model"
            )
        if len(infos) > 1:
            write_json(folder / EARLIER_INFO, infos[:-1])
        write_json(folder / FORECAST_FILE, reference_forecast(folder))
        (folder / "README.md").write_text(_card(name, folder), encoding="utf-8")
    return parent / name


def trainings(checkpoint: Path) -> list[dict[str, Any]]:
    """Return the training_info.json of a checkpoint, and before it those of its base, the base's base and so on."""
    info = read_json(checkpoint / TRAINING_INFO)
    if (checkpoint / EARLIER_INFO).is_file():
        return [*read_json(checkpoint / EARLIER_INFO), info]
    base = Path(info["config"]["base_model"]["output_path"])
    return [*(trainings(base) if (base / TRAINING_INFO).is_file() else []), info]


def reference_forecast(folder: Path) -> dict[str, list]:
    """Return a model's forecast of a fixed series: `context` [length] and `quantiles` [horizon, 9] at `WQL_LEVELS`."""
    step = np.arange(200)
    context = (10 + 3 * np.sin(2 * np.pi * step / 24) + 0.01 * step).astype(np.float32)
    quantiles, _ = Forecaster.load(str(folder)).quantiles([context], _HORIZON, WQL_LEVELS)
    return {"context": context.tolist(), "quantiles": quantiles[0].tolist()}


def card_rows(folder: Path) -> dict[str, str]:
    """Return the table of a model's card: its files and its training."""
    from pipeline.models.load import read_model

    model = read_model(folder)
    chronos, info = model.config.chronos_config, read_json(folder / TRAINING_INFO)
    return {
        "SHA-256 of model.safetensors": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "d_model, d_ff, layers, heads": ", ".join(
            str(getattr(model.config, key)) for key in ("d_model", "d_ff", "num_layers", "num_heads")
        ),
        "context, horizon": f"{chronos['context_length']}, {model_horizon(model.config.to_dict())}",
        "quantile levels": ", ".join(map(str, chronos["quantiles"])),
        "training steps": ", then ".join(map(_describe_steps, trainings(folder))),
        "selection": info["verdict"],
    }


def _describe_steps(info: dict[str, Any]) -> str:
    """Return the steps, windows and learning rate of a training."""
    steps, training = info["steps"], info["config"]["training"]
    is_constant = training["trainer"].get("lr_scheduler_type") == "constant_with_warmup"
    return (
        f"{steps:,} of {training['batch_size']} windows ({steps * training['batch_size']:,} windows)"
        f"{' by Muon' if training.get('optimizer') == 'muon' else ''} at a learning rate of {info['learning_rate']:g}"
        f"{'' if is_constant else ', linearly to 0'}"
    )


def _card(name: str, folder: Path) -> str:
    family = _FAMILY_NAMES[read_checkpoint(folder).family]
    rows = [{"": key, "value": value} for key, value in card_rows(folder).items()]
    return (
        "---\nlicense: apache-2.0\nlibrary_name: chronos-forecasting\npipeline_tag: time-series-forecasting\n---\n\n"
        f"# {BUILTIN}{name}\n\nA {family} model, trained from random weights by this project.\n"
        "All of its training series come from the synthetic [data bank](../../../../docs/synthetic-data.md); none is "
        "real.\n"
        "It is small enough for the repository, and serves as a base model if the Hub cannot be reached.\n\n"
        f"{markdown_table(rows, ('', 'value'))}\n"
        "Experiments and scores on real series: "
        "[docs/experiments/pretraining-log.md](../../../../docs/experiments/pretraining-log.md).\n\n"
        f"## Use\n\n```bash\nchronos-native base {BUILTIN}{name}\n"
        f"chronos-native forecast my_series.csv --model {BUILTIN}{name}\n```\n"
        f"\nEvery Chronos tool loads this folder. The tests compare forecasts with `{FORECAST_FILE}`.\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the model in the package, without the prefix")
    parser.add_argument("checkpoint", type=Path, help="folder of the trained checkpoint")
    arguments = parser.parse_args()
    builtin = Path(__file__).parents[1] / "pipeline" / "models" / "builtin"
    print(publish(arguments.checkpoint, arguments.name, builtin))
