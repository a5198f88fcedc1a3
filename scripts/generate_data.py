"""Generate synthetic series of trend, season and noise, as an Arrow store."""

import logging

from pipeline.command import progress, run
from pipeline.config import Config

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Write the series that training.dummy_data describes."""
    from pipeline.arrow_store import write_store
    from pipeline.synthetic import dummy_series

    dummy = config.training.dummy_data
    series = dummy_series(
        dummy.n_samples, dummy.n_series, dummy.length, dummy.patterns, config.chronos.seed, dummy.num_processes
    )
    write_store(config.dummy_path(), progress(series, dummy.n_samples, "series"))
    logger.info("%d series of %d steps: %s", dummy.n_samples, dummy.length, config.dummy_path())


if __name__ == "__main__":
    run(main)
