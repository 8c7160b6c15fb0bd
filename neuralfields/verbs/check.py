"""`nf check`: checks a capture before it is fitted (captures/check.py), or what a splat file holds."""

from pathlib import Path
from typing import Any

from neuralfields.captures.check import check_scene
from neuralfields.captures.images import automatic_downscale, downscale, read_image
from neuralfields.captures.readers import read_scene
from neuralfields.codecs.splats import describe_splats, is_splat_file, read_gaussians
from neuralfields.files import check_writable
from neuralfields.options.captures import CheckOptions
from neuralfields.pictures.box_overlay import draw_box, two_views
from neuralfields.pictures.panels import save_image
from neuralfields.scene import Bounds
from neuralfields.splatting.clean import shares


def run(options: "CheckOptions") -> dict[str, Any]:
    """Checks the capture; returns the report as plain data. Of a splat file its description and `shares` of no use."""
    if is_splat_file(options.scene):
        return describe_splats(options.scene) | {"shares": shares(read_gaussians(options.scene))}
    report = check_scene(options.scene, options.format, options.allow_outside, options.box)
    drawn = [] if options.draw is None else _draw(options, options.draw, report.bounds)
    return report.as_dict() | ({"drawn": drawn} if drawn else {})


def _draw(options: CheckOptions, folder: Path, bounds: Bounds) -> list[str]:
    """Writes two photos with the box over them into a folder; returns their paths. Raises as files are written."""
    frames = read_scene(options.scene, options.format, options.allow_outside).frames
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{Path(frames[index].name).stem}-box.png" for index in two_views(frames)]
    for path in paths:
        check_writable(path, options.overwrite)
    for index, path in zip(two_views(frames), paths, strict=True):
        camera = frames[index].camera
        factor = automatic_downscale(camera.width, camera.height)
        photo = downscale(read_image(frames[index].path, (camera.width, camera.height)), factor)
        save_image(path, draw_box(photo, camera.resized(photo.shape[1], photo.shape[0]), bounds))
    return [str(path) for path in paths]


def text(result: dict[str, Any]) -> str:
    """Formats a report, as `Report.as_dict` gives it, as lines for people."""
    if "gaussians" in result:
        return _splats_text(result)
    photos = f"{result['existing']} photos"
    if result["listed"] != result["existing"]:
        photos += f" of {result['listed']} listed"
    lines = [
        f"{result['path']}: {result['kind']}",
        f"{photos}, {result['train']} to train on, {result['test']} held out",
    ]
    for lens in result["lenses"][:3]:
        shown = " ".join(f"{value:.4g}" for value in lens["distortion"]) if any(lens["distortion"]) else "none"
        wide, high = lens["field_of_view"]
        lines.append(
            f"lens: {lens['photos']} photos of {lens['size'][0]}x{lens['size'][1]}, {lens['model']},"
            f" field of view {wide:.1f} x {high:.1f} degrees, distortion {shown}"
        )
    if len(result["lenses"]) > 3:
        lines.append(f"      and {len(result['lenses']) - 3} more lenses")
    lines += result["description"]
    if result["backdrop"] is not None:
        red, green, blue = (round(255 * value) for value in result["backdrop"])
        lines.append(f"background: ({red}, {green}, {blue}), the one colour of the photos' borders")
    if result["alpha"] is not None:
        lines.append(f"alpha: {result['alpha']:.0%} of the pixels are transparent")
    if result["kept"] is not None:
        low, mean, high = result["kept"]
        ignored = "white" if result["white_ignored"] else "black"
        lines.append(
            f"masks: {result['masks']}, {ignored} is ignored, {mean:.0%} of the pixels are kept"
            f" ({low:.0%} to {high:.0%})"
        )
    for problem in result["problems"]:
        lines.append(f"{problem['level']}: {problem['message']}")
        lines.append(f"    {problem['remedy']}")
    lines += [f"the box is drawn in {path}" for path in result.get("drawn", [])]
    lines.append(result["verdict"])
    return "\n".join(lines)


def _splats_text(result: dict[str, Any]) -> str:
    lines = [f"{result['path']}: {result['gaussians']:,} Gaussians of degree {result['degree']}, {result['kind']}"]
    lines += [f"{share:.1%} {name}" for name, share in result["shares"].items() if share >= 0.0005]
    lines += result["notes"]
    if result["shares"]["floaters"] >= 0.0005:
        lines.append("nf edit --drop-floaters takes the floaters away")
    return "\n".join([*lines, "good to view, to convert and to compress"])
