"""Fine-tune the base model on your series."""

from pipeline.cli import main

if __name__ == "__main__":
    main("train")
