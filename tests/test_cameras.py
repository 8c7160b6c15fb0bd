"""Cameras against numbers worked out by hand."""

import numpy as np
import pytest

from neuralfields.cameras import (
    Camera,
    field_of_view,
    focal_from_angle,
    pose_from_matrix,
    project,
    rotation_from_quaternion,
)
from neuralfields.errors import InputError


def camera(**changes: object) -> Camera:
    values = {
        "world_from_camera": np.eye(4),
        "width": 100,
        "height": 80,
        "fx": 50.0,
        "fy": 40.0,
        "cx": 50.0,
        "cy": 40.0,
    }
    return Camera(**{**values, **changes})


def test_projection_by_hand() -> None:
    pixels, depth = project(camera(), np.array([[1.0, 2.0, 4.0], [0.0, 0.0, -1.0]]))
    assert pixels[0] == pytest.approx([50 + 50 * 0.25, 40 + 40 * 0.5])
    assert depth.tolist() == [4.0, -1.0]


def test_projection_of_a_turned_camera_by_hand() -> None:
    # Looks along world +x, with world -z up: right is -y... columns are right, down, forward.
    pose = np.array([[0.0, 0, 1, 5], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    pixels, depth = project(camera(world_from_camera=pose), np.array([7.0, 1.0, -1.0]))
    assert depth == 2.0
    assert pixels == pytest.approx([50 + 50 * -0.5, 40 + 40 * 0.5])


def test_radial_and_tangential_distortion_by_hand() -> None:
    lens = camera(distortion=(0.1, 0.0, 0.01, 0.02, 0.0, 0.0, 0.0, 0.0))
    a, b, r2 = 0.5, 0.25, 0.3125
    radial = 1 + 0.1 * r2
    da = 2 * 0.01 * a * b + 0.02 * (r2 + 2 * a * a)
    db = 0.01 * (r2 + 2 * b * b) + 2 * 0.02 * a * b
    pixels, _ = project(lens, np.array([1.0, 0.5, 2.0]))
    assert pixels == pytest.approx([50 + 50 * (a * radial + da), 40 + 40 * (b * radial + db)])


def test_fisheye_by_hand() -> None:
    lens = camera(model="fisheye", distortion=(0.1, 0, 0, 0, 0, 0, 0, 0))
    theta = np.pi / 4
    pixels, _ = project(lens, np.array([1.0, 0.0, 1.0]))
    assert pixels == pytest.approx([50 + 50 * theta * (1 + 0.1 * theta**2), 40])


def test_resizing_scales_all_four_intrinsics() -> None:
    half = camera(cx=45.0).resized(50, 40)
    assert (half.fx, half.fy, half.cx, half.cy) == (25.0, 20.0, 22.5, 20.0)


def test_opengl_matrix_becomes_opencv() -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = 1, 2, 3
    pose, scale = pose_from_matrix(matrix[:3], "opengl", "frame")
    assert scale == 1.0
    assert pose.tolist() == [[1, 0, 0, 1], [0, -1, 0, 2], [0, 0, -1, 3], [0, 0, 0, 1]]


def test_slightly_skewed_rotation_is_made_orthonormal() -> None:
    matrix = np.eye(4)
    matrix[0, 1] = 0.004
    pose, _ = pose_from_matrix(matrix, "opencv", "frame")
    assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.abs(pose - matrix).max() < 0.005


def test_uniform_scale_is_taken_out_and_reported() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] *= 2.5
    matrix[:3, 3] = 1, 2, 3
    pose, scale = pose_from_matrix(matrix, "opencv", "frame")
    assert scale == pytest.approx(2.5)
    assert pose[:3, 3].tolist() == [1, 2, 3]
    assert pose[:3, :3] == pytest.approx(np.eye(3))


BAD_MATRICES = {
    "4x3": (np.ones((4, 3)), "matrix is 4x3"),
    "ragged": ([[1, 0, 0, 0], [0, 1], [0, 0, 1, 0]], "different lengths"),
    "singular": (np.diag([1.0, 1, 0, 1]), "singular"),
    "zero": (np.diag([0.0, 0, 0, 1]), "singular"),
    "reflection": (np.diag([1.0, 1, -1, 1]), "reflection"),
    "shear": (np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.0]]), "shears"),
    "nan": (np.full((4, 4), np.nan), "NaN"),
    "infinite": (np.diag([1.0, np.inf, 1, 1]), "NaN"),
    "huge": (np.array([[1, 0, 0, 1e30], [0, 1, 0, 0], [0, 0, 1, 0.0]]), "1e9"),
    "transposed": (np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1.0]]), "last row"),
}


@pytest.mark.parametrize("name", BAD_MATRICES)
def test_bad_matrices_are_refused_with_the_frame(name: str) -> None:
    matrix, says = BAD_MATRICES[name]
    with pytest.raises(InputError, match=says) as error:
        pose_from_matrix(matrix, "opengl", "frame 7")
    assert str(error.value).startswith("frame 7: ")


def test_quaternion_by_hand() -> None:
    half = np.sqrt(0.5)
    turn = rotation_from_quaternion(np.array([half, 0, 0, half]) * 3)  # 90 degrees about z, not normalised
    assert turn @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert turn @ [0, 1, 0] == pytest.approx([-1, 0, 0])


def test_angles() -> None:
    assert focal_from_angle(np.pi / 2, 100) == pytest.approx(50)
    assert field_of_view(camera()) == pytest.approx((90, 90))
    assert field_of_view(camera(model="fisheye")) == pytest.approx((np.degrees(2), np.degrees(2)))
