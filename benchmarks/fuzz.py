"""Feeds changed inputs to every reader, hundreds of thousands of each, in processes that may crash or lack memory.

python benchmarks/fuzz.py [name ...] [--inputs 200000] [--seconds 600] [--seed 0] [--list]

Inputs and readers are those of tests/fuzz, by number and seed: a finding is made again from them. Each kind has one
process with a limit of memory beyond what it begins with; if it dies, the input at which it died is a finding, and
another goes on behind it. It stops after --seconds of its own time; the row states how many inputs that were. A kind
whose row has fewer inputs than asked for, and no findings, goes on where its row ends: its numbers are sums over runs,
its commit is that of the last.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from table import FOLDER, row, write

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
MEMORY = 2 << 30  # bytes that one reader may ask for, beyond what its process has
CHUNK = 500  # inputs between two reports of a process
TABLE = FOLDER / "fuzz.json"
TITLE = "Changed inputs fed to every reader"


def child(name: str, first: int, count: int, limits: tuple[int, float], out: int, place: int) -> None:
    """Feeds one kind from number `first` on; `limits`: seed, seconds. Writes a JSON line to `out` for each chunk, and
    to `place` the number of each input before it is used.
    """
    from tests.fuzz.run import fuzz
    from tests.fuzz.targets import TARGETS

    seed, seconds = limits
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    here = 1024 * int(next(x for x in Path("/proc/self/status").open() if x.startswith("VmSize")).split()[1])
    resource.setrlimit(resource.RLIMIT_AS, (here + MEMORY, here + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent, end = 0.0, first + count
    while first < end and spent < seconds:
        with tempfile.TemporaryDirectory(dir=_fast()) as folder:
            outcome = fuzz(
                TARGETS[name], Path(folder), min(CHUNK, end - first), seed, first,
                lambda number: os.pwrite(place, b"%-12d" % number, 0),
            )  # fmt: skip
        first, spent = first + outcome.inputs, spent + outcome.seconds
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        said = [outcome.inputs, outcome.refused, outcome.seconds, outcome.slowest, grown, outcome.findings]
        os.write(out, (json.dumps(said) + "\n").encode())


def _fast() -> str | None:
    """A folder in memory, if there is one: every input is written once."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


SUMS = {"inputs": 0, "refused": 0, "seconds": 0.0, "slowest_ms": 0.0, "grown_mb": 0.0}


def feed(name: str, count: int, seed: int, seconds: float, total: dict) -> dict:
    """One kind, through crashes: inputs, refused, seconds, slowest, MB grown, findings; goes on from a `total`."""
    findings: list[tuple[int, str]] = []
    first, crashes, seconds = total["inputs"], 0, seconds + total["seconds"]
    with tempfile.NamedTemporaryFile() as number:
        number.write(b"%-12d" % -1)
        number.flush()
        while first < count and total["seconds"] < seconds and crashes < 20:
            reading, writing = os.pipe()
            process = os.fork()
            if not process:
                try:
                    limits = seed, seconds - total["seconds"]
                    child(name, first, count - first, limits, writing, number.fileno())
                    os._exit(0)
                except BaseException:
                    os._exit(99)
            os.close(writing)
            for line in os.fdopen(reading):
                inputs, refused, spent, slowest, grown, found = json.loads(line)
                first += inputs
                total["inputs"] += inputs
                total["refused"] += refused
                total["seconds"] += spent
                total["slowest_ms"] = max(total["slowest_ms"], 1000 * slowest)
                total["grown_mb"] = max(total["grown_mb"], grown)
                findings += [tuple(each) for each in found]
            ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if ended == 0:
                break
            at = int(os.pread(number.fileno(), 12, 0))
            findings.append((at, f"the process ended with {ended}"))
            total["inputs"], first, crashes = total["inputs"] + at + 1 - first, at + 1, crashes + 1
    kinds: dict[str, tuple[int, str]] = {}
    for at, text in findings:
        kinds.setdefault(text.partition(":")[0] + text[:60], (at, text))
    return {k: round(v, 1) for k, v in total.items()} | {"findings": len(findings), "of": list(kinds.values())}


def main() -> None:
    """Feeds the kinds that are named, or all, one after the other; writes the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    import torch

    from tests.fuzz.targets import TARGETS

    torch.set_num_threads(1)

    if options.list:
        print("\n".join(TARGETS))
        return
    for name in options.names or TARGETS:
        begin = time.perf_counter()
        rows = json.loads(TABLE.read_text()) if TABLE.is_file() else []
        command = f"python benchmarks/fuzz.py {name!r} --inputs {options.inputs} --seed {options.seed}"
        total = dict(SUMS)
        for each in rows:
            if each["kind"] == name and each["command"].endswith(f"--seed {options.seed}") and not each["findings"]:
                total = {k: each[k] for k in SUMS}
        if total["inputs"] >= options.inputs:
            continue
        found = feed(name, options.inputs, options.seed, options.seconds, total)
        print(f"{name}: {found} in {time.perf_counter() - begin:.0f} s", flush=True)
        columns = {k: v for k, v in found.items() if k != "of"}
        said = "; ".join(f"{at}: {text}" for at, text in found["of"])
        others = [each for each in rows if each["kind"] != name]
        write("fuzz", TITLE, [*others, row(command, kind=name, **columns, what=said)])


if __name__ == "__main__":
    main()
