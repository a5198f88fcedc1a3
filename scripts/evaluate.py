"""Score models on the last steps of your series."""

from pipeline.cli import main

if __name__ == "__main__":
    main("evaluate")
