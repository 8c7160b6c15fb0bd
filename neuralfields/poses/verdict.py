"""Verdict on camera poses: missing photos, reprojection errors, parallax, and duplicate structure (repeated patterns).

A small reprojection error says nothing about duplicate structure: two walls that look alike are registered on top of
each other, and every photo fits. It shows at the seam, where the copies part again: photos that were truly taken side
by side have verified matches, but in the model they are far apart.

Vocabulary
  contradicted  a photo with a pair of at least 100 verified matches, a third of the strongest pair of either photo or
                more, of which less than half are inliers of the model (agreement, poses/graph.py); repeated patterns
                give right poses such pairs too, but weaker ones
  jump          two photos consecutive in name or time, over 3 times the median step apart in the model
  retraced      fraction of photos at the place of a photo of another stretch between jumps: a walk around an object
                whose sides look alike becomes several walks along the same arc
  broken        jumps whose two photos have matches that are outliers of the model (agreement below 0.7)
  level         trusted; doubts: usable, with warnings; doubtful: `nf fit` refuses it unless that is accepted

Not detected: duplicate structure in unordered photos whose seam has too few matches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from neuralfields.poses.graph import PairFigures, PoseGraph, held_out_errors, pair_figures

Level = Literal["trusted", "doubts", "doubtful"]
AGREES, STRONG, MANY = 0.5, 0.35, 100  # agreement; fraction of the strongest pair of either photo; matches
MOST_CONTRADICTED, SOME_CONTRADICTED = 0.1, 0.04  # fractions of the registered photos
JUMP, SAME_PLACE, SAME_VIEW = 3.0, 1.0, 15.0  # median steps; median steps; degrees
MOST_RETRACED, BROKEN = 0.5, 0.7
FEWEST_REGISTERED, MANY_REGISTERED = 0.5, 0.8
LARGE_PART = 0.2
FEW_POINTS = 30  # for each photo
FLAT, NEARLY_FLAT = 1.0, 2.0  # degrees
HIGH_ERROR, VERY_HIGH_ERROR = 1.5, 4.0  # px on a diagonal of 1000
FEW_FEATURES, BLURRED = 200, 0.4  # keypoints; share of the median sharpness


@dataclass(frozen=True)
class Verdict:
    """Verdict on poses: level, reasons in words, and figures.

    `parts`: photos in each model found, largest first; reprojection errors in px, `held_out` and `held_out_90` median
    and 90th percentile; `contradicted` and `retraced`: fractions of the registered photos; `parallax` in degrees.
    """

    level: Level
    reasons: tuple[str, ...]
    photos: int
    registered: int
    parts: tuple[int, ...]
    points: int
    reprojection: float
    held_out: float
    held_out_90: float
    contradicted: float
    jumps: int
    broken: int
    retraced: float
    parallax: float

    @property
    def line(self) -> str:
        """Summary of one line."""
        words = {"trusted": "trusted", "doubts": "usable, with doubts", "doubtful": "DOUBTFUL"}[self.level]
        return (
            f"{self.registered} of {self.photos} photos, {self.points} points, reprojection {self.reprojection:.2f} px,"
            f" held out {self.held_out:.2f} px: {words}"
        )


def judge(graph: PoseGraph, models: Sequence[Sequence[str]], reprojection: float) -> Verdict:
    """Judges a model; `models`: names of the photos in each model found, `reprojection`: mean error in px."""
    pairs, errors = pair_figures(graph), held_out_errors(graph)
    registered = int(graph.registered.sum())
    held_out, held_out_90 = (float(v) for v in np.quantile(errors, [0.5, 0.9])) if len(errors) else (np.nan, np.nan)
    figures: dict[str, Any] = {
        "photos": len(graph.names),
        "registered": registered,
        "parts": tuple(len(model) for model in models),
        "points": len(graph.points),
        "reprojection": reprojection,
        "held_out": held_out,
        "held_out_90": held_out_90,
        "contradicted": len(contradicted(pairs)) / max(registered, 1),
        **retrace(graph, pairs),
        "parallax": parallax(graph),
    }
    size = 1000 / float(np.median(graph.diagonal))
    doubtful, doubts = _reasons(figures, size)
    level: Level = "doubtful" if doubtful else "doubts" if doubts else "trusted"
    return Verdict(level=level, reasons=(*doubtful, *doubts), **figures)


def contradicted(pairs: PairFigures) -> np.ndarray:
    """Indices of photos with a strong pair that disagrees with the model."""
    if not len(pairs.pairs):
        return np.zeros(0, int)
    strongest = np.zeros(pairs.pairs.max() + 1)
    for side in (0, 1):
        np.maximum.at(strongest, pairs.pairs[:, side], pairs.inliers)
    strong = pairs.inliers >= np.maximum(STRONG * strongest[pairs.pairs].min(axis=1), MANY)
    return np.unique(pairs.pairs[strong & (pairs.agreement < AGREES)])


def retrace(graph: PoseGraph, pairs: PairFigures) -> dict[str, Any]:
    """Statistics of the camera path in order of names: `jumps`, how many are `broken`, the fraction `retraced`."""
    index = np.flatnonzero(graph.registered)
    if len(index) < 4:
        return {"jumps": 0, "broken": 0, "retraced": 0.0}
    centres, ahead = graph.centres[index], graph.camera_from_world[index, 2, :3]
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    usual = float(np.median(steps))
    jumps = np.flatnonzero(steps > JUMP * usual)
    stretch = np.r_[0, np.cumsum(steps > JUMP * usual)]
    distance = np.linalg.norm(centres[:, None] - centres, axis=2)
    near = (distance < SAME_PLACE * usual) & (ahead @ ahead.T > np.cos(np.radians(SAME_VIEW)))
    again = (near & (stretch[:, None] != stretch)).any(axis=1)
    agreement = {tuple(pair): value for pair, value in zip(pairs.pairs.tolist(), pairs.agreement, strict=True)}
    across = [agreement.get((int(index[j]), int(index[j + 1]))) for j in jumps]
    broken = sum(value is not None and value < BROKEN for value in across)
    return {"jumps": len(jumps), "broken": broken, "retraced": float(again.mean())}


def parallax(graph: PoseGraph) -> float:
    """Parallax in degrees: angle of the cameras' spread at the points' distance, medians; near 0 for pure rotation."""
    centres = graph.centres[graph.registered]
    if not len(graph.points) or len(centres) < 2:
        return 0.0
    middle = np.median(centres, axis=0)
    spread = float(np.median(np.linalg.norm(centres - middle, axis=1)))
    distance = float(np.median(np.linalg.norm(graph.points - middle, axis=1)))
    return float(np.degrees(np.arctan2(2 * spread, max(distance, 1e-12))))


def _reasons(f: dict[str, Any], size: float) -> tuple[list[str], list[str]]:
    """Reasons that make poses doubtful, and reasons that only raise doubts; `size` scales px to a diagonal of 1000."""
    bad, some = [], []

    def sort(value: float, worse: float, worst: float, text: str) -> None:
        (bad if value > worst else some if value > worse else []).append(text)

    share = f["contradicted"]
    text = (
        f"{share:.0%} of the photos have matches that are outliers of these poses: the scene may have duplicate"
        " structure (equal walls, repeated patterns) and be folded onto itself; check the cameras with nf view,"
        " add photos of where they differ, or a patterned cloth on the ground"
    )
    sort(share, SOME_CONTRADICTED, MOST_CONTRADICTED, text)
    if f["retraced"] > MOST_RETRACED and f["jumps"] > 1:
        text = (
            f"{f['retraced']:.0%} of the photos are at the place of photos of another stretch, and the path jumps back"
            f" {f['jumps']} times, {f['broken']} times against the matches of neighbours: sides that look alike may"
            " have been taken for one; add a difference, such as a patterned cloth on the ground"
        )
        (bad if f["broken"] > 1 else some).append(text)
    missing = 1 - f["registered"] / max(f["photos"], 1)
    text = f"only {f['registered']} of {f['photos']} photos were registered; add photos in between"
    sort(missing, 1 - MANY_REGISTERED, 1 - FEWEST_REGISTERED, text)
    if len(f["parts"]) > 1 and f["parts"][1] >= LARGE_PART * f["photos"]:
        parts = ", ".join(map(str, f["parts"]))
        some.append(f"the photos fall into parts of {parts}, the largest is kept; add photos in between")
    flat = f"the cameras hardly moved ({f['parallax']:.1f} degrees of parallax): turning on the spot shows no depth"
    sort(-f["parallax"], -NEARLY_FLAT, -FLAT, flat)
    if np.isfinite(f["held_out"]):
        text = f"the held-out reprojection error is {f['held_out']:.1f} px; photos may be blurred, or things moved"
        sort(f["held_out"] * size, HIGH_ERROR, VERY_HIGH_ERROR, text)
    if f["points"] < FEW_POINTS * f["registered"]:
        some.append(f"only {f['points']} points for {f['registered']} photos: plain surfaces, or little overlap")
    return bad, some


def why_missing(graph: PoseGraph, models: Sequence[Sequence[str]], sharpness: dict[str, float]) -> dict[str, str]:
    """Photos that are not registered in the kept model, by name, with the likely reason."""
    middle = float(np.median(list(sharpness.values()))) if sharpness else 0.0
    elsewhere = {name: len(model) for model in models[1:] for name in model}
    reasons = {}
    for i in np.flatnonzero(~graph.registered):
        name, own = str(graph.names[i]), (graph.pairs == i).any(axis=1)
        count, best = int(own.sum()), int(graph.inliers[own].max(initial=0))
        keypoints = int(graph.starts[i + 1] - graph.starts[i])
        blurred = sharpness.get(name, middle) < BLURRED * middle
        if name in elsewhere:
            reasons[name] = f"belongs to another part of {elsewhere[name]} photos that shares too little with this one"
        elif keypoints < FEW_FEATURES:
            reasons[name] = f"few features ({keypoints}): plain, dark{' or blurred' if blurred else ''}"
        elif blurred:
            reasons[name] = "much less sharp than the others"
        elif not count:
            reasons[name] = "matches no other photo"
        else:
            reasons[name] = f"matches {count} photos, at best in {best} places: too few for a pose"
    return reasons
