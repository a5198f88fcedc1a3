"""The edge of every script: read the configuration, do the work, and turn errors into exit codes."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from pipeline.command_line import parse_command_line
from pipeline.errors import UserError, one_line
from pipeline.processes import Processes

_LEFT = ("Connection closed by peer", "Connection reset by peer")
"""What Gloo says where another process has ended while this one waits for it."""


def run(main: Callable[..., None], **flags: str) -> None:
    """Run a script's `main` on the configuration that the command line gives, and exit.

    `flags` are switches that the script has beside the configuration, each with its help text; `main` gets their values by
    name.

    Exit codes: 0 done; 2 the user's input is wrong, with one line on stderr, of several processes from each that finds it;
    1 our bug, with a traceback; 130 interrupted. Progress goes to stdout as plain lines, and to stderr as bars where that is
    a terminal.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    for library in ("TRANSFORMERS", "DATASETS", "HF_HUB"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    processes = Processes()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Lines()])
    logging.getLogger("pipeline").setLevel(logging.INFO if processes.rank == 0 else logging.ERROR)
    try:
        description = (sys.modules["__main__"].__doc__ or "").strip()
        config, switches = parse_command_line(sys.argv[1:], description, flags)
        main(config, **switches)
        processes.part()
    except UserError as error:
        # Each says so: what is missing may be so for one alone.
        which = f" in process {processes.rank}" if processes.rank else ""
        print(f"error{which}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if processes.count == 1 or not any(said in str(error) for said in _LEFT):
            raise
        print(
            f"process {processes.rank} ends, as another has: what that says is the reason", file=sys.stderr, flush=True
        )
        os._exit(1)  # an orderly end would wait for it, and abort
    except KeyboardInterrupt:
        print("interrupted; an unfinished training run is continued by the same command", file=sys.stderr)
        sys.exit(130)


class _Lines(logging.Handler):
    """Prints records to stdout, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def progress(iterable: Any, total: int, unit: str) -> Any:
    """Wrap an iterable in a progress bar, which shows on a terminal only."""
    from tqdm import tqdm

    return tqdm(iterable, total=total, unit=unit)
