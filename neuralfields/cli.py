"""`nf`: one command, flat verbs. Each verb's module is imported only when it runs.

Standard output holds the result alone (one JSON object with --json), standard error everything else. Exit codes:
0 done, 1 our mistake, 2 usage, 3 bad input, 4 poses not found, 5 interrupted, 6 out of memory or disk.
"""

import errno
import importlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any, get_args

from neuralfields.errors import InterruptedFit, NeuralfieldsError, ResourceError, UsageError
from neuralfields.options import captures as options_poses
from neuralfields.options import fit as options
from neuralfields.options import models as options_models
from neuralfields.settings import did_you_mean

ERROR, INTERRUPTED, OUT_OF_RESOURCES = 1, 5, 6


@dataclass(frozen=True)
class Verb:
    """A verb: its options, the module whose `run` does it, and one line for the overview."""

    options: type
    module: str
    line: str


VERBS = {
    "fit": Verb(options.FitOptions, "neuralfields.verbs.fit", "fit a field to a capture, image, mesh, video or sound"),
    "eval": Verb(options.EvalOptions, "neuralfields.verbs.evaluate", "measure PSNR and SSIM on the held-out views"),
    "convert": Verb(
        options_models.ConvertOptions, "neuralfields.verbs.convert", "turn a field into another kind or size"
    ),
    "edit": Verb(options_models.EditOptions, "neuralfields.verbs.edit", "erase a box of a scene, or keep a box alone"),
    "render": Verb(
        options.RenderOptions, "neuralfields.verbs.render", "render views, an orbit or a spiral: PNG or video"
    ),
    "view": Verb(options.ViewOptions, "neuralfields.verbs.view", "look at fields and captures in a browser, live"),
    "export": Verb(
        options_models.ExportOptions, "neuralfields.verbs.export", "write a mesh, an image, a video or a sound"
    ),
    "info": Verb(options.InfoOptions, "neuralfields.verbs.info", "say what is in a .nf file"),
    "poses": Verb(options_poses.PosesOptions, "neuralfields.verbs.poses", "find camera poses for photos or a video"),
    "check": Verb(options.CheckOptions, "neuralfields.verbs.check", "look at a capture before fitting it"),
    "doctor": Verb(options.DoctorOptions, "neuralfields.verbs.doctor", "say what is installed and which path will run"),
    "bench": Verb(options.BenchOptions, "neuralfields.verbs.bench", "measure the native path against plain torch"),
    "demo": Verb(
        options.DemoOptions, "neuralfields.verbs.demo", "fit the bundled scene in a minute and show the result"
    ),
}

OVERVIEW = """\
usage: nf VERB [arguments]

Fits neural fields to posed photos, and measures and renders them, on the
computer you have.

verbs
{verbs}

  nf VERB --help   the options of a verb
  nf --version     the version
  --debug          with any verb: the traceback of an error

examples
  nf fit fox/ --minutes 2                   fox/ holds photos and their poses
  nf render fox.nf turn.mp4 --path orbit    a turn around what was fitted
"""


def overview() -> str:
    """What `nf --help` prints."""
    return OVERVIEW.format(verbs="\n".join(f"  {name:<9}{verb.line}" for name, verb in VERBS.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code and never raises for what a user can cause."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal without Unicode shows ? instead of failing
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")
    debug = os.environ.get("NEURALFIELDS_DEBUG", "") not in ("", "0") or "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader (head, less) has seen enough
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:  # tyro: 0 after help, 2 after a usage error
        return stop.code if isinstance(stop.code, int) else 2
    except BaseException as error:
        if debug:
            import traceback

            traceback.print_exc()
        return _report(error)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if words[0] in ("-V", "--version"):
        from neuralfields.version import VERSION

        sys.stdout.write(f"neuralfields {VERSION}\n")
        return 0
    name = words[0]
    if name not in VERBS:
        kind = "option" if name.startswith("-") else "verb"
        near = did_you_mean(name, VERBS)
        raise UsageError(f"unknown {kind} {name!r}{near}; verbs: {', '.join(VERBS)}")
    return _run(VERBS[name], parse(name, words[1:]))


def parse(name: str, words: Sequence[str]) -> Any:
    """The options object of a verb from its words; SystemExit (0 help, 2 usage) or UsageError otherwise."""
    import tyro

    kind = VERBS[name].options
    markers = tyro.conf
    config = (
        markers.PositionalRequiredArgs,
        markers.PositionalMetavarFromFieldName,
        markers.FlagCreatePairsOff,
        markers.DisallowNone,
    )
    words = ["--out" if word == "-o" else word for word in gather_lists(kind, words)]
    return tyro.cli(kind, prog=f"nf {name}", args=words, config=config)


def gather_lists(kind: type, words: Sequence[str]) -> list[str]:
    """Lets options that take several values be repeated, split by commas, and stand before a positional argument.

    `--set a=1 SCENE --set b=2` and `--what rgb,depth OUT` become one list at the end, where it can swallow nothing.
    """
    hints = kind.__annotations__
    lists = ("--set", "--what", "--recipe", "--erase-box", "--keep-box")
    found: dict[str, list[str]] = {flag: [] for flag in lists if flag[2:].replace("-", "_") in hints}
    kept, queue = [], list(words)
    while queue:
        head, equals, value = queue[0].partition("=")
        if head not in found:
            kept.append(queue.pop(0))
            continue
        queue.pop(0)
        values = [value] if equals else [queue.pop(0)] if queue and not queue[0].startswith("-") else []
        while queue and _belongs(head, queue[0]):
            values.append(queue.pop(0))
        found[head] += [part for value in values for part in (value.split(",") if head == "--what" else [value])]
        if not values:
            raise UsageError(f"{head}: needs a value; `--help` after the verb says which")
    return kept + [word for flag, values in found.items() if values for word in (flag, *values)]


def _belongs(flag: str, word: str) -> bool:
    if flag in ("--erase-box", "--keep-box"):
        return word.count(",") == 5
    if flag in ("--set", "--recipe"):
        return "=" in word and not word.startswith("-") and "/" not in word.partition("=")[0]
    return all(part in get_args(options.Quantity) for part in word.split(","))


def _run(verb: Verb, chosen: Any) -> int:
    module = importlib.import_module(verb.module)
    with redirect_stdout(sys.stderr):  # nothing that a library prints may end up in the result
        result = module.run(chosen)
    if int(os.environ.get("RANK", "0")):  # torchrun's other processes: the first one reports
        return 0
    shown = getattr(module, "text", readable)
    if chosen.json:
        from neuralfields.files import plain

        sys.stdout.write(json.dumps(plain(result), allow_nan=False) + "\n")
    else:
        sys.stdout.write(shown(result) + "\n")
    return getattr(module, "exit_code", lambda _: 0)(result)


def readable(result: dict[str, Any], indent: str = "") -> str:
    """Any plain result as `name  value` lines; long lists are counted, not shown."""
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", readable(value, indent + "  ")] if value else []
        elif isinstance(value, list | tuple) and (len(value) > 8 or any(isinstance(item, dict) for item in value)):
            lines.append(f"{indent}{name:<20} {len(value)} entries (all of them with --json)")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value)
            lines.append(f"{indent}{name:<20} {shown}")
    return "\n".join(lines)


def _report(error: BaseException) -> int:
    """Prints one line for an error and returns its exit code."""
    code, message = classify(error)
    with suppress(OSError, ValueError):
        sys.stderr.write(f"nf: {message}\n")
        sys.stderr.flush()
    return code


def classify(error: BaseException) -> tuple[int, str]:
    """The exit code and the one line of an error."""
    text = " ".join(str(error).split())
    if isinstance(error, InterruptedFit):
        return error.exit_code, text
    if isinstance(error, NeuralfieldsError):
        return error.exit_code, f"error: {text}"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError.exit_code, "error: the disk is full; free some space and run again"
    no_memory = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text
    if isinstance(error, MemoryError) or no_memory:
        return OUT_OF_RESOURCES, "error: out of memory; try a larger --downscale or close other programs"
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "neuralfields":
        name = error.name.partition(".")[0]
        return UsageError.exit_code, f"error: the package {name!r} is missing; install it with: pip install {name}"
    kind = type(error).__name__
    return ERROR, f"internal error: {kind}: {text[:300]} (run again with --debug for the traceback)"


if __name__ == "__main__":
    raise SystemExit(main())
