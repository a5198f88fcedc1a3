"""A pretrained checkpoint made a model inside the package.

python tools/publish_builtin.py bolt-synth data/pretrain/trained
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_folder, read_json, write_json
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.tables import markdown_table
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.builtin import PREFIX
from pipeline.models.checkpoint import TRAINING_INFO, read_checkpoint

MOST_BYTES = 10_000_000
SAMPLE = "forecast.json"
_HORIZON = 24
_KEPT = ("config.json", "model.safetensors", TRAINING_INFO)


def publish(checkpoint: Path, name: str, parent: Path) -> Path:
    """Write a checkpoint to `parent / name` with a card and a forecast that it must go on making.

    Raises:
        UserError: it is larger than 10 MB, or was trained on series that are not synthetic.
    """
    sources = read_json(checkpoint / TRAINING_INFO)["config"]["data"]["train"]
    if sources != "synthetic:bank":
        raise UserError(
            f"{checkpoint} was trained on {sources}; a model inside the package is trained on synthetic:bank alone"
        )
    read_checkpoint(checkpoint)
    with atomic_folder(parent / name) as folder:
        for file in _KEPT:
            shutil.copyfile(checkpoint / file, folder / file)
        weights = folder / "model.safetensors"
        if weights.stat().st_size > MOST_BYTES:
            raise UserError(
                f"{checkpoint}: its weights have {weights.stat().st_size:,} bytes; {MOST_BYTES:,} is the most"
            )
        write_json(folder / SAMPLE, sample_forecast(folder))
        (folder / "README.md").write_text(_card(name, folder), encoding="utf-8")
    return parent / name


def sample_forecast(folder: Path) -> dict[str, list]:
    """Return a forecast by which a model is known: `context` [length] and `quantiles` [horizon, 9] at `WQL_LEVELS`."""
    step = np.arange(200)
    context = (10 + 3 * np.sin(2 * np.pi * step / 24) + 0.01 * step).astype(np.float32)
    quantiles, _ = Forecaster.load(str(folder)).quantiles([context], _HORIZON, WQL_LEVELS)
    return {"context": context.tolist(), "quantiles": quantiles[0].tolist()}


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def facts_of(folder: Path) -> dict[str, str]:
    """Return what the card of a model says of its files and its training."""
    from pipeline.models.load import read_model

    model = read_model(folder)
    chronos, info = model.config.chronos_config, read_json(folder / TRAINING_INFO)
    batch = info["config"]["training"]["batch_size"]
    return {
        "sha256 of model.safetensors": sha256_of(folder / "model.safetensors"),
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "d_model, d_ff, layers, heads": ", ".join(
            str(getattr(model.config, key)) for key in ("d_model", "d_ff", "num_layers", "num_heads")
        ),
        "context, horizon": f"{chronos['context_length']}, {chronos['prediction_length']}",
        "quantile levels": ", ".join(map(str, chronos["quantiles"])),
        "steps of training": f"{info['steps']:,} of {batch} windows, {info['steps'] * batch:,} windows in all",
        "learning rate": f"{info['learning_rate']:g}, linearly to 0",
        "what is kept": info["verdict"],
    }


def _card(name: str, folder: Path) -> str:
    facts = [{"": key, "value": value} for key, value in facts_of(folder).items()]
    return (
        "---\nlicense: apache-2.0\nlibrary_name: chronos-forecasting\npipeline_tag: time-series-forecasting\n---\n\n"
        f"# {PREFIX}{name}\n\nA Chronos-Bolt trained from random weights by this project's own commands (`make pretrain`) "
        "on the series of its [data bank](../../../../docs/data-bank.md) alone: it has seen no real series. Small enough to "
        "lie in the repository, it is where a machine without the Hub starts from.\n\n"
        f"{markdown_table(facts, ('', 'value'))}\n"
        "What was tried, and what it scores on real series: "
        "[docs/pretraining-log.md](../../../../docs/pretraining-log.md).\n\n"
        f"## Use\n\n```bash\npython scripts/base_model.py --base_model.model_name {PREFIX}{name}\n"
        f"python scripts/forecast.py --inference.model_path {PREFIX}{name} --inference.data_path my_series.csv\n```\n\n"
        f"The folder is a checkpoint that every Chronos tool loads. `{SAMPLE}` holds a forecast for the tests to compare.\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("checkpoint", type=Path)
    given = parser.parse_args()
    print(publish(given.checkpoint, given.name, Path(__file__).parents[1] / "pipeline" / "models" / "builtin"))
