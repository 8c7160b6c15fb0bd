"""Benchmarks that have a quick run survive it: what they import from us and from each other is still there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
QUICK = sorted(
    path.name
    for path in BENCHMARKS.glob("*.py")
    if path.name != "signal_case.py" and ('"--quick"' in path.read_text() or "signal_case import" in path.read_text())
)


@pytest.mark.slow
@pytest.mark.parametrize("script", QUICK)
def test_quick_runs(script: str, shared_data: Path, tmp_path: Path):
    pytest.importorskip("skimage", reason="scikit-image's pictures are needed: pip install scikit-image")
    for path in BENCHMARKS.glob("*.py"):  # a copy: what a run writes is none of ours
        shutil.copy(path, tmp_path)
    here = {"NEURALFIELDS_DATA": str(shared_data), "PYTHONPATH": str(BENCHMARKS.parent)}
    words = [sys.executable, str(tmp_path / script), "--quick"]
    done = subprocess.run(words, env=os.environ | here, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr[-3000:]
