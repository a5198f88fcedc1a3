"""Score models on the last windows of your series, beside seasonal naive."""

import logging

from pipeline.command import run
from pipeline.config import Config

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Score every model on every data set, print the table and write it."""
    from pipeline.files import check_folder
    from pipeline.report import markdown_table, write_scores
    from pipeline.score_models import score_models, tasks_of

    check_folder(config.report_path())
    rows = score_models(config.scored_models(), tasks_of(config), config)
    write_scores(config.report_path(), rows)
    print(markdown_table(rows))
    logger.info("tables: %s, %s", config.report_path() / "scores.md", config.report_path() / "scores.csv")


if __name__ == "__main__":
    run(main)
