"""Score models on the last windows of your series, beside seasonal naive."""

import logging
import shlex
import sys
from pathlib import Path

from pipeline.cli import run
from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.processes import Processes

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Score every model on every data set, print the table and write the report."""
    from pipeline.core.tables import markdown_table
    from pipeline.evaluation.evaluate import PAGE, check_report_folder, report_on, score_models
    from pipeline.evaluation.report.rows import SHOWN
    from pipeline.evaluation.tasks import tasks_of

    folder, processes, device = config.report_path(), Processes(), config.chronos.device
    if config.evaluation.fev_tasks is not None:
        if processes.count > 1:
            raise UserError("evaluation.fev_tasks are scored by one process; start it without torchrun or accelerate")
        return score_on_fev(config.evaluation.fev_tasks, config, folder)
    check_report_folder(folder)
    if processes.rank:
        processes.barrier(device)  # the first one converts the series
    tasks = tasks_of(config)
    if processes.rank == 0:
        processes.barrier(device)
    scored = score_models(config.scored_models(), tasks, config)
    if processes.rank:
        return
    rows = report_on(scored, tasks, config, shlex.join(["python", *sys.argv]), folder)
    print(markdown_table(rows, SHOWN))
    logger.info("report: %s; its tables are beside it", folder / PAGE)


def score_on_fev(tasks: str, config: Config, folder: Path) -> None:
    """Score every model on the tasks of fev, print their errors and write one file a model."""
    from pipeline.core.files import check_folder
    from pipeline.core.tables import markdown_table, write_csv
    from pipeline.evaluation.fev import score_fev_tasks

    check_folder(folder / "fev")
    results = score_fev_tasks(tasks, config.scored_models(), config)
    rows = [row for of_model in results.values() for row in of_model]
    print(markdown_table(rows, ("task_name", "model_name", "eval_metric", "test_error", "num_forecasts")))
    for name, of_model in results.items():
        write_csv(folder / "fev" / f"{name}.csv", of_model)
        logger.info("results for fev's leaderboards: %s", folder / "fev" / f"{name}.csv")


if __name__ == "__main__":
    run(main)
