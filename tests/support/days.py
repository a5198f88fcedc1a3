"""Files of one series with a value a day, for the tests of everyday files."""

import numpy as np
import pandas as pd
from support.source_files import write_csv

from pipeline.core.series import Variates
from pipeline.data.columns import Columns

DAYS = pd.date_range("2024-01-01", periods=90)
NAN = np.nan


def covariate(name):
    """Columns with one known covariate."""
    return Columns(variates=Variates(("target",), known=(name,)))


def future(name):
    """Columns of a table of the future with one known covariate."""
    return Columns(variates=Variates((), (), (name,)))


def write_days(folder, values, name="s.csv", column=None, n=None):
    """A file of one series with a value a day, and a column beside the target if `column` names it."""
    texts = values[:n]
    header = "timestamp,target" if column is None else f"timestamp,target,{column}"
    rows = [f"{day:%Y-%m-%d},{'' if column is None else '1,'}{text}" for day, text in zip(DAYS, texts)]
    return write_csv(folder, *rows, header=header, name=name)


def quoted(values):
    return [f'"{value}"' for value in values]
