"""The file of an Instant-NGP snapshot: msgpack (.msgpack), or the same within gzip or zlib (.ingp).

One map: the configs `encoding`, `network`, `dir_encoding` and `rgb_network` as trained, and `snapshot` with the
parameters as one binary, the density grid as another, and the data set's cameras. Only what is read stands in the
structs below; unknown keys are skipped. A compressed file may hold `PACKED` times its own bytes and no more.
"""

import zlib
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec

from neuralfields.errors import InputError
from neuralfields.files import size_text

LARGEST, PACKED, SMALLEST = 2 * 2**30, 64, 16 * 2**20
CHUNK = 1 << 20
VERSION = 1

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Triple = tuple[float, float, float]
Pair = tuple[float, float]
Rows = Annotated[list[Annotated[list[float], msgspec.Meta(max_length=4)]], msgspec.Meta(max_length=4)]


class Grid(msgspec.Struct, frozen=True):
    """`encoding`: the position's."""

    otype: str = "OneBlob"
    n_levels: Count = 16
    n_features: Count = 0
    n_features_per_level: Count = 2
    log2_hashmap_size: Count = 19
    base_resolution: Count = 0
    per_level_scale: float = 0.0
    type: str = "Hash"
    hash: str = "CoherentPrime"
    interpolation: str = "Linear"
    fixed_point_pos: bool = False


class Network(msgspec.Struct, frozen=True):
    """`network` and `rgb_network`."""

    otype: str = "FullyFusedMLP"
    activation: str = "ReLU"
    output_activation: str = "None"
    n_neurons: Count = 128
    n_hidden_layers: Count = 5
    n_output_dims: Count = 16


class Direction(msgspec.Struct, frozen=True):
    """`dir_encoding`: harmonics, alone or first in a composite with what encodes further inputs."""

    otype: str = ""
    degree: Count = 4
    nested: Annotated[list["Direction"], msgspec.Meta(max_length=8)] = []


class Lens(msgspec.Struct, frozen=True):
    """A camera's distortion; none of it is a pinhole."""

    is_fisheye: bool = False
    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    ftheta_p0: float | None = None
    latlong: bool = False
    equirectangular: bool = False
    orthographic: bool = False


class Metadata(msgspec.Struct, frozen=True):
    """A camera's intrinsics: pixels, and the principal point in parts of the picture."""

    resolution: tuple[int, int]
    focal_length: Pair
    principal_point: Pair = (0.5, 0.5)
    lens: Lens = Lens()
    camera_distortion: Lens | None = None  # what `lens` was called before


class Transform(msgspec.Struct, frozen=True):
    """A camera's pose at the shutter's opening: rows of camera-to-world in Instant-NGP's frame."""

    start: Rows


class Dataset(msgspec.Struct, frozen=True):
    """The photos' cameras, and how their world lies in Instant-NGP's unit cube."""

    scale: float = 0.33
    offset: Triple = (0.5, 0.5, 0.5)
    aabb_scale: Count = 1
    from_mitsuba: bool = False
    is_hdr: bool = False
    n_extra_learnable_dims: Count = 0
    paths: Annotated[list[str], msgspec.Meta(max_length=100_000)] = []
    metadata: Annotated[list[Metadata], msgspec.Meta(max_length=100_000)] = []
    xforms: Annotated[list[Transform], msgspec.Meta(max_length=100_000)] = []


class Nerf(msgspec.Struct, frozen=True):
    """`snapshot.nerf`."""

    aabb_scale: Count | None = None
    dataset: Dataset = Dataset()


class Box(msgspec.Struct, frozen=True):
    """An axis-aligned box."""

    min: Triple
    max: Triple


class State(msgspec.Struct, frozen=True):
    """`snapshot`."""

    params_binary: bytes
    n_params: Count
    params_type: str = "__half"
    version: int = 0
    mode: str = "nerf"
    nerf: Nerf | None = None
    density_grid_size: Count = 128
    density_grid_binary: bytes = b""
    training_step: int = 0
    background_color: Annotated[list[float], msgspec.Meta(max_length=4)] = []
    render_aabb: Box | None = None
    render_aabb_to_local: Rows = []


class Snapshot(msgspec.Struct, frozen=True):
    """The whole file."""

    snapshot: State
    encoding: Grid
    network: Network
    rgb_network: Network | None = None
    dir_encoding: Direction | None = None

    @property
    def dataset(self) -> Dataset:
        """What is known of the photos."""
        return self.snapshot.nerf.dataset if self.snapshot.nerf else Dataset()

    @property
    def aabb_scale(self) -> int:
        """Side of the whole scene in unit cubes."""
        own = self.snapshot.nerf.aabb_scale if self.snapshot.nerf else None
        return self.dataset.aabb_scale if own is None else own


def is_snapshot(head: bytes) -> bool:
    """Whether a file that begins so may be a snapshot: gzip, zlib, or a msgpack map of a few keys or more."""
    return _packed(head) or _is_map(head)


def decode(path: Path) -> Snapshot:
    """Reads and checks a snapshot's structure; InputError for what is damaged, too large or no snapshot."""
    size = path.stat().st_size
    if size > LARGEST:
        raise InputError(f"{path}: {size_text(size)}; snapshots of at most {size_text(LARGEST)} are read")
    with path.open("rb") as file:
        data = _inflate(path, file, size) if _packed(file.read(2)) else path.read_bytes()
    try:
        return msgspec.msgpack.decode(data, type=Snapshot)
    except (RecursionError, MemoryError):
        raise InputError(
            f"{path}: its msgpack is nested too deeply or claims more than it has; save it again"
        ) from None
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: is no Instant-NGP snapshot that can be read: {_lower(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is damaged, or no Instant-NGP snapshot: {_lower(error)}; copy it again") from None


def _packed(head: bytes) -> bool:
    zipped = len(head) > 1 and head[0] == 0x78 and (head[0] * 256 + head[1]) % 31 == 0
    return head.startswith(b"\x1f\x8b") or zipped


def _is_map(head: bytes) -> bool:
    return head[:1] in (b"\xde", b"\xdf") or (bool(head) and 0x82 <= head[0] <= 0x8F)


def _inflate(path: Path, file: BinaryIO, size: int) -> bytearray:
    """The whole of a compressed file, as long as it stays within the limit."""
    limit = min(LARGEST, max(PACKED * size, SMALLEST))
    stream, out = zlib.decompressobj(wbits=47), bytearray()  # 47: gzip or zlib, by its head
    file.seek(0)
    try:
        while not stream.eof:
            data = stream.unconsumed_tail or file.read(CHUNK)
            if not data:
                raise InputError(f"{path}: was cut short; copy it again")
            out += stream.decompress(data, CHUNK)
            if not _is_map(out):
                raise InputError(f"{path}: is compressed, but holds no Instant-NGP snapshot")
            if len(out) > limit:
                raise InputError(f"{path}: unpacks to more than {size_text(limit)}; such a file is not read")
    except zlib.error as error:
        raise InputError(f"{path}: is damaged ({_lower(error)}); copy it again") from None
    if stream.unused_data or file.read(1):
        raise InputError(f"{path}: goes on after its end; copy it again")
    return out


def _lower(error: Exception) -> str:
    text: Any = " ".join(str(error).split())
    return (text[:1].lower() + text[1:])[:160]
