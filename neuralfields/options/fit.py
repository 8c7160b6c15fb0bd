"""Options of `nf fit`."""

from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from neuralfields.errors import UsageError
from neuralfields.options.common import (
    DOWNSCALE,
    Backend,
    Background,
    Marcher,
    MaskMeaning,
    OnMachine,
    Options,
    Page,
    Reporting,
    Resuming,
    Source,
    Stored,
    Training,
)
from neuralfields.settings import check_range


@dataclass(frozen=True, kw_only=True)
class Kernels(OnMachine):
    """The machine, and whose kernels run on its GPU."""

    section: ClassVar[str] = "machine"

    backend: Backend = "native"
    """Kernels for encodings and networks on a GPU; tcnn needs tiny-cuda-nn and is there to compare."""
    marcher: Marcher = "native"
    """Kernels for ray marching on a GPU; nerfacc needs that package and is there to compare."""


@dataclass(frozen=True, kw_only=True)
class ConfigurableTraining(Training):
    """A training whose settings can be changed."""

    section: ClassVar[str] = "training"

    recipe: tuple[str, ...] = ()
    """Settings of the training, as key=value; an unknown key lists them all."""


@dataclass(frozen=True, kw_only=True)
class Supervision(Options):
    """What photos teach besides their colours, and which of their pixels count."""

    section: ClassVar[str] = "supervision"

    refine_poses: bool = False
    """Optimise the camera poses too; held-out cameras are then aligned before they are measured."""
    exposure: bool = False
    """Learn exposure and white balance of each photo; those of held-out photos are then found before measuring."""
    appearance: bool = False
    """Learn an affine map of each photo's colours: exposure, white balance, colour casts and contrast. Contains
    --exposure, and is taken where both are given; for photos of several cameras or with edited colours."""
    robust: bool = False
    """Ignore transients: objects that one photo shows and the others do not, such as people passing by."""
    sparse_depth: bool = False
    """Supervise depth with the sparse points of a COLMAP model stored with the capture."""
    depth_weight: float = 0.0
    """Weight of a loss on the depth files that the capture names, beside the photos': 0.1 makes depth better and
    pictures a little worse. Default: 0, which leaves them out."""
    masks: Path | None = None
    """Folder of masks named like their photos; requires --mask-means."""
    mask_means: MaskMeaning | None = None
    """Meaning of white pixels in --masks: ignore (people, the car) or keep (only the object; outside of it the scene is
    empty). Alone, keep is for the masks that the capture has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, depth_weight=(0, 1000))
        if self.masks is not None and self.mask_means is None:
            raise UsageError("--masks: say too whether its white means ignore or keep, by --mask-means")
        if self.masks is None and self.mask_means == "ignore":
            raise UsageError("--mask-means ignore: needs the folder of the masks, --masks FOLDER")


@dataclass(frozen=True, kw_only=True)
class LivePage(Page):
    """The viewer's page beside a running fit."""

    section: ClassVar[str] = "viewer"

    view: bool = False
    """Show the running fit in a browser, where it can be paused, saved and stopped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.view and any(getattr(self, item.name) != item.default for item in fields(Page)):
            raise UsageError("--host, --port and --open are of the viewer's page; add --view")


@dataclass(frozen=True)
class FitOptions(ConfigurableTraining, Supervision, Source, LivePage, Kernels, Stored, Resuming, Reporting):
    """Fits a field to a posed capture, an image, a mesh, a video or a sound, and writes it as one .nf file."""

    scene: Path
    """Capture (a folder, or its transforms.json), image, mesh (.obj, .ply), video or sound."""
    _: KW_ONLY
    field: str | None = None
    """Architecture of the field: the name of a file in neuralfields/fields. Default: gaussians for a capture, hash for
    an image, mesh, video or sound, and for a capture with what Gaussians do not have (--sparse-depth, --half, --bits 8,
    other kernels, torchrun, keys of --set that are hash's)."""
    max_gaussians: int | None = None
    """Gaussians at most, for --field gaussians; 50 to 400 thousand suit a CPU. Default: by the photos' pixels and the
    time that there is."""
    downscale: int | None = None
    """Factor by which width and height of the photos are divided. Default: 1, and more for large photos."""
    box: str | None = None
    """Box of the scene, which is finest inside, as two corners x0,y0,z0,x1,y1,z1 in the capture's world units. Default:
    found from cameras, points and photos."""
    background: Background = "auto"
    """Background of the scene; auto trains on random colours, then takes white for photos with alpha, else black; of
    opaque photos with a border of one colour it takes this colour."""
    still: bool = False
    """Fit a scene that stands still, whatever times the frames of its capture have."""
    moving: bool = False
    """Fit a scene that moves if the frames of its capture have times. Default: find out whether anything does."""
    eval_every: float = 30.0
    """Seconds between validations on held-out views; 0 turns them off."""
    checkpoint_every: float = 30.0
    """Seconds between checkpoints."""
    dry_run: bool = False
    """Check the input, print what would be done, and stop."""
    accept_doubtful_poses: bool = False
    """Fit even if the poses found for the photos are doubtful."""
    steps: int | None = None
    """Number of training steps. Default: 20000 for a capture (5000 of Gaussians), 3000 for an image, mesh, video or
    sound, unless --minutes is given."""
    out: Path | None = None
    """Model file to write (-o too). Default: <scene name>.nf in the current folder."""
    resume: bool = False
    """Continue from the checkpoint of an interrupted fit."""
    record: Literal["relative", "full"] = "relative"
    """Record in the file: its capture relative to it, or full: absolute paths and the command line."""
    format: str | None = None
    """Format of the input: transforms, colmap, llff or photos; image, shape, occupancy, sound, or video for a folder of
    frames. Default: detected."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, downscale=DOWNSCALE, eval_every=(0, 1e6), checkpoint_every=(0.1, 1e6))
        check_range(self, max_gaussians=(1000, 50_000_000))
        if self.still and self.moving:
            raise UsageError("--still and --moving contradict each other; leave one out")
