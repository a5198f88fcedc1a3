"""Reading with libraries that crash at some damaged files, in a separate process."""

import subprocess
import sys

from pipeline.core.errors import UserError
from pipeline.data.readers.files import DataFile

# calamine allocates all cells up to the last one. A stray value far from the others, or a bomb, reaches the limits.
_LIMIT_MEMORY = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
except (ImportError, OSError, ValueError):  # not on every system
    pass
"""


def run_isolated(file: DataFile, code: str, *arguments: str) -> bytes:
    """Return the output of Python code that has the content of a file as its input.

    Raises:
        UserError: the code fails or crashes.
    """
    # -P: modules in the current folder do not take the place of libraries.
    command = [sys.executable, "-P", "-W", "ignore", "-c", _LIMIT_MEMORY + code, *arguments]
    result = subprocess.run(command, input=file.read(), capture_output=True)
    if result.returncode:
        problem = result.stderr.decode(errors="replace").strip().rpartition("\n")[2] if result.returncode == 1 else ""
        raise UserError(
            f"cannot read {file}: {problem or 'the library for its format crashes'}; the file is damaged, has a stray "
            "value far from the others, or is protected by a password: save it again, as .xlsx without a password"
        )
    return result.stdout
