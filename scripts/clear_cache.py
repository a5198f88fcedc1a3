"""Remove the converted series in the cache."""

import logging

from pipeline.cli import run
from pipeline.config import Config


def main(config: Config) -> None:
    """Remove every converted source, and say what was removed."""
    from pipeline.data.cache import Cache

    removed, n_bytes = Cache(config.cache_path()).clear()
    logging.getLogger("pipeline").info("removed %d files (%.1f MB): %s", removed, n_bytes / 1e6, config.cache_path())


if __name__ == "__main__":
    run(main)
