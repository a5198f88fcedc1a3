"""Generate synthetic series: patterns for a first try, the data bank, or sums of your own series."""

import logging

from pipeline.cli import progress, run
from pipeline.config import Config

logger = logging.getLogger("pipeline")


def main(config: Config, preview: bool) -> None:
    """Write what synthetic.source names, or draw the bank."""
    if preview:
        from pipeline.synthetic.generate import preview as draw_preview

        logger.info("gallery: %s", draw_preview(config))
        return
    config.synthetic.check_source()
    if config.synthetic.source == "dummy":
        write_dummy(config)
    else:
        write_synthetic(config)


def write_dummy(config: Config) -> None:
    """Write the series that training.dummy_data describes."""
    from pipeline.data.arrow_store import write_store
    from pipeline.synthetic import dummy_series

    dummy = config.training.dummy_data
    series = dummy_series(
        dummy.n_samples, dummy.n_series, dummy.length, dummy.patterns, config.chronos.seed, dummy.num_processes
    )
    write_store(config.dummy_path(), progress(series, dummy.n_samples, "series"))
    logger.info("%d series of %d steps: %s", dummy.n_samples, dummy.length, config.dummy_path())


def write_synthetic(config: Config) -> None:
    """Write a synthetic source to files of synthetic.shard_size series."""
    from pipeline.synthetic.generate import make_series

    with progress(None, config.synthetic.n_series, "series") as bar:
        for n_series in make_series(config):
            bar.update(n_series)
    logger.info("%d series: %s", config.synthetic.n_series, config.synthetic_path())


if __name__ == "__main__":
    run(main, preview="Draw a gallery of the bank, one panel a prior, in place of writing series.")
