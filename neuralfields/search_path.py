"""Keeps code out that merely lies in the working folder: `nf` is run beside photos that others made.

Python puts that folder first in its search path for `python -m`, and for an empty part of PYTHONPATH; a `json.py` or
`numpy.py` beside the photos would then be run. Nothing is imported here but what Python itself has loaded already.
"""

import os
import sys

# Runs a module with a given search path in a Python that starts with the standard library's alone (-I).
_START = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); name = sys.argv[2]; del sys.argv[1:3];"
    " runpy.run_module(name, run_name='__main__', alter_sys=True)"
)


def without_working_folder() -> list[str]:
    """Search path of this process without the working folder, unless this package lies there."""
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # the folder is gone
        here = ""
    home = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
    return [entry for entry in sys.path if here == home or (entry and os.path.realpath(entry) != here)]


def leave_working_folder() -> None:
    """Takes the working folder out of this process's search path; for a process that is `nf` and nothing else."""
    sys.path[:] = without_working_folder()


def isolated(module: str) -> tuple[str, ...]:
    """Command that runs a module as a process with this process's packages, and with nothing of the working folder."""
    import json

    return sys.executable, "-I", "-c", _START, json.dumps(without_working_folder()), module
