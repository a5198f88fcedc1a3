"""Average the scores of a report over public data sets: over all, by frequency and by length.

    chronos-native evaluate --evaluation.data_path data/public/index.json --evaluation.baselines '[]' \
        --evaluation.models '[builtin:bolt-synth]' --evaluation.report_path data/public/report
    python -m benchmarks.score_groups data/public/report/scores.csv data/public/index.json

WQL and MASE are geometric means of the scores relative to seasonal naive. The coverage is the mean coverage of the 80%
intervals. The length of a set is that of its longest series. Minutes count as hourly.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.public_sets import STRATA, stratum
from pipeline.core.tables import markdown_table
from pipeline.evaluation.ranking import geometric_mean

LENGTHS = {"under 100 steps": (0, 100), "100 to 999 steps": (100, 1000), "1,000 steps and more": (1000, np.inf)}
SCORES = ["relative WQL", "relative MASE"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("index", type=Path)
    arguments = parser.parse_args()
    sets = pd.DataFrame(json.loads(arguments.index.read_text())).set_index("name")
    scores = pd.read_csv(arguments.scores).join(sets[["freq", "max_length"]], on="data set", how="inner")
    rows = []
    for model, of_model in scores[scores["model"] != "seasonal naive"].groupby("model", sort=False):
        frequency, length = of_model["freq"].map(stratum), of_model["max_length"]
        groups = {"all": of_model, **{name: of_model[frequency == name] for name in STRATA}}
        groups |= {name: of_model[length.between(*limits, "left")] for name, limits in LENGTHS.items()}
        rows += [group_row(model, name, group) for name, group in groups.items() if len(group)]
    print(markdown_table(rows, tuple(rows[0])))


def group_row(model: object, name: str, scores: pd.DataFrame) -> dict[str, object]:
    """Return the mean scores of a model over some data sets, and on how many it is better than seasonal naive."""
    wql, mase = geometric_mean(scores[SCORES].to_numpy())
    return {
        "model": model,
        "sets": f"{name} ({len(scores)})",
        "WQL": f"{wql:.3f}",
        "MASE": f"{mase:.3f}",
        "better than seasonal naive in WQL": int((scores[SCORES[0]] < 1).sum()),
        "coverage": f"{scores['coverage_80'].mean():.2f}",
    }


if __name__ == "__main__":
    main()
