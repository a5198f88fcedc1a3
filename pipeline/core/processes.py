"""The processes that `accelerate launch` or torchrun starts together."""

import os
import sys


class Processes:
    """How many there are, and which this is; one where neither was used, whatever else is left in the environment."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        several = self.count > 1
        self.rank = int(os.environ.get("RANK", 0)) if several else 0
        """Number of this process among all."""
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0)) if several else 0
        """Number of this process among those of its machine."""
        self.local_count = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if several else 1
        """How many of them there are on its machine."""

    @property
    def cpus_per_process(self) -> int:
        """How many of the machine's processors there are for each of its processes."""
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return usable // self.local_count

    def barrier(self, device: str) -> None:
        """Go on when all processes have come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState(cpu=device == "cpu").wait_for_everyone()

    def gather(self, own: list, device: str) -> list:
        """Return the lists of all processes as one, in the order of the processes, on each of them."""
        if self.count == 1:
            return own
        from accelerate import PartialState
        from accelerate.utils import gather_object

        PartialState(cpu=device == "cpu")
        return gather_object(own)

    def shut_down(self) -> None:
        """Wait for the others, and close the connections: who leaves early is aborted."""
        if "torch.distributed" in sys.modules:
            from torch import distributed

            if distributed.is_available() and distributed.is_initialized():
                distributed.barrier()
                distributed.destroy_process_group()
