"""Score models on the last windows of your series, beside seasonal naive."""

import shlex
import sys

from pipeline.cli import run
from pipeline.config import Config


def main(config: Config) -> None:
    """Log the score table and the answer whether fine-tuning helped, and write the report."""
    from pipeline.evaluation.evaluate import evaluate

    evaluate(config, shlex.join(["python", *sys.argv]))


if __name__ == "__main__":
    run(main)
