"""Train a small model of one of several architectures from random weights on the data bank, for a given processor time.

    python benchmarks/architectures.py bolt-128x4 --seconds 2400 --output data/architectures
    python benchmarks/architectures.py chronos2-128x4 --seconds 420 --panels 0.4 --optimizer muon --rate 4e-3

With the same options, candidates train on the same series, with the same schedule and for the same processor time,
summed over threads. Half of the batches of Chronos-2 have a random horizon of 1 to 64 steps, and a share --panels
contains panels. The loss on validation windows, which are single series, is printed at every tenth of the time. With
--output the model is saved, for `copying.py`, `covariates.py` and `evaluate.py`.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from chronos import Chronos2Model
from transformers import TrainingArguments

from pipeline.models.checkpoint import Family
from pipeline.models.cpu import use_cpu_layers
from pipeline.models.create import Shape, random_model
from pipeline.synthetic.bank import default_bank
from pipeline.training.muon import MuonWithAdamW
from pipeline.windows.inputs import WindowDataset, input_function
from pipeline.windows.synthetic_samplers import PanelSampler, SyntheticSampler
from pipeline.windows.training_windows import TrainingWindows

CONTEXT, HORIZON, BATCH, MIN_PAST = 1024, 64, 128, 12
WARMUP, BETAS, MAX_NORM = 0.03, (0.9, 0.98), 1.0
MAX_LOSS = 10.0
"""Validation losses of forecast steps are clipped at this value, in standard deviations of the context: a few exploding
series would outweigh the rest."""
NINE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
THIRTEEN = [0.01, 0.05, *NINE, 0.95, 0.99]


class Candidate(NamedTuple):
    """Family, size, patch length and quantile levels of a model."""

    family: Family
    shape: Shape
    patch: int = 16
    quantiles: list[float] = NINE


CANDIDATES = {
    "bolt-128x4": Candidate("bolt", Shape(128, 512, 4, 4)),
    "chronos2-128x4": Candidate("chronos-2", Shape(128, 512, 4, 4)),
    "chronos2-128x4-13": Candidate("chronos-2", Shape(128, 512, 4, 4), quantiles=THIRTEEN),
    "chronos2-128x6": Candidate("chronos-2", Shape(128, 512, 6, 4)),
    "chronos2-96x6": Candidate("chronos-2", Shape(96, 384, 6, 3)),
    "chronos2-192x4": Candidate("chronos-2", Shape(192, 768, 4, 6)),
    "chronos2-128x4-patch8": Candidate("chronos-2", Shape(128, 512, 4, 4), patch=8),
}


def create(candidate: Candidate, seed: int) -> Any:
    """Return a model with random weights."""
    family, shape, patch, quantiles = candidate
    settings: dict[str, Any] = {"context_length": CONTEXT, "quantiles": quantiles, "input_patch_size": patch}
    settings["input_patch_stride"] = patch
    if family == "chronos-2":
        settings |= {"output_patch_size": patch, "max_output_patches": HORIZON // patch, "time_encoding_scale": CONTEXT}
    return random_model(family, shape, seed, **settings)


def windows(seed: int, panel_share: float | None = None) -> TrainingWindows:
    """Return windows of the data bank; with a share of panels, even 0, horizons vary."""
    sampler = SyntheticSampler(default_bank(), MIN_PAST)
    if panel_share is not None:
        sampler = PanelSampler(default_bank(), MIN_PAST)
        sampler.panel_share = panel_share
    lengths = {"context_length": CONTEXT, "prediction_length": HORIZON}
    return TrainingWindows([sampler], [1.0], **lengths, drop_prob=0.0, seed=seed, batch_size=BATCH)


def make_optimizer(model: Any, name: str, rate: float) -> torch.optim.Optimizer:
    """Return AdamW or Muon for a model."""
    if name == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=rate, betas=BETAS, weight_decay=0.0)
    arguments = TrainingArguments(learning_rate=rate, adam_beta1=BETAS[0], adam_beta2=BETAS[1], use_cpu=True)
    return MuonWithAdamW.of(model, arguments)


def main() -> None:
    """Train one candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidate", choices=CANDIDATES)
    parser.add_argument("--seconds", type=float, default=2400, help="processor time of the training")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--panels", type=float, default=0.0, help="share of the batches with panels, for Chronos-2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    candidate = CANDIDATES[arguments.candidate]
    model = create(candidate, seed=0)
    use_cpu_layers(model)
    optimizer = make_optimizer(model, arguments.optimizer, arguments.rate)
    rates = [group["lr"] for group in optimizer.param_groups]
    drawn = windows(seed=1, panel_share=arguments.panels if candidate.family == "chronos-2" else None)
    to_inputs = input_function(candidate.family, model.config.chronos_config, HORIZON)
    dataset, held_out = WindowDataset(drawn, sys.maxsize, to_inputs), windows(seed=2)
    begin, used, step, next_report = time.process_time(), 0.0, 0, 0.0
    while used < arguments.seconds:
        share = used / arguments.seconds
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * min(share / WARMUP, 1.0) * (1 - share)
        inputs = dataset.__getitems__(range(step * BATCH, (step + 1) * BATCH))
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            value = model(**inputs).loss
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        step, used = step + 1, time.process_time() - begin
        if used >= next_report * arguments.seconds:
            report(model, held_out, share, step, used)
            next_report += 0.1
            begin = time.process_time() - used
    report(model, held_out, 1.0, step, used)
    if arguments.output:
        model.save_pretrained(arguments.output / arguments.candidate)


def report(model: Any, held_out: TrainingWindows, share: float, step: int, used: float) -> None:
    """Print the progress and the validation loss."""
    n_windows = step * BATCH
    speed = f"{n_windows / used:.0f} windows a second"
    print(f"{share:.2f}: {n_windows} windows, {speed}, validation {validate(model, held_out):.4f}", flush=True)


def validate(model: Any, held_out: TrainingWindows) -> float:
    """Return twice the quantile loss over the deviation of the context: the mean over levels, steps and 1,024 windows.

    The loss of a step is at most `MAX_LOSS`.
    """
    model.eval()
    losses = []
    for first in range(0, 8 * BATCH, BATCH):
        context, target = held_out.batch(range(first, first + BATCH))
        extra = {}
        if isinstance(model, Chronos2Model):
            extra["num_output_patches"] = HORIZON // model.chronos_config.output_patch_size
        with torch.no_grad():
            forecast = model(context=torch.from_numpy(context), **extra).quantile_preds.numpy()
        levels = [round(level, 2) for level in model.chronos_config.quantiles]
        forecast = forecast[:, [levels.index(level) for level in NINE]]
        error = (target[:, None] - forecast) / np.nanstd(context, axis=1).clip(1e-6)[:, None, None]
        losses.append(np.nanmean(quantile_loss(error).clip(max=MAX_LOSS), axis=(1, 2)))
    return float(np.nanmean(np.concatenate(losses)))


def quantile_loss(error: np.ndarray) -> np.ndarray:
    """Return twice the quantile loss of errors [n, 9, h] at the nine levels."""
    levels = np.array(NINE)[:, None]
    return 2 * np.maximum(levels * error, (levels - 1) * error)


if __name__ == "__main__":
    main()
