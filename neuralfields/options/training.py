"""How a fit learns, apart from its field: what a researcher sets and a benchmark varies. No torch here.

The command line takes them as `nf fit --recipe key=value`, as `nf convert --recipe` does for distillation.
"""

from dataclasses import dataclass, field, fields

from neuralfields.settings import require_range

# Of a scene that moves, so many photos about a moment tell of it: what is learned from fewer is learned photo by photo,
# and shows other moments worse the longer a fit takes. For lives of Gaussians (motion.py) and the times of rays.
PHOTOS_OF_A_MOMENT = 11.0


def _setting(default: float, low: float, high: float) -> float:
    """A setting with its closed range."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of training on photos (and, for `signal_samples`, on signals)."""

    samples: int = _setting(1 << 15, 1, 1 << 26)
    """samples along rays of a step; on a CPU twice as many learn less a second"""
    gpu_times: int = _setting(8, 1, 1024)
    """as many times the samples and rays of a step on a GPU, which is not full with less: Instant-NGP's batch"""
    fewest_rays: int = _setting(64, 1, 1 << 24)
    """rays of a step at least"""
    most_rays: int = _setting(1 << 15, 1, 1 << 24)
    """rays of a step at most"""
    coarse_steps: int = _setting(200, 0, 1 << 30)
    """first steps, which march coarsely: all is fog then, and a ray takes hundreds of samples"""
    coarseness: float = _setting(4.0, 1.0, 64.0)
    """length of the march's steps in them, in ordinary ones"""
    occupancy_every: int = _setting(16, 1, 1 << 20)
    """steps between updates of the occupancy grid"""
    occupancy_share: float = _setting(0.25, 1e-6, 1.0)
    """share of the grid that an update looks at"""
    occupancy_warmup: int = _setting(400, 0, 1 << 30)
    """first steps, in which an update looks at all of the grid where the field has a fused path"""
    open_edges: int = _setting(0, 0, 27)
    """of the 27 cells around a cell that must be occupied for it to be opened when a fit has ended; 0 opens none"""
    distortion: float = _setting(0.1, 0.0, 1e3)
    """weight of the distortion loss, which pulls a ray's weight together and so clears floaters"""
    distortion_ramp: int = _setting(1000, 1, 1 << 30)
    """steps over which that weight rises from 0"""
    validation_pixels: int = _setting(1 << 16, 1, 1 << 30)
    """pixels of all held-out views together that a validation during training renders: the end measures them all"""
    signal_samples: int = _setting(1 << 14, 1, 1 << 26)
    """samples of a step on a signal; on Kodak 23 the same pixels in twice as many steps gain 2.6 dB after 4 million"""
    pose_warmup: int = _setting(100, 0, 1 << 30)
    """steps before poses are refined: the field becomes something to align with"""
    pose_rate: float = _setting(0.1, 0.0, 1.0)
    """share of a full alignment step that poses move by"""
    pose_last_rate: float = _setting(0.01, 0.0, 1.0)
    """the same at the end of a fit"""
    exposure_start: int = _setting(50, 0, 1 << 30)
    """steps before exposures are estimated"""
    exposure_warmup: int = _setting(100, 0, 1 << 30)
    """steps before they are applied"""
    robust_warmup: int = _setting(200, 0, 1 << 30)
    """steps before anything is left out as transient"""
    robust_memory: float = _setting(0.995, 0.0, 1.0)
    """of a place's error, from step to step"""
    sparse_depth_weight: float = _setting(0.1, 0.0, 1e3)
    """weight of the sparse points' depth error"""
    teacher_share: float = _setting(0.4, 0.0, 0.95)
    """of a fit in which a hash field learns from the photos, which teaches a coordinate network then; 0: no teacher"""
    time_jitter: float = _setting(PHOTOS_OF_A_MOMENT, 0.0, 1e6)
    """of a scene that moves: a ray's time is that of a photo up to so many before or after its own, at random, so that
    no moment is explained by itself alone; falls to 0 over a fit; not of K-Planes, which are smooth by themselves"""
    time_jitter_halving: float = _setting(500, 1.0, 1e9)
    """steps in which that halves, beside its fall: what is fast is blurred by it, in a long fit beyond repair"""
    swept_depth_weight: float = _setting(0.03, 0.0, 1e3)
    """weight, at first, of the error of depths that photos agree on; 0: they are not looked for"""

    def __post_init__(self) -> None:
        require_range(self, **{item.name: item.metadata["range"] for item in fields(self)})


DEFAULT = TrainingSettings()
