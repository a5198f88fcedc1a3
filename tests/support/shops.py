"""Series with covariates: daily sales of shops that follow a price and a promotion."""

import numpy as np
import pandas as pd

from pipeline.core.series import Variates
from pipeline.data.columns import Columns
from pipeline.data.future import FutureCovariates
from pipeline.data.source import open_source

HORIZON = 8
KNOWN = ["price", "promo"]
SHOP = Variates(("sold",), ("visits",), tuple(KNOWN))


def shops(n_series=5, length=80, seed=0):
    """Return a long table of sales with their covariates, and its continuation over the horizon."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n_series):
        n = length + 3 * k + HORIZON
        price = rng.choice([1.0, 2.0, 4.0], n)
        promo = rng.choice(["none", "flyer", "window"], n)
        sold = 20 + k - 3 * price + 8 * (promo == "flyer") + rng.normal(0, 0.3, n)
        columns = {
            "item_id": f"shop{k}",
            "timestamp": pd.date_range("2024-01-01", periods=n, freq="D"),
            "sold": sold,
            "visits": sold * 3 + rng.normal(0, 1, n),
            "price": price,
            "promo": promo,
        }
        frames.append(pd.DataFrame(columns))
    frame = pd.concat(frames, ignore_index=True)
    in_horizon = frame.groupby("item_id").cumcount(ascending=False) < HORIZON
    return frame[~in_horizon].reset_index(drop=True), frame[in_horizon].reset_index(drop=True)


def open_shops(folder, past, future, targets=("sold",), covariates=("visits",)):
    """Return the store of a table of shops, and its known covariates in the horizon."""
    store = open_source(past, folder, Columns(variates=Variates(tuple(targets), tuple(covariates), tuple(KNOWN))))
    return store, open_known(folder, future, store)


def open_known(folder, table, store):
    """Return the known covariates of a store from a table."""
    columns = Columns(variates=Variates((), (), tuple(KNOWN)))
    opened = open_source(table[["item_id", "timestamp", *KNOWN]], folder, columns, freq="D")
    return FutureCovariates(opened, store, HORIZON, "future")
