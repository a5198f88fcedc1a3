"""Series that tests train on and forecast, and configurations from command lines."""

import numpy as np
import pandas as pd


def parse_config(arguments, command="train"):
    """The configuration of a command line."""
    from pipeline.cli import parse_command_line

    return parse_command_line(arguments, command)[0]


def long_frame(n_series=6, length=120, seed=0, period=12, freq="D"):
    """Noisy seasonal series in long form."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)
    frames = []
    for k in range(n_series):
        target = 10 + 5 * np.sin(2 * np.pi * (time + k) / period) + rng.normal(0, 0.5, length)
        stamps = pd.date_range("2021-01-01", periods=length, freq=freq)
        frames.append(pd.DataFrame({"item_id": f"item{k}", "timestamp": stamps, "target": target}))
    return pd.concat(frames, ignore_index=True)
