"""Validates a capture before fitting: poses, intrinsics, masks, alpha, blur.

Reads poses, image headers and small previews; reports the findings, the problems and their remedies. A problem's
level: "error" if a fit cannot succeed, "warning" if its quality may suffer, "note" for information.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neuralfields.cameras import CAMERA_AXES, Camera, distort, field_of_view
from neuralfields.captures.arrangement import Arrangement, arrange
from neuralfields.captures.bounds import describe_bounds
from neuralfields.captures.preview import Preview, previews
from neuralfields.captures.readers import boxed, read_capture, scene_from_capture
from neuralfields.scene import Bounds, Scene

FEW_PHOTOS = 15
NAMES_SHOWN = 5
MOST_PAIRS = 10_000


@dataclass(frozen=True)
class Problem:
    """A problem of a capture: its level, a message and the remedy."""

    level: Literal["error", "warning", "note"]
    message: str
    remedy: str


@dataclass(frozen=True)
class Lens:
    """Intrinsics shared by `photos` photos: size in pixels, focal lengths in pixels, field of view in degrees."""

    photos: int
    model: str
    size: tuple[int, int]
    focal: tuple[float, float]
    field_of_view: tuple[float, float]
    distortion: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """The result of `nf check`; `as_dict` gives plain data. Shares are between 0 and 1, angles in degrees.

    `alpha`: mean share of transparent pixels; `kept`: least, mean and largest share of pixels that masks keep; both
    None if there are none. `white_ignored`: masks in which white is ignored, not black.
    `blurred`: photos much less sharp than the rest.
    """

    path: str
    kind: str
    listed: int
    existing: int
    missing: tuple[str, ...]
    train: int
    test: int
    lenses: tuple[Lens, ...]
    layout: str
    directions_spread: float
    point_ahead: float
    alpha: float | None
    masks: int
    white_ignored: int
    kept: tuple[float, float, float] | None
    blurred: tuple[str, ...]
    points: int
    bounds: Bounds
    box_follows: str
    backdrop: tuple[float, float, float] | None
    description: tuple[str, ...]
    problems: tuple[Problem, ...]
    usable: bool
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings."""
        import msgspec

        return msgspec.to_builtins(self)


def check_scene(
    path: Path | str, format: str | None = None, allow_outside: bool = False, box: str | None = None
) -> Report:
    """Validates a posed capture, with a `box` as `boxed` takes it; raises InputError if it cannot be read at all."""
    capture = read_capture(path, format, allow_outside)
    scene = boxed(scene_from_capture(capture, Path(path)), None, box)
    cameras = [frame.camera for frame in scene.frames]
    arrangement = arrange(cameras)
    seen = previews(scene)
    problems = [Problem("warning", line, "check that this is intended") for line in scene.warnings]
    white_ignored = sum(frame.mask_ignores for frame in scene.frames)
    problems += check_poses(scene, arrangement) + check_lenses(scene) + check_pixels(seen, white_ignored > 0)
    alphas = [p.transparent for p in seen if p.transparent is not None]
    kept = [p.kept for p in seen if p.kept is not None]
    usable = not any(problem.level == "error" for problem in problems)
    return Report(
        path=str(path),
        kind=scene.kind,
        listed=capture.listed,
        existing=len(scene.frames),
        missing=capture.missing,
        train=len(scene.train),
        test=len(scene.test),
        lenses=tuple(_lenses(cameras)),
        layout=arrangement.layout,
        directions_spread=arrangement.spread,
        point_ahead=arrangement.ahead,
        alpha=float(np.mean(alphas)) if alphas else None,
        masks=sum(frame.mask_path is not None for frame in scene.frames),
        white_ignored=white_ignored,
        kept=(min(kept), float(np.mean(kept)), max(kept)) if kept else None,
        blurred=tuple(blurred(seen)),
        points=0 if scene.points is None else len(scene.points),
        bounds=scene.bounds,
        box_follows=scene.because,
        backdrop=scene.backdrop,
        description=tuple(describe_bounds(scene.bounds, cameras, scene.points, scene.because)),
        problems=tuple(problems),
        usable=usable,
        verdict=_verdict(problems),
    )


def fit_warnings(scene: Scene, pixels: bool = False) -> list[str]:
    """What a fit should say first: the warnings and errors that `nf check` finds, one line each with the remedy.

    `pixels`: those that need the photos decoded, too. The scene's own warnings are not among them.
    """
    problems = check_poses(scene, arrange([frame.camera for frame in scene.frames])) + check_lenses(scene)
    if pixels:
        problems += check_pixels(previews(scene), any(frame.mask_ignores for frame in scene.frames))
    return [f"{problem.message}; {problem.remedy}" for problem in problems if problem.level != "note"]


def _verdict(problems: Sequence[Problem]) -> str:
    errors = sum(problem.level == "error" for problem in problems)
    warnings = sum(problem.level == "warning" for problem in problems)
    if errors:
        return f"not usable as it is: {errors} error{'s' * (errors > 1)}"
    if warnings:
        return f"usable, with {warnings} warning{'s' * (warnings > 1)}"
    return "good to fit"


def _lenses(cameras: Sequence[Camera]) -> list[Lens]:
    groups: dict[tuple, int] = {}
    for c in cameras:
        key = (c.model, (c.width, c.height), (c.fx, c.fy), field_of_view(c), tuple(float(k) for k in c.distortion))
        groups[key] = groups.get(key, 0) + 1
    return [Lens(photos, *key) for key, photos in sorted(groups.items(), key=lambda item: -item[1])]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")


def check_poses(scene: Scene, arrangement: Arrangement) -> list[Problem]:
    """Checks the number of photos, the baseline, pose conventions, outlier cameras, near-duplicate views."""
    problems = []
    cameras = [frame.camera for frame in scene.frames]
    if len(cameras) < FEW_PHOTOS:
        problems.append(
            Problem(
                "warning",
                f"{len(cameras)} photos are few",
                "30 to 300 photos with much overlap give a scene that can be walked around",
            )
        )
    centres = np.stack([camera.centre for camera in cameras])
    reach = float(np.abs(centres - np.median(centres, axis=0)).max())
    if reach < 1e-6 * max(float(np.abs(centres).max()), 1e-6):
        problems.append(
            Problem(
                "error",
                "all cameras stand at one point: without parallax there is no depth",
                "move between photos, or export the poses again",
            )
        )
        return problems
    problems += _convention(cameras, arrangement) + _unseen_box(scene, arrangement)
    if arrangement.layout == "around":
        distance = np.linalg.norm(centres - arrangement.point, axis=1)
        outliers = [f.name for f, d in zip(scene.frames, distance, strict=True) if d > 3 * np.median(distance)]
        if outliers:
            problems.append(
                Problem(
                    "warning",
                    f"{len(outliers)} cameras are over three times as far out as most: {_some(outliers)}",
                    "inspect these poses and remove those that are wrong",
                )
            )
    pairs = [] if scene.bounds.times else near_identical(cameras, reach)  # where things move, cameras may stand
    if pairs:
        names = [f"{scene.frames[i].name} = {scene.frames[j].name}" for i, j in pairs]
        problems.append(
            Problem(
                "note",
                f"{len(pairs)} pairs of cameras are nearly identical: {_some(names)}",
                "one of each pair is redundant; held out, it inflates the scores",
            )
        )
    return problems


def _unseen_box(scene: Scene, arrangement: Arrangement) -> list[Problem]:
    """Detects a box that hardly any camera sees, as a wrong `scale` or `offset` makes it."""
    bounds = scene.bounds
    half = bounds.side / 2 * 2 ** (bounds.cascades - 1)
    if bounds.contraction != "box":
        return []
    blind = sum(not sees_box(frame.camera, np.array(bounds.centre), half) for frame in scene.frames)
    if 2 * blind <= len(scene.frames):
        return []
    place, box = (", ".join(f"{v:.3g}" for v in point) for point in (arrangement.point, bounds.centre))
    return [
        Problem(
            "warning",
            f"{blind} of {len(scene.frames)} cameras see nothing of the box, which reaches {half:.3g} from ({box});"
            f" their axes meet at ({place})",
            "correct scale and offset in the file, or drop aabb_scale for a scene without a box",
        )
    ]


def sees_box(camera: Camera, centre: np.ndarray, half: float) -> bool:
    """Whether a ray of the camera, of 7x7 spread over its image, enters the cube of that half side; no distortion."""
    x, y = np.meshgrid(np.linspace(0, camera.width, 7), np.linspace(0, camera.height, 7))
    local = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], axis=-1)
    rays = local.reshape(-1, 3) @ camera.world_from_camera[:3, :3].T
    rays = np.where(np.abs(rays) < 1e-12, 1e-12, rays)
    ends = np.stack([(centre - half - camera.centre) / rays, (centre + half - camera.centre) / rays])
    enter, leave = ends.min(axis=0).max(axis=1), ends.max(axis=0).min(axis=1)
    return bool(np.any(leave >= np.maximum(enter, 0.0)))


def near_identical(cameras: Sequence[Camera], reach: float) -> list[tuple[int, int]]:
    """Finds near-duplicate views: closer than a thousandth of the cameras' reach, within half a degree."""
    centres = np.stack([camera.centre for camera in cameras])
    forwards = np.stack([camera.forward for camera in cameras])
    axis = int(np.argmax(np.ptp(centres, axis=0)))
    order = np.argsort(centres[:, axis], kind="stable")  # only neighbours along one axis are compared
    centres, forwards = centres[order], forwards[order]
    ends = np.searchsorted(centres[:, axis], centres[:, axis] + 1e-3 * reach)
    pairs: list[tuple[int, int]] = []
    for i in np.flatnonzero(ends > np.arange(len(order)) + 1):
        beside = slice(i + 1, ends[i])
        close = np.linalg.norm(centres[beside] - centres[i], axis=1) < 1e-3 * reach
        close &= forwards[beside] @ forwards[i] > np.cos(np.radians(0.5))
        pairs += [tuple(sorted((int(order[i]), int(order[i + 1 + j])))) for j in np.flatnonzero(close)]
        if len(pairs) > MOST_PAIRS:  # a camera that stands still: there is no more to be said
            break
    return sorted(pairs)


def _convention(cameras: Sequence[Camera], arrangement: Arrangement) -> list[Problem]:
    """Detects matrices of another convention than the format's: world-to-camera, or OpenCV axes."""
    inverse = arrange([_inverted(camera) for camera in cameras])
    around = inverse.spread > 35 and inverse.ahead > 0.9 and inverse.miss < 10
    if around and arrangement.miss > 2 * inverse.miss + 10:
        return [
            Problem(
                "warning",
                f"the optical axes meet {inverse.miss:.0f} degrees off when matrices are read as world-to-camera, but"
                f" {arrangement.miss:.0f} degrees off as camera-to-world",
                "export camera-to-world matrices; these look inverted",
            )
        ]
    if arrangement.layout == "outward" and arrangement.ahead < 0.3 and arrangement.miss > 145:
        return [
            Problem(
                "warning",
                f"{1 - arrangement.ahead:.0%} of the cameras look away from the point where their axes meet",
                "right for a room seen from its middle; for an object, the matrices have OpenCV axes (z forward) where"
                " this format has OpenGL axes (z back): negate their second and third columns",
            )
        ]
    if arrangement.layout == "outward":
        return [
            Problem(
                "note",
                "cameras look in many directions and share no point ahead",
                "right for a room or a walk; for an object, inspect the poses",
            )
        ]
    return []


def _inverted(camera: Camera) -> Camera:
    """The camera if its file's matrix (OpenGL axes) was world-to-camera."""
    from dataclasses import replace

    flip = CAMERA_AXES["opengl"]
    return replace(camera, world_from_camera=np.linalg.inv(camera.world_from_camera @ flip) @ flip)


def check_lenses(scene: Scene) -> list[Problem]:
    """Checks the intrinsics of each lens: field of view, principal point, unequal focal lengths, folding distortion."""
    problems: dict[str, Problem] = {}
    for frame in scene.frames:
        c = frame.camera
        wide = max(field_of_view(c))
        off = max(abs(c.cx / c.width - 0.5), abs(c.cy / c.height - 0.5))
        if not 10 <= wide <= (130 if c.model == "perspective" else 220):
            text = f"field of view is {wide:.0f} degrees ({frame.name})"
            problems.setdefault("view", Problem("warning", text, "check the focal length, it is in pixels"))
        if off > 0.15:
            text = f"principal point ({c.cx:.0f}, {c.cy:.0f}) is far from the middle ({frame.name})"
            problems.setdefault("middle", Problem("warning", text, "check cx and cy against the photos' size"))
        if abs(c.fx / c.fy - 1) > 0.05:
            text = f"focal lengths differ: {c.fx:.5g} across, {c.fy:.5g} down ({frame.name})"
            problems.setdefault("focal", Problem("warning", text, "pixels are square in nearly every camera"))
        if "fold" not in problems and _folds(c):
            text = f"the lens distortion folds back inside the image ({frame.name})"
            problems["fold"] = Problem("warning", text, "undistort the photos, or calibrate again with fewer terms")
    sizes = {(f.camera.width, f.camera.height) for f in scene.frames}
    if len(sizes) > 1:
        text = "photos have several sizes: " + _some([f"{w}x{h}" for w, h in sorted(sizes)])
        problems["sizes"] = Problem("note", text, "nothing, each photo has its own camera")
    return list(problems.values())


def _folds(camera: Camera) -> bool:
    """Whether the distorted radius stops growing before it reaches the image's furthest corner."""
    across = max(camera.cx, camera.width - camera.cx) / camera.fx
    down = max(camera.cy, camera.height - camera.cy) / camera.fy
    corner = float(np.hypot(across, down))
    if camera.model == "fisheye":
        corner = float(np.tan(min(corner, 1.5)))
    r = np.linspace(0.0, 1.5 * corner, 200)
    a, _ = distort(camera, r, np.zeros_like(r))
    target = corner if camera.model == "perspective" else float(np.hypot(across, down))
    growing = np.diff(a) > 0
    first_fall = len(growing) if growing.all() else int(np.argmin(growing))
    return first_fall < len(growing) and float(a[first_fall]) < min(target, across) - 1e-9


def check_pixels(seen: Sequence[Preview], white_ignored: bool = False) -> list[Problem]:
    """Checks for unreadable or uniform photos, masks that keep too much or too little, odd alpha, blur.

    Masks in which white is ignored mark what moves: they keep nearly everything.
    """
    problems = []
    broken = [p for p in seen if p.error is not None]
    if broken:
        level = "error" if len(broken) > 0.2 * len(seen) else "warning"
        text = f"{len(broken)} of {len(seen)} photos cannot be decoded: {broken[0].error}"
        problems.append(Problem(level, text, "copy these photos again, or remove them"))
    plain = [p.name for p in seen if p.error is None and p.contrast < 2.0]
    if plain:
        text = f"{len(plain)} photos have nothing in them: {_some(plain)}"
        problems.append(Problem("warning", text, "remove photos of one flat colour"))
    kept = [p.kept for p in seen if p.kept is not None]
    if kept and not 0.1 <= np.mean(kept) <= (1.0 if white_ignored else 0.9):
        text = f"masks keep {np.mean(kept):.0%} of the pixels ({'white' if white_ignored else 'black'} is ignored)"
        problems.append(Problem("warning", text, "invert the masks if it is the other way round"))
    empty = [p.name for p in seen if p.kept == 0.0]
    if empty:
        text = f"{len(empty)} masks are all black, their photos contribute nothing: {_some(empty)}"
        problems.append(Problem("warning", text, "remove these photos or correct their masks"))
    alpha = [p.transparent for p in seen if p.transparent is not None]
    if alpha and max(alpha) == 0.0:
        text = "photos have an alpha channel that is opaque everywhere"
        problems.append(Problem("note", text, "nothing, unless the background was meant to be cut out"))
    if alpha and np.mean(alpha) > 0.99:
        text = f"{np.mean(alpha):.1%} of all pixels are transparent"
        problems.append(Problem("warning", text, "check the alpha channel, almost nothing is left to fit"))
    soft = blurred(seen)
    if soft:
        text = f"{len(soft)} photos are much less sharp than the rest: {_some(soft)}"
        problems.append(Problem("note", text, "remove blurred photos if others see the same"))
    return problems


def blurred(seen: Sequence[Preview]) -> list[str]:
    """Names blurred photos, whose sharpness is an outlier below the rest, least sharp first."""
    usable = [p for p in seen if p.error is None and p.sharpness > 0]
    if len(usable) < 8:
        return []
    values = np.log([p.sharpness for p in usable])
    middle = float(np.median(values))
    limit = middle - max(3 * 1.4826 * float(np.median(np.abs(values - middle))), np.log(2.5))
    order = np.argsort(values)
    return [usable[i].name for i in order if values[i] < limit]
