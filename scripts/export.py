"""Export a model to ONNX."""

from pipeline.cli import main

if __name__ == "__main__":
    main("export")
