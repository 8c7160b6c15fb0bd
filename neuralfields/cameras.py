"""Cameras: intrinsics, lens distortion and pose.

Vocabulary
  world_from_camera  [4, 4]  takes points of the camera's frame to the world; OpenCV axes: x right, y down, z forward
  pixel              (u, v)  u to the right, v down; the centre of the first pixel is (0.5, 0.5)
  a, b                       a point on the plane z = 1 before distortion, a = x / z, b = y / z
  k1..k6, p1, p2             radial and tangential coefficients

Models
  perspective  OpenCV's rational model (k1, k2, p1, p2, k3, k4, k5, k6); all zero is a pinhole
  fisheye      OpenCV's equidistant model (k1, k2, k3, k4): theta_d = theta (1 + k1 theta^2 + ... + k4 theta^8)
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Real

from neuralfields.errors import InputError

CameraModel = Literal["perspective", "fisheye"]
NO_DISTORTION = (0.0,) * 8
NEWTON_STEPS = 12
CAMERA_AXES = {
    # A file's world_from_camera times this is world_from_camera in OpenCV axes.
    "opencv": np.diag([1.0, 1.0, 1.0, 1.0]),
    "opengl": np.diag([1.0, -1.0, -1.0, 1.0]),
    "mitsuba": np.diag([-1.0, -1.0, 1.0, 1.0]),
}
LARGEST_COORDINATE = 1e9  # float32 still resolves a camera there; beyond it, a file holds garbage


@dataclass(frozen=True)
class Camera:
    """The geometry of one photo: intrinsics, lens distortion and pose.

    `world_from_camera` [4, 4] float64, rotation orthonormal with determinant 1; `width`, `height` in pixels;
    `fx`, `fy`, `cx`, `cy` in pixels with pixel centres at +0.5; `distortion` 8 numbers in the order of the model:
    perspective (k1, k2, p1, p2, k3, k4, k5, k6), fisheye (k1, k2, k3, k4, 0, 0, 0, 0). `time`: when the photo was
    taken, in the capture's own unit; None in a scene that stands still.
    """

    world_from_camera: Float[np.ndarray, "4 4"]
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: CameraModel = "perspective"
    distortion: tuple[float, ...] = NO_DISTORTION
    time: float | None = None

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Position of the camera in the world, [3]."""
        return self.world_from_camera[:3, 3]

    @property
    def forward(self) -> Float[np.ndarray, "3"]:
        """Unit viewing direction in the world, [3]."""
        return self.world_from_camera[:3, 2]

    def moved(self, by: Real[np.ndarray, "3"]) -> "Camera":
        """The camera, translated by a vector [3] of the world."""
        pose = self.world_from_camera.copy()
        pose[:3, 3] += by
        return replace(self, world_from_camera=pose)

    def resized(self, width: int, height: int) -> "Camera":
        """The camera for an image of another size: with pixel centres at +0.5 all four intrinsics scale alike."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=self.cx * sx,
            cy=self.cy * sy,
        )


def distort(camera: Camera, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Applies the lens distortion: undistorted (a, b) on the plane z = 1 to distorted (a, b), any shape."""
    k1, k2, k3_or_p1, k4_or_p2, k3, k4, k5, k6 = camera.distortion
    r2 = a * a + b * b
    if camera.model == "fisheye":
        r = np.sqrt(r2)
        theta = np.arctan(r)
        theta2 = theta * theta
        theta_d = theta * (1 + theta2 * (k1 + theta2 * (k2 + theta2 * (k3_or_p1 + theta2 * k4_or_p2))))
        scale = np.where(r > 1e-9, theta_d / np.maximum(r, 1e-9), 1.0)
        return a * scale, b * scale
    p1, p2 = k3_or_p1, k4_or_p2
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return (
        a * radial + 2 * p1 * a * b + p2 * (r2 + 2 * a * a),
        b * radial + p1 * (r2 + 2 * b * b) + 2 * p2 * a * b,
    )


def project(
    camera: Camera, points: Real[np.ndarray, "*N 3"]
) -> tuple[Float[np.ndarray, "*N 2"], Float[np.ndarray, "*N"]]:
    """Projects world points [..., 3]: pixels [..., 2] and depth along z [...]; depth <= 0 is behind the camera."""
    rotation, centre = camera.world_from_camera[:3, :3], camera.centre
    local = (points - centre) @ rotation
    depth = local[..., 2]
    safe = np.where(np.abs(depth) < 1e-12, 1e-12, depth)
    a, b = distort(camera, local[..., 0] / safe, local[..., 1] / safe)
    return np.stack([a * camera.fx + camera.cx, b * camera.fy + camera.cy], axis=-1), depth


def pose_from_matrix(matrix: object, axes: str, where: str) -> tuple[Float[np.ndarray, "4 4"], float]:
    """A file's camera-to-world matrix as a checked rigid pose.

    `matrix`: 3x4 or 4x4 numbers; `axes`: a key of `CAMERA_AXES`; `where` names file and frame in messages.
    Gives `world_from_camera` [4, 4] float64 in OpenCV axes, with a rotation that is orthonormal to rounding, and the
    uniform scale that was taken out of it (1.0 where there was none).
    Raises InputError for another shape, NaN, infinity, numbers above 1e9, singular or mirrored matrices and shear.
    """
    try:
        given = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where}: matrix rows have different lengths; 3 or 4 rows of 4 numbers are needed") from None
    if given.shape not in ((3, 4), (4, 4)):
        shape = "x".join(str(n) for n in given.shape)
        raise InputError(f"{where}: matrix is {shape}; a camera-to-world matrix of 3x4 or 4x4 is needed")
    if not np.isfinite(given).all() or np.abs(given).max() > LARGEST_COORDINATE:
        raise InputError(f"{where}: matrix holds NaN, infinity or numbers above 1e9; remove this frame or export again")
    if given.shape == (4, 4) and np.abs(given[3] - (0, 0, 0, 1)).max() > 1e-4:
        raise InputError(f"{where}: the last row of the matrix is not 0 0 0 1; write it by rows, translation last")
    rotation, scale = _rotation_and_scale(given[:3, :3], where)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, given[:3, 3]
    return pose @ CAMERA_AXES[axes], scale


def _rotation_and_scale(block: np.ndarray, where: str) -> tuple[np.ndarray, float]:
    """Nearest rotation to a 3x3 block (its polar factor) and the block's uniform scale, near-1 read as 1."""
    u, stretch, vt = np.linalg.svd(block)
    if stretch[2] <= 1e-9 or stretch[2] < 1e-6 * stretch[0]:
        raise InputError(f"{where}: matrix is singular; a rotation is needed, remove this frame or export again")
    rotation = u @ vt
    if np.linalg.det(rotation) < 0:
        raise InputError(f"{where}: matrix is a reflection (determinant below 0); one axis is flipped, export again")
    if stretch[0] > 1.05 * stretch[2]:
        raise InputError(f"{where}: matrix shears or stretches by {stretch[0] / stretch[2]:.3g}; a rotation is needed")
    scale = float(np.cbrt(stretch.prod()))
    return rotation, 1.0 if abs(scale - 1.0) < 1e-2 else scale


def rotation_from_quaternion(wxyz: Real[np.ndarray, "4"]) -> Float[np.ndarray, "3 3"]:
    """Rotation matrix [3, 3] of a quaternion (w, x, y, z) of any length above 0."""
    w, x, y, z = np.asarray(wxyz, dtype=np.float64) / np.linalg.norm(wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def focal_from_angle(angle: float, size: float) -> float:
    """Focal length in pixels of a pinhole that sees `angle` radians over `size` pixels."""
    return 0.5 * size / float(np.tan(0.5 * angle))


def field_of_view(camera: Camera) -> tuple[float, float]:
    """Field of view, horizontal and vertical in degrees: undistorted for perspective, equidistant for fisheye."""
    if camera.model == "fisheye":
        return float(np.degrees(camera.width / camera.fx)), float(np.degrees(camera.height / camera.fy))
    return (
        float(np.degrees(2 * np.arctan(0.5 * camera.width / camera.fx))),
        float(np.degrees(2 * np.arctan(0.5 * camera.height / camera.fy))),
    )


def without_eighth_order(k1: float, k2: float, k3: float, k4: float, radius: float) -> tuple[float, float, float]:
    """Radial coefficients that come closest to r (1 + k1 r^2 + ... + k4 r^8), of which OpenCV's model lacks the last.

    Refitted by least squares over r up to `radius`, the distance of the image's corner on the plane z = 1.
    """
    if k4 == 0.0:
        return k1, k2, k3
    r2 = np.linspace(0.0, radius, 64)[1:, None] ** 2
    wanted = (r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4))))[:, 0]
    r = np.sqrt(r2)
    found, *_ = np.linalg.lstsq(r * np.concatenate([r2, r2**2, r2**3], axis=1), r[:, 0] * wanted, rcond=None)
    return float(found[0]), float(found[1]), float(found[2])


def fitted(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera for an image of (width, height): its whole view fits in, in the middle, with square pixels."""
    width, height = size
    if (width, height) == (camera.width, camera.height):
        return camera
    resized = camera.resized(width, height)
    if abs(width * camera.height - height * camera.width) <= max(camera.width, camera.height):
        return resized  # the same aspect but for the rounding to whole pixels
    scale = min(width / camera.width, height / camera.height)
    return replace(
        resized,
        fx=camera.fx * scale,
        fy=camera.fy * scale,
        cx=(camera.cx - camera.width / 2) * scale + width / 2,
        cy=(camera.cy - camera.height / 2) * scale + height / 2,
    )


def unit_vector(vector: np.ndarray) -> np.ndarray:
    """Normalises a vector [3] to length 1; zero stays zero."""
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def look_at(
    position: Real[np.ndarray, "3"], target: Real[np.ndarray, "3"], up: Real[np.ndarray, "3"]
) -> Float[np.ndarray, "4 4"]:
    """`world_from_camera` [4, 4] at `position`, the optical axis through `target`, the image's top towards `up`."""
    forward = unit_vector(target - position)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-6:  # straight up or down: any level direction serves
        right = np.cross(forward, np.eye(3)[int(np.argmin(np.abs(forward)))])
    right = unit_vector(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, position], axis=1)
    return pose


def quaternion(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "4"]:
    """Unit quaternion wxyz [4] of a rotation matrix [3, 3]: the largest eigenvector of Bar-Itzhack's matrix."""
    m = rotation
    matrix = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [0.0, m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [0.0, 0.0, m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
            [0.0, 0.0, 0.0, m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    return np.linalg.eigh(matrix, UPLO="U")[1][:, -1]
