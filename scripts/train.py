"""Fine-tune the base model on your series; if no candidate scores better on held-out steps, save the base."""

import logging

from pipeline.cli import run
from pipeline.config import Config


def main(config: Config, dry_run: bool) -> None:
    """Train and save, or print the plan."""
    from pipeline.training.plan import print_plan
    from pipeline.training.run import prepare, run_training

    if dry_run:
        return print_plan(prepare(config)[0])
    result = run_training(config)
    logging.getLogger("pipeline").info("checkpoint: %s\n%s", config.trained_path(), result.verdict)


if __name__ == "__main__":
    run(main, dry_run="Print the resolved configuration, the sizes and the memory of the run; train nothing.")
