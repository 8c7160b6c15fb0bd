"""`nf`: one command, flat verbs. Each verb's module is imported only when it runs.

Standard output holds the result alone (one JSON object with --json), standard error everything else. Exit codes:
0 done, 1 our mistake, 2 usage, 3 bad input, 4 poses not found, 5 interrupted, 6 out of memory or disk.
"""

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from typing import Any, NamedTuple

from neuralfields.errors import InterruptedFit, NeuralfieldsError, ResourceError, UsageError
from neuralfields.search_path import leave_working_folder

ERROR, INTERRUPTED, OUT_OF_RESOURCES = 1, 5, 6
LONGEST_LINE = 1200  # characters of an error


class Verb(NamedTuple):
    """One subcommand: its options as module.Class, the module whose `run` does it, one line for the overview."""

    kind: str
    module: str
    line: str

    @property
    def options(self) -> type[Any]:
        """The class of its options, imported only now: the overview needs none."""
        module, _, name = self.kind.partition(".")
        return getattr(importlib.import_module(f"neuralfields.options.{module}"), name)


VERBS = {
    "fit": Verb("fit.FitOptions", "neuralfields.verbs.fit", "fit a field to a capture, image, mesh, video or sound"),
    "eval": Verb("models.EvalOptions", "neuralfields.verbs.evaluate", "measure PSNR and SSIM on held-out views"),
    "convert": Verb(
        "models.ConvertOptions", "neuralfields.verbs.convert", "distil a field into another architecture or size"
    ),
    "compress": Verb("models.CompressOptions", "neuralfields.verbs.compress", "make a scene small, as .nfz"),
    "edit": Verb("models.EditOptions", "neuralfields.verbs.edit", "erase a box of a scene, or keep only a box"),
    "render": Verb(
        "models.RenderOptions", "neuralfields.verbs.render", "render views, an orbit or a spiral as PNG or video"
    ),
    "view": Verb("models.ViewOptions", "neuralfields.verbs.view", "show models and captures in a browser"),
    "share": Verb(
        "models.ShareOptions", "neuralfields.verbs.share", "write a scene as one page for a friend's browser"
    ),
    "export": Verb("models.ExportOptions", "neuralfields.verbs.export", "write a mesh, an image, a video or a sound"),
    "info": Verb("models.InfoOptions", "neuralfields.verbs.info", "show what a model file contains"),
    "poses": Verb("captures.PosesOptions", "neuralfields.verbs.poses", "find camera poses for photos or a video"),
    "check": Verb("captures.CheckOptions", "neuralfields.verbs.check", "check a capture before fitting it"),
    "doctor": Verb(
        "machine.DoctorOptions", "neuralfields.verbs.doctor", "show what is installed and which backend will run"
    ),
    "bench": Verb("machine.BenchOptions", "neuralfields.verbs.bench", "compare the native kernels with plain torch"),
    "demo": Verb(
        "machine.DemoOptions", "neuralfields.verbs.demo", "fit the bundled scene in a minute and show the result"
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
  nf render fox.nf turn.mp4 --path orbit    an orbit around the scene
"""


def overview() -> str:
    """Text of `nf --help`."""
    return OVERVIEW.format(verbs="\n".join(f"  {name:<9}{verb.line}" for name, verb in VERBS.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code and never raises for what a user can cause."""
    if arguments is None:  # this process is `nf`
        leave_working_folder()
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
        from neuralfields.settings import did_you_mean

        kind = "option" if name.startswith("-") else "verb"
        near = did_you_mean(name, VERBS)
        raise UsageError(f"unknown {kind} {name!r}{near}; verbs: {', '.join(VERBS)}")
    return _run(VERBS[name], parse(name, words[1:]))


def parse(name: str, words: Sequence[str]) -> Any:
    """The options object of a verb from its words; SystemExit (0 help, 2 usage) or UsageError otherwise."""
    from neuralfields.options.command_line import read_options

    return read_options(VERBS[name].options, f"nf {name}", words)


def _run(verb: Verb, chosen: Any) -> int:
    module = importlib.import_module(verb.module)
    with redirect_stdout(sys.stderr):  # nothing that a library prints may end up in the result
        result = module.run(chosen)
    if int(os.environ.get("RANK", "0")):  # torchrun's other processes: the first one reports
        return 0
    shown = getattr(module, "text", readable)
    if chosen.json:
        import json

        from neuralfields.files import plain

        sys.stdout.write(json.dumps(plain(result), allow_nan=False) + "\n")
    else:
        from neuralfields.files import printable

        sys.stdout.write(printable(shown(result)) + "\n")
    return getattr(module, "exit_code", lambda _: 0)(result)


def readable(result: dict[str, Any], indent: str = "") -> str:
    """Formats a plain result as `name  value` lines; long lists are counted, not shown."""
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
    from neuralfields.files import printable

    code, message = classify(error)
    message = printable(message)
    if len(message) > LONGEST_LINE:  # a file may hold names and values of any length
        message = f"{message[: LONGEST_LINE - LONGEST_LINE // 4]} ... {message[-LONGEST_LINE // 4 :]}"
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
