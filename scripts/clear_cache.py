"""Remove the converted series in the cache."""

from pipeline.cli import main

if __name__ == "__main__":
    main("clear-cache")
