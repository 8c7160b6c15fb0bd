"""Gaussians: a scene as N coloured, oriented ellipsoids, in the parameters in which they are fitted and stored.

Vocabulary
  N          Gaussians
  K          harmonics per colour channel, (degree + 1)^2: 1, 4, 9 or 16
  harmonics  coefficients of real spherical harmonics, index 0 the constant (DC) term, then degree 1 (m = -1, 0, 1)
             and so on; the colour seen from direction d is 0.5 + sum_k harmonics[k] Y_k(d) (Kerbl et al.,
             arXiv:2308.04079): Y_0 = 0.2821, Y_1..3 = 0.4886 (-y, z, -x)
  logit      ln(a / (1 - a)) of an opacity a

The frame is the world of the cameras that they were fitted to; a file's reader converts on the way in.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from neuralfields.errors import InputError
from neuralfields.motion import DURATION, MOTION, PATH, POWERS, TURN, faded, motionless, moved_means, turned

DC = 0.28209479177387814  # Y_0 = 1 / (2 sqrt(pi))
COUNTS = (1, 4, 9, 16)  # harmonics of degree 0 to 3
# Beyond these a product of two in float32 overflows or vanishes: a scale's square, a distance's square.
LARGEST_LOG, LARGEST_MEAN = 40.0, 1e15
PARAMETERS = ("means", "scales", "rotations", "opacities", "harmonics")


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians, float32 tensors on one device.

    `means` [N, 3] world; `scales` [N, 3] natural logarithm of the standard deviations along their own axes, in world
    units; `rotations` [N, 4] quaternions w, x, y, z, of any length but 0, world from own axes; `opacities` [N] logits;
    `harmonics` [N, K, 3]. `extra`: further tensors [N, ...] that a file brought, kept by name. `antialiased`: they were
    fitted with opacities compensated for a pixel's filter (Mip-Splatting). `notes`: what a reader changed or left out.
    `motion` [N, 15]: where each is when and for how long (motion.py), of a scene that moves; None: all stand still.
    """

    means: Tensor
    scales: Tensor
    rotations: Tensor
    opacities: Tensor
    harmonics: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    antialiased: bool = False
    notes: tuple[str, ...] = ()
    motion: Tensor | None = None

    def __len__(self) -> int:
        return self.means.shape[0]

    def __repr__(self) -> str:
        """How many of which degree: `Gaussians(60,000 of degree 3, cpu)`."""
        moving = "" if self.motion is None else ", moving"
        return f"Gaussians({len(self):,} of degree {self.degree}{moving}, {self.means.device})"

    @property
    def degree(self) -> int:
        """Degree of the harmonics, 0 to 3."""
        return math.isqrt(self.harmonics.shape[1]) - 1

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.means.device

    def to(self, device: torch.device | str) -> "Gaussians":
        """The same Gaussians on another device."""
        moved = {name: getattr(self, name).to(device) for name in PARAMETERS}
        motion = None if self.motion is None else self.motion.to(device)
        extra = {name: value.to(device) for name, value in self.extra.items()}
        return replace(self, **moved, extra=extra, motion=motion)

    def take(self, index: Tensor | slice) -> "Gaussians":
        """Those of an index: numbers [M] in any order, a mask [N] or a slice."""
        taken = {name: getattr(self, name)[index] for name in PARAMETERS}
        motion = None if self.motion is None else self.motion[index]
        extra = {name: value[index] for name, value in self.extra.items()}
        return replace(self, **taken, extra=extra, motion=motion)

    def at(self, moment: float) -> "Gaussians":
        """Those of a moment in [0, 1] that stand still; themselves where nothing moves."""
        if self.motion is None:
            return self
        return replace(
            self,
            means=moved_means(self.means, self.motion, moment),
            rotations=turned(self.rotations, self.motion, moment),
            opacities=faded(self.opacities, self.motion, moment),
            motion=None,
        )

    def with_degree(self, degree: int) -> "Gaussians":
        """The same with harmonics up to another degree: cut, or filled with zeros."""
        many, have = COUNTS[degree], self.harmonics.shape[1]
        if many <= have:
            return replace(self, harmonics=self.harmonics[:, :many])
        zeros = self.harmonics.new_zeros(len(self), many - have, 3)
        return replace(self, harmonics=torch.cat([self.harmonics, zeros], 1))

    @classmethod
    def cat(cls, parts: Sequence["Gaussians"]) -> "Gaussians":
        """All of one or more sets in order: the highest degree of them, the extra properties that all of them have.

        Where one moves, those that stand still do so for ever.
        """
        degree = max(part.degree for part in parts)
        raised = [part.with_degree(degree) for part in parts]
        joined = {name: torch.cat([getattr(part, name) for part in raised]) for name in PARAMETERS}
        names = [name for name in parts[0].extra if all(name in part.extra for part in parts)]
        return cls(
            **joined,
            extra={name: torch.cat([part.extra[name] for part in parts]) for name in names},
            antialiased=all(part.antialiased for part in parts),
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
            motion=_joined_motion(parts),
        )

    def opacity(self) -> Tensor:
        """Opacities [N] in [0, 1]."""
        return torch.sigmoid(self.opacities)

    def base_colour(self) -> Tensor:
        """Colours [N, 3] of the constant term, sRGB; not clamped to [0, 1]."""
        return self.harmonics[:, 0] * DC + 0.5

    def sound(self) -> Tensor:
        """Mask [N] of those that can be rendered: finite, no scale or mean beyond float32's squares, some rotation."""
        found = torch.isfinite(self.opacities)
        for name in ("means", "scales", "rotations", "harmonics"):
            found &= torch.isfinite(getattr(self, name)).flatten(1).all(1)
        if self.motion is not None:
            found &= (self.motion.abs() <= LARGEST_MEAN).all(1) & (self.motion[:, DURATION].abs() <= LARGEST_LOG)
        found &= (self.scales.abs() <= LARGEST_LOG).all(1) & (self.means.abs() <= LARGEST_MEAN).all(1)
        lengths = torch.linalg.vector_norm(self.rotations, dim=1)
        return found & (lengths > 1e-12) & (lengths < LARGEST_MEAN)

    def require_sound(self, where: object = "Gaussians") -> "Gaussians":
        """The same, once shapes, types and values are as above. Raises InputError naming `where` and what is wrong."""
        _require_shapes(self, where)
        for name in PARAMETERS:
            if not bool(torch.isfinite(getattr(self, name)).all()):
                wrong = int((~torch.isfinite(getattr(self, name)).reshape(len(self), -1).all(1)).sum())
                raise InputError(f"{where}: {name} of {wrong} of {len(self)} Gaussians are not finite; leave them out")
        wrong = len(self) - int(self.sound().sum())
        if wrong:
            raise InputError(
                f"{where}: {wrong} of {len(self)} Gaussians have a scale beyond e^{LARGEST_LOG:g}, a mean beyond "
                f"{LARGEST_MEAN:g} or no rotation; leave them out"
            )
        return self


def _joined_motion(parts: Sequence[Gaussians]) -> Tensor | None:
    """The motion of all of some sets in order, or None where none of them moves."""
    if all(part.motion is None for part in parts):
        return None
    return torch.cat([motionless(len(p), p.means) if p.motion is None else p.motion for p in parts])


def empty(degree: int = 0) -> Gaussians:
    """No Gaussians."""
    return Gaussians(*(torch.empty(0, *shape) for shape in ((3,), (3,), (4,), (), (COUNTS[degree], 3))))


def basis(directions: Tensor, degree: int = 3) -> Tensor:
    """Real spherical harmonics [..., K] of unit directions [..., 3], in the order and with the signs of `harmonics`."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    found = [torch.full_like(x, DC)]
    if degree > 0:
        found += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        found += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z]
        found += [0.31539156525252005 * (2 * zz - xx - yy), -1.0925484305920792 * x * z]
        found += [0.5462742152960396 * (xx - yy)]
    if degree > 2:
        found += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
        found += [-0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy)]
        found += [-0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy)]
        found += [-0.5900435899266435 * x * (xx - 3 * yy)]
    return torch.stack(found, -1)


def flipped(gaussians: Gaussians, axes: str) -> Gaussians:
    """The same in a frame whose named axes point the other way, e.g. "yz"; exact, and its own inverse.

    An axis's sign S: means S x; rotations of vector part det(S) S v; every harmonic is even or odd in each axis.
    """
    if not axes:
        return gaussians
    signs = torch.tensor([-1.0 if axis in axes else 1.0 for axis in "xyz"])
    turn = torch.cat([torch.ones(1), signs.prod() * signs]).to(gaussians.device)
    generic = torch.tensor([0.36, 0.48, 0.8])  # where no harmonic is 0
    parity = torch.sign(basis(generic * signs, gaussians.degree) * basis(generic, gaussians.degree))
    motion = gaussians.motion
    if motion is not None:
        motion = motion.clone()
        motion[:, PATH] *= signs.to(motion.device).repeat(POWERS)
        motion[:, TURN] *= turn
    return replace(
        gaussians,
        motion=motion,
        means=gaussians.means * signs.to(gaussians.device),
        rotations=gaussians.rotations * turn,
        harmonics=gaussians.harmonics * parity[:, None].to(gaussians.device),
    )


def moved(gaussians: Gaussians, to_from: Tensor, where: object = "Gaussians") -> Gaussians:
    """The same in another frame: `to_from` [4, 4] is a rotation, one scale and a translation.

    Harmonics h of a degree become D h, where Y(R^T d) = Y(d) D for every direction d. Raises InputError naming `where`
    for a mirror or for scales that differ between axes, which quaternions and three scales cannot follow.
    """
    linear, shift = to_from[:3, :3].double().cpu(), to_from[:3, 3].double().cpu()
    scale = torch.linalg.det(linear).abs() ** (1 / 3)
    turn = linear / scale
    off = (turn @ turn.T - torch.eye(3, dtype=torch.float64)).abs().max()
    if not (bool(torch.isfinite(to_from).all()) and float(scale) > 0 and float(off) < 1e-3) or torch.det(turn) < 0:
        raise InputError(f"{where}: a frame that mirrors, shears or scales its axes apart cannot be applied; undo it")
    device, means = gaussians.device, gaussians.means.double().cpu()
    mixed = _rotate_harmonics(turn, gaussians.degree).float().to(device)
    motion = gaussians.motion
    if motion is not None:
        path = motion[:, PATH].unflatten(1, (POWERS, 3)).double().cpu() @ linear.T
        motion = motion.clone()
        motion[:, PATH] = path.flatten(1).float().to(device)
        motion[:, TURN] = _times(_quaternion(turn).float().to(device), motion[:, TURN])
    return replace(
        gaussians,
        motion=motion,
        means=(means @ linear.T + shift).float().to(device),
        scales=gaussians.scales + float(torch.log(scale)),
        rotations=_times(_quaternion(turn).float().to(device), gaussians.rotations),
        harmonics=torch.einsum("kj,njc->nkc", mixed, gaussians.harmonics),
    )


def _rotate_harmonics(turn: Tensor, degree: int) -> Tensor:
    """D [K, K], block by block: coefficients in the frame after a rotation from those before it."""
    chance = torch.Generator().manual_seed(0)
    seen = torch.nn.functional.normalize(torch.randn(64, 3, generator=chance, dtype=torch.float64), dim=1)
    after, before = basis(seen, degree), basis(seen @ turn, degree)
    found = torch.zeros(COUNTS[degree], COUNTS[degree], dtype=torch.float64)
    for low, high in zip((0, *COUNTS[:degree]), COUNTS[: degree + 1], strict=True):
        found[low:high, low:high] = torch.linalg.lstsq(after[:, low:high], before[:, low:high]).solution
    return found


def _quaternion(turn: Tensor) -> Tensor:
    """w, x, y, z of a rotation matrix, from the one of four equal forms that divides by the largest number."""
    m, trace = turn, turn.trace()
    squares = torch.stack([trace, m[0, 0], m[1, 1], m[2, 2]])
    k = int(squares.argmax())
    if k == 0:
        parts = [1 + trace, m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]
    else:
        i, j, n = k - 1, k % 3, (k + 1) % 3
        parts = [m[n, j] - m[j, n], torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0)]
        parts[1 + i], parts[1 + j], parts[1 + n] = 1 + 2 * m[i, i] - trace, m[j, i] + m[i, j], m[n, i] + m[i, n]
    return torch.nn.functional.normalize(torch.stack([part.double() for part in parts]), dim=0)


def _times(a: Tensor, b: Tensor) -> Tensor:
    """Quaternion product [..., 4] of w, x, y, z: first b, then a."""
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    vector = aw * bv + bw * av + torch.linalg.cross(av.expand_as(bv), bv, dim=-1)
    return torch.cat([aw * bw - (av * bv).sum(-1, keepdim=True), vector], -1)


def logit(opacity: Tensor, margin: float = 1e-6) -> Tensor:
    """ln(a / (1 - a)) of opacities, those within `margin` of 0 and 1 moved there, where it is infinite."""
    return torch.logit(opacity.clamp(margin, 1 - margin))


def keep_sound(gaussians: Gaussians, where: object) -> Gaussians:
    """What can be rendered of Gaussians from outside; infinite opacity and scale zero mean what they say and stay.

    A note counts those left out. Raises InputError naming `where` if shapes are wrong or none is left.
    """
    _require_shapes(gaussians, where)
    bounded = replace(
        gaussians,
        opacities=gaussians.opacities.clamp(-LARGEST_LOG, LARGEST_LOG),  # NaN stays NaN
        scales=gaussians.scales.clamp(min=-LARGEST_LOG),
    )
    sound = bounded.sound()
    if bool(sound.all()):
        return bounded
    left = int(sound.sum())
    if not left:
        raise InputError(f"{where}: none of its {len(sound)} Gaussians is finite with a rotation; export it again")
    note = f"{len(sound) - left} of {len(sound)} Gaussians left out: not finite, too large or without a rotation"
    return replace(bounded.take(sound), notes=(*bounded.notes, note))


def _require_shapes(gaussians: Gaussians, where: object) -> None:
    many = gaussians.means.shape[0] if gaussians.means.ndim else -1
    shapes = {"means": (many, 3), "scales": (many, 3), "rotations": (many, 4), "opacities": (many,)}
    for name in PARAMETERS:
        value = getattr(gaussians, name)
        good = tuple(value.shape) == shapes.get(name, ()) or (
            name == "harmonics" and value.ndim == 3 and value.shape[0] == many and value.shape[2] == 3
            and value.shape[1] in COUNTS
        )  # fmt: skip
        if not good:
            wanted = list(shapes.get(name, ())) or f"[{many}, 1 | 4 | 9 | 16, 3]"
            raise InputError(f"{where}: {name} is {list(value.shape)}, {wanted} is needed")
        if value.dtype != torch.float32 or value.device != gaussians.device:
            raise InputError(f"{where}: {name} is {value.dtype} on {value.device}, float32 on one device is needed")
    motion = gaussians.motion
    if motion is not None and (motion.shape != (many, MOTION) or motion.dtype != torch.float32):
        raise InputError(
            f"{where}: motion is {motion.dtype} {list(motion.shape)}, float32 [{many}, {MOTION}] is needed"
        )
    for name, value in gaussians.extra.items():
        if value.ndim < 1 or value.shape[0] != many:
            raise InputError(f"{where}: extra {name} is {list(value.shape)}, {many} rows are needed")
