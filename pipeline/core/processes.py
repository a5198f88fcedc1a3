"""The processes that `accelerate launch` or torchrun starts together, and pools of workers."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any

from pipeline.core.signals import without_interrupts


class Processes:
    """The number of processes and the rank of this one, from the environment variables of the launcher.

    If WORLD_SIZE is 1 or not set, there is one process, and the other variables are ignored.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        """Number of processes on all machines."""
        several = self.count > 1
        self.rank = int(os.environ.get("RANK", 0)) if several else 0
        """Index of this process among all."""
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0)) if several else 0
        """Index of this process among those of its machine."""
        self.local_count = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if several else 1
        """Number of processes on this machine."""

    @property
    def cpus_per_process(self) -> int:
        """Number of usable processors of this machine for each of its processes."""
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, usable // self.local_count)

    def barrier(self, device: str) -> None:
        """Wait until all processes have reached this call.

        Args:
            device: the device that the processes train on; CPU processes communicate by another backend.
        """
        if self.count > 1:
            from accelerate import PartialState

            PartialState(cpu=device == "cpu").wait_for_everyone()

    @contextmanager
    def first_alone(self, device: str) -> Iterator[None]:
        """Let the first process run the block before the others, so that they find the files that it has written.

        Args:
            device: as for `barrier`.
        """
        if self.rank:
            self.barrier(device)
        yield
        if self.rank == 0:
            self.barrier(device)

    def gather(self, items: list, device: str) -> list:
        """Return the lists of all processes, concatenated in the order of their ranks, on every process.

        Args:
            items: the list of this process.
            device: as for `barrier`.
        """
        if self.count == 1:
            return items
        from accelerate import PartialState
        from accelerate.utils import gather_object

        PartialState(cpu=device == "cpu")
        return gather_object(items)

    def shut_down(self) -> None:
        """Wait for the other processes, and close the connections.

        A process that exits earlier makes the others fail.
        """
        if "torch.distributed" in sys.modules:
            from torch import distributed

            if distributed.is_available() and distributed.is_initialized():
                distributed.barrier()
                distributed.destroy_process_group()


class WorkerPool(ProcessPoolExecutor):
    """Spawned processes that end with this one, even if it is killed, and at once if the block raises.

    Forking with threads of loaded libraries can deadlock, so workers are spawned.
    """

    def __init__(self, count: int, initialize: Callable[..., None] | None = None, *arguments: Any) -> None:
        """Prepare the pool; processes start with the first tasks.

        Args:
            count: number of processes.
            initialize: called in each process with the arguments.
        """
        super().__init__(count, get_context("spawn"), _start_worker, (initialize, arguments))
        self._others = set(active_children())

    def submit(self, *task: Any, **options: Any) -> Future:
        with without_interrupts():
            return super().submit(*task, **options)

    def __exit__(self, error_type: Any, *error: Any) -> bool | None:
        if error_type is not None:
            self.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - self._others:
                worker.terminate()
        return super().__exit__(error_type, *error)


def _start_worker(initialize: Callable[..., None] | None, arguments: tuple) -> None:
    # A worker of a pool does not notice by itself that its parent was killed.
    Thread(target=_end_with_parent, daemon=True).start()
    if initialize is not None:
        initialize(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
