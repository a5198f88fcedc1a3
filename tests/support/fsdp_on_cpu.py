"""Runs scripts/train.py under FSDP on CPUs, which Accelerate offers to GPUs only: it is told that it has some."""

import runpy
import sys
from pathlib import Path

from accelerate.state import PartialState
from accelerate.utils import DistributedType

begin = PartialState.__init__


def __init__(self, *args, **kwargs):
    begin(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = __init__
script = Path(__file__).parents[2] / "scripts" / "train.py"
sys.argv[0] = str(script)
runpy.run_path(str(script), run_name="__main__")
