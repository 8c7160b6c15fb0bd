"""The verdict on models of our own making: honest ones, folded ones, flat ones, with noise and missing photos."""

from dataclasses import replace

import numpy as np
import pytest

from neuralfields.poses.graph import PoseGraph, held_out_errors, pair_figures
from neuralfields.poses.verdict import contradicted, judge, parallax, retrace, why_missing
from tests.support.make_captures import looking_at

FOCAL, DIAGONAL, POINTS = 500.0, 800.0, 600


def ring(count: int = 20, arc: float = 360.0) -> np.ndarray:
    """camera_from_world [count, 3, 4] on a circle of radius 4 about the origin, OpenCV axes."""
    angles = np.radians(arc) * np.arange(count) / count
    poses = []
    for k, angle in enumerate(angles):
        matrix = looking_at(np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.0 + 0.1 * (k % 2)]), np.zeros(3))
        poses.append(np.linalg.inv(matrix @ np.diag([1.0, -1.0, -1.0, 1.0]))[:3])
    return np.stack(poses)


def graph_of(true: np.ndarray, said: np.ndarray | None = None, noise: float = 0.3, reach: float = 50.0) -> PoseGraph:
    """Points on a ball, seen from the side that they are on, matched between photos less than `reach` degrees apart by
    the true poses; the model says the poses `said`.
    """
    generator = np.random.default_rng(0)
    said = true if said is None else said
    points = generator.standard_normal((POINTS, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    centres = -np.einsum("nji,nj->ni", true[:, :, :3], true[:, :, 3])
    towards = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    seen = [np.flatnonzero(points @ direction > 0.3) for direction in towards]
    normalised, starts = [], [0]
    for pose, visible in zip(true, seen, strict=True):
        local = points[visible] @ pose[:, :3].T + pose[:, 3]
        normalised.append(local[:, :2] / local[:, 2:] + generator.standard_normal((len(visible), 2)) * noise / FOCAL)
        starts.append(starts[-1] + len(visible))
    pairs, matches, match_starts = [], [np.zeros((0, 2), np.int64)], [0]
    for j in range(len(true)):
        for i in range(j):
            if towards[i] @ towards[j] > np.cos(np.radians(reach)):
                _, first, second = np.intersect1d(seen[i], seen[j], return_indices=True)
                if len(first) >= 15:
                    pairs.append((i, j))
                    matches.append(np.stack([first, second], axis=1))
                    match_starts.append(match_starts[-1] + len(first))
    return PoseGraph(
        names=np.array([f"{i:03d}.jpg" for i in range(len(true))]),
        registered=np.ones(len(true), bool),
        camera_from_world=said,
        focal=np.full(len(true), FOCAL),
        diagonal=np.full(len(true), DIAGONAL),
        starts=np.array(starts),
        normalised=np.concatenate(normalised),
        point=np.concatenate(seen),
        points=points,
        pairs=np.array(pairs),
        raw=np.diff(match_starts),
        match_starts=np.array(match_starts),
        matches=np.concatenate(matches),
    )


def verdict_of(graph: PoseGraph, models: list | None = None):
    return judge(graph, models or [graph.names[graph.registered].tolist()], 0.5)


def test_an_honest_ring_is_trusted():
    graph = graph_of(ring())
    verdict = verdict_of(graph)
    assert verdict.level == "trusted" and not verdict.reasons
    assert verdict.contradicted == 0 and verdict.retraced == 0 and verdict.broken == 0
    assert 0.1 < verdict.held_out < 1.0 and verdict.parallax > 45
    assert pair_figures(graph).agreement.min() > 0.99
    assert "trusted" in verdict.line


def test_a_folded_ring_is_doubtful():
    """Every quarter of the circle laid over the first, as equal sides do it; matches at the seams are the true ones."""
    true = ring()
    graph = graph_of(true, said=true[np.arange(20) % 5])
    verdict = verdict_of(graph)
    assert verdict.level == "doubtful"
    assert verdict.retraced == 1.0 and verdict.jumps == 3 and verdict.broken == 3
    assert "look alike" in " ".join(verdict.reasons)


def test_a_second_walk_along_the_same_arc_is_honest():
    """From the same places again, with a jump back in between: what the sides' neighbours match says nothing else."""
    once = ring(10, arc=120.0)
    verdict = verdict_of(graph_of(np.concatenate([once, once + 1e-3])))
    assert verdict.jumps == 1 and verdict.retraced == 1.0 and verdict.level == "trusted"


def test_one_photo_at_a_wrong_place_is_told():
    true = ring()
    said = true.copy()
    said[7] = true[16]
    verdict = verdict_of(graph_of(true, said))
    # It contradicts its neighbours; a strong pair with each of them.
    assert verdict.contradicted >= 0.1 and verdict.level == "doubtful"


def test_weak_pairs_that_disagree_are_no_evidence():
    graph = graph_of(ring())
    generator = np.random.default_rng(1)
    extra = np.stack([generator.integers(0, 100, 40), generator.integers(0, 100, 40)], axis=1)
    graph = replace(
        graph,
        pairs=np.concatenate([graph.pairs, [[0, 10]]]),
        raw=np.r_[graph.raw, 40],
        matches=np.concatenate([graph.matches, extra]),
        match_starts=np.r_[graph.match_starts, graph.match_starts[-1] + 40],
    )
    assert pair_figures(graph).agreement[-1] < 0.5
    assert len(contradicted(pair_figures(graph))) == 0 and verdict_of(graph).level == "trusted"


def test_turning_on_the_spot_is_doubtful():
    poses = ring(12, arc=60.0)
    poses[:, :, 3] = -poses[:, :, :3] @ np.array([0.0, 0.0, 4.0])
    graph = graph_of(poses)
    assert parallax(graph) < 0.1
    verdict = verdict_of(graph)
    assert verdict.level == "doubtful" and "hardly moved" in " ".join(verdict.reasons)


@pytest.mark.parametrize(("noise", "level"), [(0.3, "trusted"), (2.0, "doubts"), (8.0, "doubtful")])
def test_what_was_left_out_measures_the_noise(noise, level):
    graph = graph_of(ring(), noise=noise)
    verdict = verdict_of(graph)
    assert verdict.level == level
    assert verdict.held_out == pytest.approx(np.median(held_out_errors(graph)))
    assert 0.7 * noise < verdict.held_out < 2.0 * noise


@pytest.mark.parametrize(("registered", "level"), [(20, "trusted"), (15, "doubts"), (8, "doubtful")])
def test_photos_without_a_place_count(registered, level):
    graph = graph_of(ring())
    without = np.arange(20) >= registered
    poses = graph.camera_from_world.copy()
    poses[without] = np.nan
    point = np.where(without[graph.photo_of], -1, graph.point)
    graph = replace(graph, registered=~without, camera_from_world=poses, point=point)
    verdict = verdict_of(graph)
    assert verdict.level == level and verdict.registered == registered
    assert len(why_missing(graph, [[]], {})) == 20 - registered


def test_parts_of_some_size_are_told():
    graph = graph_of(ring())
    names = graph.names.tolist()
    assert verdict_of(graph, [names, names[:6]]).level == "doubts"
    assert verdict_of(graph, [names, names[:3]]).level == "trusted"


def test_the_reason_why_a_photo_is_missing():
    graph = graph_of(ring(6, arc=60.0))
    names = [*graph.names.tolist(), "dark.jpg", "alone.jpg", "soft.jpg", "other.jpg"]
    more = np.cumsum([50, 900, 900, 900]) + graph.starts[-1]
    graph = replace(
        graph,
        names=np.array(names),
        registered=np.r_[graph.registered, np.zeros(4, bool)],
        starts=np.r_[graph.starts, more],
    )
    sharpness = dict.fromkeys(names, 1.0) | {"soft.jpg": 0.1}
    reasons = why_missing(graph, [names[:6], ["other.jpg", "x.jpg"]], sharpness)
    assert list(reasons) == ["dark.jpg", "alone.jpg", "soft.jpg", "other.jpg"]
    for name, words in zip(reasons, ("few features (50)", "no other photo", "less sharp", "another part"), strict=True):
        assert words in reasons[name]


def test_a_few_photos_have_no_walk():
    graph = graph_of(ring(3, arc=30.0))
    assert retrace(graph, pair_figures(graph)) == {"jumps": 0, "broken": 0, "retraced": 0.0}
