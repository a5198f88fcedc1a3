"""Generate synthetic series."""

from pipeline.cli import main

if __name__ == "__main__":
    main("generate")
