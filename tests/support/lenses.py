"""A camera of every kind of lens."""

import numpy as np

from neuralfields.cameras import Camera, rotation_from_quaternion

FOX = (0.0578421, -0.0805099, -0.000980296, 0.00015575, 0.0, 0.0, 0.0, 0.0)


def pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation_from_quaternion(rng.normal(size=4)), rng.normal(size=3) * 3
    return matrix


LENSES = {
    "pinhole": Camera(pose(0), 800, 800, 1111.1, 1111.1, 400.0, 400.0),
    "phone": Camera(pose(1), 1080, 1920, 1375.52, 1374.49, 554.558, 965.268, "perspective", FOX),
    "k3": Camera(
        pose(2), 640, 480, 500.0, 505.0, 322.0, 238.5, "perspective", (-0.2, 0.08, 1e-3, -2e-3, -0.01, 0, 0, 0)
    ),
    "rational": Camera(
        pose(3), 640, 480, 450.0, 450.0, 320.0, 240.0, "perspective", (0.3, 0.1, 5e-4, 4e-4, 0.02, 0.5, 0.2, 0.01)
    ),
    "fisheye": Camera(
        pose(4), 1200, 900, 420.0, 421.0, 601.0, 449.0, "fisheye", (-0.02, 0.006, -0.003, 4e-4, 0, 0, 0, 0)
    ),
}
