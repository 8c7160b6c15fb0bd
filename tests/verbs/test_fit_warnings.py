"""What `nf check` warns of, a fit and its plan say too."""

from pathlib import Path

import numpy as np
import pytest

from tests.support import make_captures
from tests.support.fit_runs import SMALL, nf


@pytest.mark.parametrize("dry", [False, True])
def test_a_fit_repeats_what_check_warns_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_steps: None, dry: bool
) -> None:
    poses = [pose @ np.diag([1.0, -1, -1, 1]) for pose in make_captures.ring(16)]
    make_captures.transforms(tmp_path / "turned", poses)
    words = ["--dry-run"] if dry else ["--steps", 1, "--out", tmp_path / "a.nf", "--threads", 1]
    code, out, err = nf(capsys, "fit", tmp_path / "turned", "--field", "hash", "--set", *SMALL, *words)
    assert code == 0 and "OpenCV axes" in (out if dry else err)
    log = tmp_path / "a.nf.log.jsonl"
    assert dry or "OpenCV axes" in log.read_text() + err
