"""Fetch or make a base model and save it as a native Chronos checkpoint."""

import logging

from pipeline.cli import run
from pipeline.config import Config

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Load, convert and save the model that base_model describes."""
    from pipeline.base_model import ChronosBaseModel
    from pipeline.core.files import check_folder

    check_folder(config.base_path())
    base = ChronosBaseModel(config.base_model.model_name)
    base.revision, base.seed = config.base_model.revision, config.chronos.seed
    base.load_from_huggingface()
    if config.base_model.convert_format:
        base.convert_to_native_format()
    save = base.save_base_model if config.base_model.save_metadata else base.save_without_metadata
    save(str(config.base_path()))
    info = base.get_model_info()
    logger.info(
        "%s: %s, %d parameters: %s", base.model_name, info["architecture"], info["parameters"], config.base_path()
    )


if __name__ == "__main__":
    run(main)
