"""Load a base model and save it as a native Chronos checkpoint."""

from pipeline.cli import main

if __name__ == "__main__":
    main("base")
