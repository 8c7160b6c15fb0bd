"""Real fits that are killed at random instants and taken up again, until they end; compared with an unbroken one."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from neuralfields.files import companion
from neuralfields.models.nf_file import load


@dataclass(frozen=True)
class Fit:
    """A command `nf fit SOURCE ...` of fixed steps, to which --out, and --resume where it must, are added."""

    source: Path
    words: tuple[str, ...]

    def start(self, out: Path, resume: bool) -> subprocess.Popen:
        """Starts it as a user's shell would; what it says goes to a file beside the output."""
        command = [sys.executable, "-m", "neuralfields", "fit", str(self.source), "--out", str(out), *self.words]
        with open(out.with_suffix(".said"), "ab") as said:
            return subprocess.Popen([*command, *(["--resume"] if resume else [])], stdout=said, stderr=said)

    def unbroken(self, out: Path) -> float:
        """Runs it to its end; gives the seconds that it took."""
        out.parent.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        code = self.start(out, False).wait()
        assert code == 0, out.with_suffix(".said").read_text()[-500:]
        return time.monotonic() - begin


@dataclass
class Killed:
    """What became of a fit that was killed: kills, those before its first checkpoint, seconds lost at each kill."""

    kills: int = 0
    before_checkpoint: int = 0
    lost: list[float] = field(default_factory=list)
    same: bool = False
    said: str = ""


def killed_fit(fit: Fit, out: Path, seconds: float, kills: int, rng: random.Random) -> Killed:
    """Kills a fit up to `kills` times, each at an instant within `seconds` of its start, and lets it then end.

    Lost at a kill: the seconds since the last checkpoint, or since the start of that process where it has written none.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    saved, found = companion(out, ".checkpoint"), Killed()
    while not (out.exists() and not saved.exists()):
        begin = time.time()
        process = fit.start(out, saved.exists())
        try:
            code = process.wait(rng.uniform(0.0, seconds) if found.kills < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            code = process.wait()
            if code == -signal.SIGKILL:
                found.kills += 1
                found.before_checkpoint += not saved.exists()
                last = max(begin, saved.stat().st_mtime) if saved.exists() else begin
                found.lost.append(time.time() - last)
                continue
        if code != 0:
            found.said = out.with_suffix(".said").read_text()[-400:]
            return found
    return found


def same_bits(one: Path, two: Path) -> bool:
    """Whether two models have the same parameters, occupancy and held-out score, to the bit."""
    first, second = load(one), load(two)
    a, b = first.field.state_dict(), second.field.state_dict()
    same = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    if first.occupancy is not None and second.occupancy is not None:
        same = same and torch.equal(first.occupancy, second.occupancy)
    return same and first.metrics.get("psnr") == second.metrics.get("psnr")
