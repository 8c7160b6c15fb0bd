"""`nf` that gets a signal at a given place of its work.

Sent from outside, at the sight of a file, a signal comes too late on a busy machine: the work is at its end by then.
"""

from pathlib import Path

from tests.support.forked import Forked

# `nf` that sends itself a signal as soon as a file of the given name is whole in its place.
CODE = """
import os, sys
from neuralfields.cli import main

number, name, replace = int(sys.argv.pop(1)), sys.argv.pop(1), os.replace
def replaced(source, target, *words, **named):
    replace(source, target, *words, **named)
    if os.path.basename(target) == name:
        os.kill(os.getpid(), number)
os.replace = replaced
sys.exit(main(sys.argv[1:]))
"""


def signalled(number: int, name: str, words: list[str], said: Path, cwd: Path | None = None) -> tuple[int, str]:
    """Runs `nf WORDS`, which is sent signal `number` after each writing of a file `name`: its exit code and errors."""
    process = Forked(["-c", CODE, str(int(number)), name, *words], said, cwd=cwd)
    _, told = process.communicate(timeout=60)
    return process.returncode, told
