"""Train small models of several architectures from random weights for the same processor time, on the data bank.

    python benchmarks/architectures.py bolt-128x4 --seconds 2400 --output data/architectures
    python benchmarks/architectures.py chronos2-128x4 --seconds 2400 --rate 1e-3

Each training has the same series, schedule and processor time, summed over its threads. Chronos-2 forecasts a random
number of patches, as it must when it is used. The loss of the validation windows is printed as training goes on. The
model is saved for `copying.py` and `evaluate.py`.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from chronos import Chronos2Model

from pipeline.models.checkpoint import Family
from pipeline.models.cpu import use_cpu_layers
from pipeline.models.create import Shape, random_model
from pipeline.synthetic.bank import default_bank
from pipeline.windows.synthetic_samplers import SyntheticSampler
from pipeline.windows.training_windows import TrainingWindows

CONTEXT, HORIZON, BATCH, MIN_PAST = 1024, 64, 128, 12
WARMUP, BETAS, MAX_NORM = 0.03, (0.9, 0.98), 1.0
MAX_LOSS = 10.0
"""Maximum loss of a step in validation, in standard deviations: a few exploding series would outweigh the rest."""
NINE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
THIRTEEN = [0.01, 0.05, *NINE, 0.95, 0.99]


class Candidate(NamedTuple):
    """Size of a model."""

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


def loss(model: Any, context: np.ndarray, target: np.ndarray) -> torch.Tensor:
    """Return the loss of context [n, c] and target [n, h]."""
    past, future = torch.from_numpy(context), torch.from_numpy(target)
    if isinstance(model, Chronos2Model):
        n_patches = -(-target.shape[1] // model.chronos_config.output_patch_size)
        return model(context=past, future_target=future, num_output_patches=n_patches).loss
    return model(context=past, target=future).loss


def windows(seed: int) -> TrainingWindows:
    """Return windows of the data bank."""
    sampler = SyntheticSampler(default_bank(), MIN_PAST)
    lengths = {"context_length": CONTEXT, "prediction_length": HORIZON}
    return TrainingWindows([sampler], [1.0], **lengths, drop_prob=0.0, seed=seed, batch_size=BATCH)


def main() -> None:
    """Train one candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidate", choices=CANDIDATES)
    parser.add_argument("--seconds", type=float, default=2400, help="processor time of the training")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    candidate = CANDIDATES[arguments.candidate]
    model = create(candidate, seed=0)
    use_cpu_layers(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate, betas=BETAS, weight_decay=0.0)
    drawn, held_out = windows(seed=1), windows(seed=2)
    rng = np.random.default_rng(0)
    begin, used, step, next_report = time.process_time(), 0.0, 0, 0.0
    while used < arguments.seconds:
        share = used / arguments.seconds
        for group in optimizer.param_groups:
            group["lr"] = arguments.rate * min(share / WARMUP, 1.0) * (1 - share)
        context, target = drawn.batch(range(step * BATCH, (step + 1) * BATCH))
        if candidate.family == "chronos-2":  # forecasts fewer patches if the horizon is shorter
            target = np.ascontiguousarray(target[:, : 16 * rng.integers(1, HORIZON // 16 + 1)])
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(model, context, target)
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
