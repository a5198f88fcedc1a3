"""Generate synthetic series: patterns for a first try, the data bank, or mixtures of your own series."""

from pipeline.cli import run
from pipeline.config import Config


def main(config: Config, preview: bool) -> None:
    """Write the series of synthetic.generator, or draw a gallery of the bank."""
    from pipeline.synthetic.generate import generate

    generate(config, preview)


if __name__ == "__main__":
    run(main, preview="Draw a gallery of the bank, one panel per prior, instead of writing series.")
