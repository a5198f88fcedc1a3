"""Load a base model and save it as a native Chronos checkpoint."""

import logging

from pipeline.cli import run
from pipeline.config import Config

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Make the base model that the section base_model describes."""
    from pipeline.models.base import make_base

    info = make_base(config)
    name, architecture, parameters = info["model_name"], info["architecture"], info["parameters"]
    logger.info("%s: %s, %d parameters: %s", name, architecture, parameters, config.base_path())


if __name__ == "__main__":
    run(main)
