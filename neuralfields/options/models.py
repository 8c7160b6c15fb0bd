"""Options of the verbs that take a model: eval, render, view, info, convert, compress, edit, export."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from neuralfields.errors import UsageError
from neuralfields.options.common import (
    DOWNSCALE,
    FPS,
    FRAMES,
    SIDE,
    BlendMode,
    MeshSource,
    OnMachine,
    Output,
    Overwriting,
    Page,
    Quantity,
    Reporting,
    Result,
    Resuming,
    SolidBackground,
    Source,
    Split,
    Stored,
    Training,
)
from neuralfields.settings import check_range


@dataclass(frozen=True)
class EvalOptions(Source, OnMachine, Overwriting, Reporting):
    """Measures PSNR and SSIM of a model on views of its capture."""

    model: Path
    """Model to measure: a .nf file, or a checkpoint: of a fit, or of another program."""
    _: KW_ONLY
    scene: Path | None = None
    """Capture to measure on. Default: the one that the model was fitted to."""
    downscale: int | None = None
    """Factor by which width and height of the photos are divided. Default: as in the fit."""
    split: Split = "test"
    """Views to measure: test (held-out), train or all."""
    pictures: Path | None = None
    """Folder for side-by-side pictures of the best and the worst view."""
    report: Path | None = None
    """Write the evaluation as one HTML page: figures, every view beside its photo and error, the curve of the fit."""
    background: SolidBackground = "auto"
    """Background of photos with alpha; auto takes the model's own."""
    overwrite: bool = False
    """Replace existing pictures and an existing report."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, downscale=DOWNSCALE)
        if self.report is not None and self.report.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--report {self.report}: is written as a page; give a name that ends in .html")


@dataclass(frozen=True)
class RenderOptions(OnMachine, Overwriting, Reporting):
    """Renders pictures or a video of a model along a camera path."""

    model: Path
    """Model to render: a .nf file, or a checkpoint: of a fit, or of another program."""
    out: Path
    """Output: a folder for PNG files, one .png, or a video (.mp4, .webp, .gif); of --what depth also .npy or .exr, with
    distances as numbers."""
    _: KW_ONLY
    path: str = "held-out"
    """Camera path: held-out, orbit, spiral, interpolate, fixed (the first held-out view, while time passes), or a JSON
    file: keyframes, or cameras of a transforms.json."""
    time: str | None = None
    """Time in a scene that moves, in the capture's own unit: one for all frames (0.5), or from one to another (0..1).
    Default: that of each view of held-out, else from the first to the last."""
    frames: int | None = None
    """Number of frames. Default: 120; all of the views of held-out, all of the frames of a video."""
    fps: float | None = None
    """Frames per second of a video. Default: 30, or as the fitted video has."""
    width: int | None = None
    """Width in pixels. Default: that of the capture."""
    height: int | None = None
    """Height in pixels. Default: that of the capture."""
    downscale: int | None = None
    """Factor by which width and height are divided."""
    what: tuple[Quantity, ...] = ("rgb",)
    """Quantities to show: rgb, depth, opacity, and normal for shapes; several stand side by side."""
    depth_unit: float | None = None
    """Write depth as 16-bit PNG, in steps of this many units of the capture: 0.001 is millimetres where it is in
    metres. Default: PNG shows depth in colours."""
    background: SolidBackground = "auto"
    """Background of the scene; auto takes the model's own."""
    scene: Path | None = None
    """Capture whose cameras a path uses. Default: the cameras stored in the model."""
    allow_outside: bool = False
    """Allow the capture to name files outside its folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, frames=FRAMES, fps=FPS, width=SIDE, height=SIDE, downscale=DOWNSCALE)
        check_range(self, depth_unit=(1e-9, 1e9))
        if not self.what:
            raise UsageError("--what: name at least one of rgb, depth, opacity")
        if self.depth_unit is not None and (self.what != ("depth",) or self.out.suffix.lower() not in ("", ".png")):
            raise UsageError("--depth-unit: is of depth as PNG; say --what depth and a folder or a name ending in .png")


@dataclass(frozen=True)
class ViewOptions(Page, OnMachine, Result):
    """Shows models and captures in a browser."""

    models: tuple[Path, ...]
    """Models (.nf files, checkpoints of fits or of other programs), or a capture."""
    _: KW_ONLY
    scene: Path | None = None
    """Capture whose photos and points are shown. Default: the one that the model was fitted to."""
    allow_outside: bool = False
    """Allow captures to name files outside their folders."""


@dataclass(frozen=True)
class InfoOptions(Result):
    """Shows what a model file contains: field, hyper-parameters, bytes per part, and how it was made."""

    model: Path
    """Model: a .nf file, or a checkpoint: of a fit, or of another program."""


@dataclass(frozen=True)
class Distillation(Training, OnMachine, Stored, Output, Reporting):
    """Options of a model that is distilled from another."""

    section: ClassVar[str] = ""

    model: Path
    """Teacher: a .nf file, or a checkpoint: of a fit, or of another program."""
    _: KW_ONLY
    to: str | None = None
    """Architecture of the result. Default: that of the teacher."""
    force: bool = False
    """Write the result even if it differs strongly from the teacher."""


@dataclass(frozen=True)
class ConvertOptions(Distillation, Source):
    """Converts a field into another architecture or size by distillation, without the photos."""

    out_second: ClassVar[bool] = True

    _: KW_ONLY
    out: Path | None = None
    """Model file to write (-o too), with a side-by-side picture, or a file of splats if the model is one. Default:
    <model>-<architecture>.nf in the current folder."""
    steps: int | None = None
    """Number of training steps. Default, unless --minutes is given: 3000, more for pictures above 128x128 (5303 at
    400x400)."""
    max_bytes: str | None = None
    """Largest allowed size of the file, such as 600kB: takes the largest setting that fits, stored in 8 bits."""
    recipe: tuple[str, ...] = ()
    """Hyper-parameters of the distillation, as key=value; an unknown key lists them all."""
    time: float | None = None
    """Time of a scene that moves at which it becomes one that stands still. Default: all times, to one that moves."""
    scene: Path | None = None
    """Capture, whose cameras are then used too and whose photos both fields are compared on."""
    eval_every: float = 20.0
    """Seconds between validations against the teacher; 0 turns them off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, eval_every=(0, 1e6))


@dataclass(frozen=True)
class CompressOptions(OnMachine, Resuming, Reporting):
    """Makes a scene small, Gaussians or another field: a .nfz file, by the quality or the bytes asked for."""

    out_second: ClassVar[bool] = True

    model: Path
    """Scene to compress: a file of splats (.ply, .spz, .sog, ...) or a .nf file."""
    _: KW_ONLY
    out: Path | None = None
    """File to write (-o too, or as the second argument). Default: <model>.nfz in the current folder."""
    quality: float = 0.3
    """Loss allowed, in dB against photos (of 30 dB where the file does not say how good it is); less is larger."""
    max_bytes: str | None = None
    """Largest size of the file, such as 600kB, instead of a quality."""
    fast: bool = False
    """Only what takes seconds: nothing is tuned against renderings."""
    steps: int = 400
    """Steps of tuning against renderings of the original, or photos of Gaussians' capture (--scene)."""
    seed: int = 0
    """Random seed; the same input, seed and steps give the same file."""
    keep_all: bool = False
    """Keep Gaussians that no picture shows."""
    scene: Path | None = None
    """Capture whose cameras say what is important, and whose photos are tuned against; held-out ones judge."""
    method: Literal["coded", "neuralgs"] = "coded"
    """How: quantised and coded, or by small networks (NeuralGS; a quality is not aimed at)."""
    clusters: int | None = None
    """Networks of neuralgs. Default: one for 20,000 Gaussians that are left, at least 4."""
    width: int | None = None
    """Width of neuralgs' networks (published: 128). Default: 3 weights a Gaussian that is left."""
    prune: float = 0.4
    """Share of the Gaussians, the least important, that neuralgs leaves out."""
    sweep: bool = False
    """Measure a curve instead: quality over bytes beside other formats, as <out>.png, .md and .json."""
    resume: bool = False
    """Continue from the checkpoint of an interrupted compression; the file is that of an unbroken one."""
    checkpoint_every: float = 30.0
    """Seconds between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, checkpoint_every=(0.1, 1e6))
        if self.resume and (self.fast or self.sweep):
            raise UsageError("--resume: --fast and --sweep keep no steps to go on with; drop one")
        check_range(self, quality=(0.001, 6), steps=(1, 100000), clusters=(1, 255), width=(8, 256), prune=(0.0, 0.95))
        if self.method == "neuralgs" and (self.fast or self.sweep):
            raise UsageError("--method neuralgs: fits networks, which --fast and --sweep leave out; drop them")
        if self.sweep and self.max_bytes is not None:
            raise UsageError("--sweep: goes over qualities of its own; drop --max-bytes")


@dataclass(frozen=True)
class ShareOptions(OnMachine, Output, Reporting):
    """Writes Gaussians or a hash field as one .html file that anyone opens in a browser, or two to compare."""

    models: tuple[Path, ...]
    """Scene to share: a file of splats (.ply, .spz, .nfz, ...), a .nf of them or of a hash field; or two."""
    _: KW_ONLY
    out: Path | None = None
    """File to write (-o too). Default: <model>.html in the current folder."""
    title: str | None = None
    """Title of the page. Default: the file's name."""
    author: str = ""
    """Author, as the page names it."""
    description: str = ""
    """Text about the scene."""
    licence: str = ""
    """Licence, as the page names it."""
    background: SolidBackground = "auto"
    """Background of the scene; auto takes the model's own."""
    views: int = 12
    """Number of the model's cameras that the page offers to stand in; 0 for none."""
    path: Path | None = None
    """Camera path that the page plays: a JSON file of keyframes, as the viewer saves it. Default: a turn."""
    seconds: float = 10.0
    """Seconds that the camera path takes."""
    quality: float = 0.3
    """Loss allowed to the compression, as of nf compress; a .nfz is taken as it is."""
    max_bytes: str | None = None
    """Largest size of each scene, such as 4MB, instead of a quality."""
    steps: int = 0
    """Steps of tuning against renderings, as of nf compress: smaller, and takes minutes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, quality=(0.001, 6), steps=(0, 100000), views=(0, 200), seconds=(0.1, 600))
        if not 1 <= len(self.models) <= 2:
            raise UsageError(f"{len(self.models)} models: one is shared, or two to compare")


@dataclass(frozen=True)
class EditOptions(Distillation):
    """Erases a box of a scene, keeps only a box, or inserts another scene; in the same or another architecture."""

    _: KW_ONLY
    out: Path | None = None
    """Model file to write (-o too), with a side-by-side picture. Default: <model>-edited.nf in the current folder."""
    steps: int | None = None
    """Number of training steps. Default: 500 for the model's own architecture, else as nf convert, unless --minutes is
    given."""
    erase_box: tuple[str, ...] = ()
    """Box to erase, as two corners x0,y0,z0,x1,y1,z1 in the capture's world units; may be repeated."""
    keep_box: tuple[str, ...] = ()
    """Box to keep, erasing everything outside of it; may be repeated."""
    clean: bool = False
    """Empty what only few cameras see and what touches nothing else (floaters, specks), and change nothing else; of
    Gaussians the same as --drop-floaters."""
    drop_floaters: bool = False
    """Drop Gaussians that stand far from all others."""
    drop_largest: float = 0.0
    """Drop this percentage of the Gaussians, the largest: blobs that cover a scene."""
    insert: Path | None = None
    """Scene to insert: its inner cube, or --insert-box, becomes part of the model. Nothing is trained unless --to is
    given."""
    at: tuple[float, float, float] | None = None
    """Place of the inserted box's middle, in the capture's world units. Default: the middle of the model's cube."""
    scale: float = 1.0
    """Length in this world of one unit of the inserted scene."""
    rotate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation of the inserted scene in degrees, about x, then y, then z."""
    insert_box: str | None = None
    """Box of the inserted scene, as two corners x0,y0,z0,x1,y1,z1 in its own world units. Default: its inner cube."""
    mode: BlendMode = "add"
    """Blending in the box: add both densities; replace what was there; fade from the inserted scene in the middle to
    the model; or intersect, matter only where both have it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, drop_largest=(0, 99), scale=(1e-6, 1e6))
        cuts = self.erase_box or self.keep_box or self.drop_floaters or self.drop_largest
        if self.insert is not None and cuts:
            raise UsageError("--insert: give boxes to erase or keep in a command of their own, before or after it")
        placing = self.insert_box is not None or self.at is not None or self.scale != 1 or any(self.rotate)
        if self.insert is None and (placing or self.mode != "add"):
            raise UsageError("--at, --scale, --rotate, --insert-box and --mode say how a scene comes in; add --insert")
        if not all(abs(value) < 1e9 for value in (*(self.at or ()), *self.rotate)):
            raise UsageError(f"--at {self.at}, --rotate {self.rotate}: numbers below 1e9 are needed")
        if self.clean and (self.erase_box or self.keep_box or self.insert is not None or self.to is not None):
            raise UsageError("--clean: goes alone; give boxes and --to in a second edit")


@dataclass(frozen=True)
class ExportOptions(OnMachine, Overwriting, Reporting):
    """Writes what a field holds as a file for other programs: a mesh, an image, a video or a sound."""

    model: Path
    """Model to export: a .nf file, or a checkpoint: of a fit, or of another program."""
    out: Path
    """Output: a mesh (.ply, .obj, .glb), an image (.png, .jpg, .tif, .exr), a video (.mp4, .webp, .gif) or a sound
    (.wav)."""
    _: KW_ONLY
    resolution: int = 256
    """Cells along the side of the cube in which a mesh is extracted, or along the longest side of --box."""
    box: str | None = None
    """Box in which a scene's mesh is extracted, as two corners x0,y0,z0,x1,y1,z1 in the capture's world units. Default:
    the inner cube."""
    mesh: bool = False
    """Write Gaussians as a mesh, by fusion of their depth, where the suffix (.ply) would be a splat file's."""
    time: float | None = None
    """Time at which a scene that moves is exported, in the capture's own unit. Default: its first."""
    surface: MeshSource = "auto"
    """Source of a scene's mesh: its density at a threshold, or depth of renders, fused. Default: density; depth
    for Gaussians."""
    faces: int | None = None
    """Triangles at most: the mesh is decimated to them. Default: all."""
    texture: int = 0
    """Side in pixels of a texture that is baked for the mesh, of .obj and .glb; 0 keeps colours at the vertices."""
    least_part: float = 0.01
    """Share of the largest component's triangles under which a component is a floater, and dropped; 0 keeps all."""
    threshold: float | None = None
    """Density at the surface of a mesh, in 1/side of the scene's cube. Default: 50."""
    width: int | None = None
    """Width of an image or a video in pixels. Default: as fitted."""
    height: int | None = None
    """Height of an image or a video in pixels. Default: as fitted."""
    frames: int | None = None
    """Number of frames of a video; of a scene that moves, files of a sequence, evenly through its time: OUT is their
    folder (0000.ply ...) or the name that is numbered. Default: as fitted; one file."""
    fps: float | None = None
    """Frames per second of a video. Default: such that it lasts as long as fitted."""
    rate: int | None = None
    """Samples per second of a sound. Default: as fitted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, resolution=(2, 2048), threshold=(1e-6, 1e9), width=SIDE, height=SIDE)
        check_range(self, frames=FRAMES, fps=FPS, rate=(100, 768_000), faces=(4, 10**8), least_part=(0, 1))
        if self.texture:
            check_range(self, texture=(16, 8192))
