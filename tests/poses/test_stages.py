"""Stages: what is kept, what is done again, what is said."""

import io

import pytest

from neuralfields.poses.stages import Stages
from neuralfields.progress import StageDisplay


def stages(folder, stream=None):
    return Stages(folder, StageDisplay(quiet=stream is None, stream=stream))


def both(folder, first=1, second=1):
    """Two stages with these settings; which of them worked."""
    worked, run = [], stages(folder)

    def work(name):
        return lambda: worked.append(name) or {"name": name}

    assert run.run("one", {"value": first}, work("one"))["name"] == "one"
    assert run.run("two", {"value": second}, work("two"))["name"] == "two"
    assert run.cached == [name for name in ("one", "two") if name not in worked]
    return worked


def test_a_finished_stage_is_not_run_again(tmp_path):
    assert both(tmp_path) == ["one", "two"]
    assert both(tmp_path) == []


def test_a_changed_setting_invalidates_its_stage_and_those_after_it(tmp_path):
    both(tmp_path)
    assert both(tmp_path, second=2) == ["two"]
    assert both(tmp_path, first=2, second=2) == ["one", "two"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"digest": 3}'])
def test_a_torn_record_counts_as_none(tmp_path, damage):
    both(tmp_path)
    (tmp_path / "one.done.json").write_bytes(damage)
    assert both(tmp_path) == ["one"]


def test_a_stage_whose_output_is_gone_runs_again(tmp_path):
    output = tmp_path / "out"
    for _ in range(2):
        stages(tmp_path).run("one", {}, lambda: output.touch() or {}, [output])
        assert output.exists()
        output.unlink()


def test_a_stage_that_fails_leaves_no_record(tmp_path):
    both(tmp_path)

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages(tmp_path).run("one", {"value": 5}, fail)
    assert not (tmp_path / "one.done.json").exists()
    worked = []
    stages(tmp_path).run("one", {"value": 5}, lambda: worked.append("one") or {})
    assert worked == ["one"]


def test_plain_lines_say_what_came_of_a_stage(tmp_path):
    stream = io.StringIO()
    for _ in range(2):
        stages(tmp_path, stream).run("one", {}, lambda: {"n": 3}, summary=lambda r: f"{r['n']} things")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("one") and "3 things" in lines[0]
    assert "kept from an earlier run" in lines[1]
