"""Score models on the last windows of your series, beside seasonal naive."""

import logging
import shlex
import sys

from pipeline.command import run
from pipeline.config import Config

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Score every model on every data set, print the table and write the report."""
    from pipeline.files import check_folder
    from pipeline.report.scores import SHOWN
    from pipeline.report.tables import markdown_table
    from pipeline.score_models import report_on, score_models, tasks_of

    folder = config.report_path()
    check_folder(folder)
    tasks = tasks_of(config)
    scored = score_models(config.scored_models(), tasks, config)
    rows = report_on(scored, tasks, config, shlex.join(["python", *sys.argv]), folder)
    print(markdown_table(rows, SHOWN))
    logger.info("report: %s; its tables are beside it", folder / "report.html")


if __name__ == "__main__":
    run(main)
