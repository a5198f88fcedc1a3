"""Fine-tune the base model on your series; what does not beat it on held-out steps is not saved."""

import logging

from pipeline.cli import run
from pipeline.config import Config
from pipeline.core.processes import Processes

logger = logging.getLogger("pipeline")


def main(config: Config, dry_run: bool) -> None:
    """Prepare the data, train, save the candidate that wins, and upload it where that is asked for."""
    import yaml

    from pipeline.base_model import check_base
    from pipeline.models.upload import check_upload, upload
    from pipeline.train_model import ChronosTrainer
    from pipeline.training.checkpointing import RunFolder
    from pipeline.windows.training_sets import open_training_data

    check_base(config)
    output, repository = RunFolder(config.trained_path()), config.training.push_to_hub
    output.check(config.training.resume, config.training.overwrite)
    if repository is not None:
        check_upload(repository)
    trainer = ChronosTrainer(str(config.base_path()))
    trainer.config, trainer.run_folder = config, output
    train_data = trainer.prepare_training_data(open_training_data(config))
    if dry_run:
        plan = trainer.plan(train_data, epochs=config.training.epochs)
        logger.info(yaml.safe_dump(plan.resolved().as_dict(), sort_keys=False))
        for line in plan.lines():
            logger.info(line)
        return
    trainer.train_model(train_data, epochs=config.training.epochs)
    trainer.save_trained_model(str(config.trained_path()))
    logger.info("checkpoint: %s", config.trained_path())
    logger.info(trainer.verdict)
    if repository is not None and Processes().rank == 0:
        logger.info("uploaded: %s", upload(config.trained_path(), repository))


if __name__ == "__main__":
    run(main, dry_run="Print the configuration with all that is left open filled in, sizes and memory; train nothing.")
