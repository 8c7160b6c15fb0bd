"""The command line as a process meets it: output, exit codes, and errors of one line."""

import dataclasses
import errno
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from neuralfields import cli, errors
from neuralfields.models import nf_file
from neuralfields.options.fit import FitOptions
from neuralfields.options.machine import DoctorOptions
from neuralfields.options.models import RenderOptions
from neuralfields.verbs import doctor
from neuralfields.version import VERSION
from tests.support.fake_field import install, sample

ERRORS = Path(__file__).with_name("errors.txt")
Run = Callable[[Any], Any]


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`nf` in a process of its own."""
    command = [sys.executable, "-m", "neuralfields", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Run], None]:
    """Replaces the module behind a verb by one whose `run` is given."""

    def replace(name: str, run: Run) -> None:
        module = ModuleType(cli.VERBS[name].module)
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return replace


@pytest.mark.serial
def test_help_answers_in_a_quarter_of_a_second() -> None:
    """Of processor time, that another process does not take away; a machine with nothing else to do needs half."""
    best = 9.0
    for _ in range(3):
        begin = os.times()
        done = process("--help")
        end = os.times()
        best = min(best, end.children_user + end.children_system - begin.children_user - begin.children_system)
        assert done.returncode == 0 and done.stderr == ""
    assert best < 0.25, f"{best:.2f} s"


def test_the_overview_imports_nothing_heavy() -> None:
    code = (
        "import sys; from neuralfields.cli import main; assert main(['--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'PIL', 'tyro', 'dataclasses', 'neuralfields.options'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_of_a_verb_imports_no_torch() -> None:
    code = (
        "import sys; from neuralfields.cli import main; assert main(['fit', '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    alone = capsys.readouterr()
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr() == alone and alone.err == ""
    for name, verb in cli.VERBS.items():
        assert re.search(rf"^  {name} +{re.escape(verb.line)}$", alone.out, re.MULTILINE)
    assert max(map(len, alone.out.splitlines())) <= 80
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"neuralfields {VERSION}\n"


@pytest.mark.parametrize("name", cli.VERBS)
def test_help_of_every_verb_lists_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for item in dataclasses.fields(cli.VERBS[name].options):
        required = item.default is dataclasses.MISSING
        assert (item.name.upper() if required else "--" + item.name.replace("_", "-")) in shown


def test_options_reach_the_verb(verb: Callable[[str, Run], None], capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    verb("fit", lambda options: seen.append(options) or {"psnr": float("nan"), "out": Path("a.nf")})
    words = "fit --set levels=8 scene --minutes 1.5 --set table=15 code=8 --out a.nf --overwrite --json".split()
    assert cli.main(words) == 0
    settings = ("levels=8", "table=15", "code=8")
    assert seen == [FitOptions(Path("scene"), out=Path("a.nf"), minutes=1.5, overwrite=True, set=settings, json=True)]
    assert json.loads(capsys.readouterr().out) == {"psnr": None, "out": "a.nf"}
    verb("render", lambda options: seen.append(options) or {})
    assert cli.main("render a.nf out --what rgb,depth --what=opacity --path orbit".split()) == 0
    assert seen[-1] == RenderOptions(Path("a.nf"), Path("out"), path="orbit", what=("rgb", "depth", "opacity"))
    assert cli.main("render a.nf --what depth out".split()) == 0
    assert seen[-1] == RenderOptions(Path("a.nf"), Path("out"), what=("depth",))


def test_the_result_alone_is_on_standard_output(
    verb: Callable[[str, Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(options: Any) -> dict[str, Any]:
        print("a library's remark")
        return {"seconds": 1.25, "views": [{"psnr": 1.0}] * 2, "native": {"path": "fused"}, "empty": {}}

    verb("bench", run)
    assert cli.main(["bench", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1 and json.loads(shown.out)["seconds"] == 1.25
    assert shown.err == "a library's remark\n"
    assert cli.main(["bench"]) == 0
    shown = capsys.readouterr()
    assert "seconds              1.25" in shown.out and "2 entries" in shown.out and "path" in shown.out


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.NeuralfieldsError("x"), 3, "nf: error: x"),
        (errors.UsageError("x"), 2, "nf: error: x"),
        (errors.InputError("two\nlines"), 3, "nf: error: two lines"),
        (errors.PosesNotFoundError("x"), 4, "nf: error: x"),
        (
            errors.InterruptedFit("stopped at step 5; go on with --resume"),
            5,
            "nf: stopped at step 5; go on with --resume",
        ),
        (errors.ResourceError("x"), 6, "nf: error: x"),
        (KeyboardInterrupt(), 5, "nf: interrupted"),
        (MemoryError(), 6, "nf: error: out of memory; try a larger --downscale or close other programs"),
        (OutOfMemoryError("CUDA out of memory"), 6, "nf: error: out of memory; try a larger --downscale or close oth"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 6, "nf: error: out of memory"),
        (OSError(errno.ENOSPC, "No space left"), 6, "nf: error: the disk is full"),
        (ModuleNotFoundError("x", name="av.codec"), 2, "nf: error: the package 'av' is missing; install it with: pip"),
        (ZeroDivisionError("by zero"), 1, "nf: internal error: ZeroDivisionError: by zero (run again with --debug"),
    ],
)
def test_exit_codes(
    verb: Callable[[str, Run], None], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    def run(options: Any) -> None:
        raise error

    verb("demo", run)
    assert cli.main(["demo"]) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(line) and shown.err.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    missing = str(tmp_path / "a.nf")
    plain = process("info", missing)
    assert plain.returncode == 3 and plain.stderr.count("\n") == 1 and plain.stdout == ""
    for done in (process("info", missing, "--debug"), process("info", missing, NEURALFIELDS_DEBUG="1")):
        assert done.returncode == 3 and done.stderr.startswith("Traceback") and done.stderr.endswith(plain.stderr)


def test_a_closed_pipe_is_quiet() -> None:
    for words in (["--help"], ["fit", "--help"]):
        command = [sys.executable, "-m", "neuralfields", *words]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b"" and running.wait() == 0
        running.stderr.close()


def test_an_odd_environment_changes_nothing() -> None:
    odd = {"PYTHONOPTIMIZE": "2", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict", "TZ": "x"}
    assert process("--help", **odd).stdout == process("--help").stdout
    for words in (["fit", "--help"], ["fit"], ["fit", "ä", "--steps", "ß"]):
        done = process(*words, **odd)
        assert done.returncode == (0 if "--help" in words else 2) and "Traceback" not in done.stderr


def provoked(tmp_path: Path) -> list[list[str]]:
    """Command lines that must fail, and how: tests/errors.txt."""
    good = tmp_path / "good.nf"
    nf_file.save(sample(), good)
    raw = good.read_bytes()
    (tmp_path / "cut.nf").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "empty.nf").write_bytes(b"")
    (tmp_path / "text.nf").write_bytes(b"a text of some length")
    (tmp_path / "pickle.nf").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "flipped.nf").write_bytes(raw[:200] + bytes([raw[200] ^ 1]) + raw[201:])
    (tmp_path / "newer.nf").write_bytes(raw.replace(b'\\"format_version\\":2', b'\\"format_version\\":9'))
    (tmp_path / "older.nf").write_bytes(raw.replace(b'\\"format_version\\":2', b'\\"format_version\\":1'))
    files = ("missing", "cut", "empty", "text", "pickle", "flipped", "newer", "older")
    lines = [["info", str(tmp_path / f"{name}.nf")] for name in files]
    lines += [["info", str(tmp_path)], ["fti"], ["--quiet"], ["fit", "photos", "--set"]]
    lines += [["fit", "photos", flag, value] for flag, value in (("--steps", "0"), ("--downscale", "99"))]
    lines += [["fit", "photos", "--minutes", "nan"], ["fit", "photos", "--checkpoint-every", "0"]]
    lines += [["fit", "photos", "--resume", "--overwrite"], ["render", "a.nf", "b.mp4", "--width", "1000000"]]
    return lines


def test_messages_are_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NEURALFIELDS_UPDATE_ERRORS=1 writes tests/errors.txt anew; read the difference before it is committed."""
    install(monkeypatch)
    shown = []
    for words in provoked(tmp_path):
        code = cli.main(words)
        text = capsys.readouterr().err
        assert text.count("\n") == 1 and code in (2, 3, 4, 6), (words, code, text)
        shown += [f"$ nf {' '.join(words)}", f"{code} {text}"]
    text = "\n".join(shown).replace(str(tmp_path), "<folder>")
    if os.environ.get("NEURALFIELDS_UPDATE_ERRORS"):
        ERRORS.write_text(text)
    assert text == ERRORS.read_text()


def test_random_words_never_give_a_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import random

    chance = random.Random(0)
    words = [
        "info",
        "check",
        "--json",
        "--set",
        "a=1",
        "-",
        "--",
        "",
        "--steps",
        "1e9",
        "\x1b[2J",
        "x" * 5000,
        "\ud800",
    ]
    for _ in range(60):
        line = ["info", *chance.choices(words, k=chance.randrange(5))]
        assert cli.main(line) in (2, 3), line
        assert "Traceback" not in capsys.readouterr().err


def test_doctor_is_ready_and_says_what_runs(capsys: pytest.CaptureFixture[str]) -> None:
    result = doctor.run(DoctorOptions())
    assert result["ready"] and result["packages"]["torch"] and result["cores"] >= 1
    assert result["verdict"].startswith("ready: ") and result["busy_cores"] >= 0
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["neuralfields"] == VERSION
    shown = doctor.text(result)
    assert shown.splitlines()[-1] == result["verdict"] and "native core" in shown


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/stat is Linux's")
def test_doctor_says_when_others_use_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        busy = next((busy for busy in (doctor._busy_cores() for _ in range(10)) if busy > 0.5), 0.0)
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    assert busy > 0.5
    monkeypatch.setattr(doctor, "_cores", lambda: 2)
    monkeypatch.setattr(doctor, "_busy_cores", lambda: 1.0)
    assert any("1.0 of 2 cores" in line and "--threads 1" in line for line in doctor.run(DoctorOptions())["problems"])


def test_doctor_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(*missing: str) -> None:
        def load(name: str) -> ModuleType:
            if name in missing:
                raise ImportError(f"no {name} here")
            return real(name)

        monkeypatch.setattr(importlib, "import_module", load)

    without("neuralfields.ops.native")
    result = doctor.run(DoctorOptions())  # nothing computes without the core, so nothing is ready
    assert not result["ready"] and "no neuralfields.ops.native here" in result["verdict"]
    without("torch")
    result = doctor.run(DoctorOptions())
    assert not result["ready"] and result["verdict"] == "not ready: torch does not load (no torch here): reinstall it"
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    result = doctor.run(DoctorOptions())
    assert result["extras"]["video"]["install"] == "pip install 'neuralfields[video]'"
    assert "numpy is not installed: pip install numpy" in result["problems"]


def test_doctor_knows_the_dependencies() -> None:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    names = re.findall(r'"([a-zA-Z0-9-]+)', listed[1])
    assert sorted(names) == sorted(doctor.CORE)
