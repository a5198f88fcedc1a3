"""What tests share: series, files of them, short runs, and the root of the project."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
