"""Series in groups, and a Chronos-2 whose forecasts of a series depend on the others of its group."""

import numpy as np
import pandas as pd

GROUPS = "abc"


def grouped_frame(n_series=11, seed=0):
    """Return a long table of series of 20 to 76 days; the groups a, b and c alternate, so that none is contiguous."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n_series):
        n = 20 + 7 * (5 * k % 9)
        columns = {
            "item_id": f"s{k}",
            "timestamp": pd.date_range("2024-01-01", periods=n),
            "target": 20 + k + 5 * np.sin(np.arange(n) * 2 * np.pi / 7) + rng.normal(0, 1 + k % 3, n),
            "region": GROUPS[k % 3],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def save_coupled_model(source, folder):
    """Save a model of random weights with noise, so that its group attention has an effect and no quantiles cross.

    Args:
        source: a nano checkpoint of Chronos-2.
    """
    import torch

    from pipeline.models.load import read_model

    model, generator = read_model(source), torch.Generator().manual_seed(0)
    levels = torch.tensor(model.config.chronos_config["quantiles"])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_of_groups = ".layer.1." in name
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.5 if is_of_groups else 0.1)
        for name, weight in model.named_parameters():
            if name.startswith(("output_patch_embedding.output_layer", "output_patch_embedding.residual_layer")):
                by_level = weight.reshape(len(levels), -1, *weight.shape[1:])
                by_level[:] = by_level[0].clone()  # the quantiles move together, and do not cross
        bias = model.get_parameter("output_patch_embedding.output_layer.bias")
        bias.add_(torch.repeat_interleave(4 * (levels - 0.5), len(bias) // len(levels)))
    model.save_pretrained(folder)
    return folder
