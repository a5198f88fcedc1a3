"""Fine-tune the base model on your series; what is saved is never worse on held-out steps than the base."""

import logging

from pipeline.command import run
from pipeline.config import Config

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Prepare the data, train, and save the best candidate."""
    from pipeline.data_source import open_training_data
    from pipeline.run_folder import RunFolder
    from pipeline.train_model import ChronosTrainer

    output = RunFolder(config.trained_path())
    output.check(config.training.resume, config.training.overwrite)
    trainer = ChronosTrainer(str(config.base_path()))
    trainer.config, trainer.run_folder = config, output
    train_data = trainer.prepare_training_data(open_training_data(config))
    trainer.train_model(train_data, epochs=config.training.epochs)
    trainer.save_trained_model(str(config.trained_path()))
    logger.info("checkpoint: %s", config.trained_path())
    logger.info(trainer.verdict)


if __name__ == "__main__":
    run(main)
