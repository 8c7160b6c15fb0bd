"""Structure from motion (features, matches, model) in up to two attempts.

Vocabulary
  attempt   a set of options: number of features, thresholds, lens; the next is run when too few photos are registered,
            or COLMAP fails (its name is the `rung` of poses.json)
  matching  the strategy: exhaustive (all pairs), sequential (neighbours) or retrieval (the most similar photos)
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuralfields.captures.images import FEWEST_IMAGES
from neuralfields.errors import PosesNotFoundError
from neuralfields.options.captures import PoseSettings
from neuralfields.poses.colmap_process import ColmapFailure, run_job
from neuralfields.poses.photos import Photo, lens_groups, write_copies
from neuralfields.poses.stages import Stages
from neuralfields.poses.verdict import FEWEST_REGISTERED

EXHAUSTIVE_UP_TO = 120  # photos: all pairs, 7140 of them, take minutes; of more, a selection
NEIGHBOURS, OVERLAP, LOOP_NEIGHBOURS = 30, 10, 5
PEAK = 0.02 / 3  # COLMAP's own least contrast of a feature


@dataclass(frozen=True)
class Attempt:
    """Options of one attempt.

    Factors of the usual: `features` (their number), `peak` (least contrast), `larger` (size of images). `loose`:
    lenient initial pair and inlier counts; `simple`: a lens without distortion.
    """

    name: str
    features: float = 1.0
    peak: float = 1.0
    larger: float = 1.0
    loose: bool = False
    simple: bool = False


LADDER = (
    Attempt("usual"),
    Attempt("more features, lenient start, simple lens", features=2.0, peak=0.5, larger=1.5, loose=True, simple=True),
)


def search(photos: list[Photo], out: Path, settings: PoseSettings, stages: Stages) -> tuple[Attempt, dict[str, Any]]:
    """The best result of all attempts: the first that registers over half of the photos, else the one with most."""
    begin, best, failures = stages.digest, None, []
    for attempt in LADDER:
        stages.digest = begin
        try:
            result = _attempt(photos, out, settings, stages, attempt)
        except ColmapFailure as failure:
            failures.append(str(failure))
            stages.display.note(f"{'':<10} {failure}")
            continue
        count = len(result["models"][0]) if result["models"] else 0
        if count and (best is None or count > len(best[1]["models"][0])):
            best = (attempt, result)
        if count > FEWEST_REGISTERED * len(photos):
            break
        found = f"{count} of {len(photos)} photos registered" if count else "no photo registered"
        failures.append(found)
        if attempt is not LADDER[-1]:
            stages.display.note(f"{'':<10} {found}; tried again with {LADDER[-1].name}")
    if best is None or len(best[1]["models"][0]) < FEWEST_IMAGES:
        raise PosesNotFoundError(_nothing_found(photos, failures))
    return best


def _nothing_found(photos: list[Photo], failures: list[str]) -> str:
    plain_photos = sum(photo.contrast < 4 for photo in photos)
    hint = "photos need to overlap by half, be sharp and show texture; walk around rather than turn on the spot"
    if plain_photos > len(photos) / 2:
        hint = f"{plain_photos} of {len(photos)} photos show next to nothing; plain walls cannot be posed"
    return f"no poses found for {len(photos)} photos ({'; then '.join(dict.fromkeys(failures))}); {hint}"


def _attempt(
    photos: list[Photo], out: Path, settings: PoseSettings, stages: Stages, attempt: Attempt
) -> dict[str, Any]:
    """Runs one attempt: the stages copies, features, matches and model; returns the result of the mapping."""
    work, number = out / "work", LADDER.index(attempt)
    names = {"photos": f"photos-{number}", "database": f"database-{number}.db", "model": f"model-{number}"}
    names |= {"graph": f"graph-{number}.npz", "scratch": "pairs.txt"}
    files = {key: str((work / name).resolve()) for key, name in names.items()}
    shared = {"threads": threads_of(settings), "seed": settings.seed}
    lens = "SIMPLE_PINHOLE" if attempt.simple and settings.lens == "SIMPLE_RADIAL" else settings.lens
    features = {
        "largest": round(settings.largest * attempt.larger),
        "features": round(settings.features * attempt.features),
        "peak": PEAK * attempt.peak,
        "lens": lens,
        "groups": [asdict(group.at(round(settings.largest * attempt.larger))) for group in lens_groups(photos)],
    }
    way = matching_way(settings.matching, len(photos), (work / "frames").is_dir())
    neighbours = LOOP_NEIGHBOURS if way == "sequential" else NEIGHBOURS
    matching = {"way": way, "overlap": OVERLAP, "neighbours": neighbours}
    mapping = {"way": settings.mapper, "loose": attempt.loose, "total": len(photos)}

    def job(task: str, *parts: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        values = {key: value for part in (files, shared, *parts) for key, value in part.items()} | {"task": task}
        return lambda: run_job(values, work, 60 * settings.stage_minutes, stages.display.update)

    database = [Path(files["database"])]
    again = f"-{number + 1}" if number else ""
    stages.run(
        f"copies{again}",
        {"largest": features["largest"]},
        lambda: write_copies(photos, Path(files["photos"]), features["largest"]) or {},
        [Path(files["photos"])],
    )
    stages.run(
        f"features{again}",
        {**features, "seed": settings.seed},
        job("features", features),
        database,
        lambda r: f"{sum(r['keypoints'].values())} in {len(r['keypoints'])} photos",
    )
    stages.run(
        f"matches{again}",
        matching,
        job("matches", matching),
        database,
        lambda r: f"{r['pairs']} pairs matched ({way})",
    )
    return stages.run(
        f"model{again}",
        mapping,
        job("mapping", mapping),
        [Path(files["graph"])],
        lambda r: (
            f"{len(r['models'][0])} of {len(photos)} photos, {r['points']} points ({r['way']})"
            if r["models"]
            else "none"
        ),
    )


def matching_way(asked: str, count: int, film: bool) -> str:
    """Matching strategy: exhaustive for few photos, sequential for a video, otherwise retrieval."""
    if asked != "auto":
        return asked
    if count <= EXHAUSTIVE_UP_TO and not (film and count > EXHAUSTIVE_UP_TO // 2):
        return "exhaustive"
    return "sequential" if film else "retrieval"


def threads_of(settings: PoseSettings) -> int:
    """Number of threads: as asked, or as many as this process may use."""
    if settings.threads:
        return settings.threads
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
