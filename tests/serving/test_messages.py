"""What a page may say: everything else is refused in one line and never reaches a renderer."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralfields.errors import InputError
from neuralfields.scene import FURTHEST, Bounds
from neuralfields.serving.messages import Eye, View, camera_of, clamped, eye_of, packet, read, unpack
from tests.support.view_ball import eye, view


def test_a_view_and_its_camera() -> None:
    message = read(json.dumps(view(7, angle=0.5, size=(640, 480), what="depth")))
    assert isinstance(message, View) and message.number == 7 and message.look.what == "depth"
    camera, expected = camera_of(message.look.eye, 64, 48), eye(0.5)
    assert np.allclose(camera.world_from_camera, expected.world_from_camera, atol=1e-12)
    assert (camera.fy, camera.fx, camera.cx, camera.cy) == pytest.approx((48, 48, 32, 24))
    assert eye_of(camera)["fov"] == pytest.approx(math.degrees(2 * math.atan(0.5)))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '"view"', "{}", '{"type": "view"}', '{"type": "open", "path": "/etc/passwd"}',
        '{"type": "steer", "do": "rm"}', '{"type": "seen", "number": -1}', '{"type": "seen", "number": 1e99}',
        '{"type": "seen", "number": NaN}', '{"type": "seen", "number": 1, "more": 2}', "\ud800", "[" * 60000,
        '{"type": "photo", "camera": "../../etc/passwd"}',
    ],
)  # fmt: skip
def test_garbage_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="message of the page") as caught:
        read(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 140


@pytest.mark.parametrize("change", [
    {"look": {"eye": {"pose": [0.0] * 11, "fov": 40.0}}}, {"width": 0}, {"width": 10**9}, {"subjects": []},
    {"subjects": [0, 0, 0]}, {"look": {"eye": {"pose": [0.0] * 12, "fov": 40.0}, "what": "everything"}},
])  # fmt: skip
def test_views_out_of_range(change: dict) -> None:
    with pytest.raises(InputError):
        read(json.dumps(view(1) | change))


@pytest.mark.parametrize("place", range(12))
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300, -1e12])
def test_cameras_that_are_none(place: int, value: float) -> None:
    pose = eye_of(eye())["pose"]
    pose[place] = value
    with pytest.raises(InputError, match="a camera"):
        camera_of(Eye(pose, 40.0), 8, 8)


def test_an_eye_far_away_is_brought_within_reach() -> None:
    """It keeps its direction from the scene; one that is near stays as it is, to the bit."""
    bounds = Bounds((1.0, 2.0, 3.0), 2.0)
    pose = eye_of(eye())["pose"]
    pose[3], pose[7], pose[11] = 3e8, 4e8, 3.0
    away = camera_of(Eye(pose, 40.0), 8, 8, bounds).centre - bounds.centre
    assert np.linalg.norm(away) == pytest.approx(FURTHEST * 2.0)
    np.testing.assert_allclose(away / np.linalg.norm(away), [0.6, 0.8, 0.0], atol=1e-6)
    pose[3], pose[7], pose[11] = 19_000.0, 2.0, 3.0
    assert camera_of(Eye(pose, 40.0), 8, 8, bounds).centre.tolist() == [19_000.0, 2.0, 3.0]


def test_mirrored_and_flattened_cameras() -> None:
    for columns in (np.diag([1.0, 1.0, -1.0]), np.zeros((3, 3)), 2 * np.eye(3)):
        pose = np.concatenate([columns, np.zeros((3, 1))], 1).ravel().tolist()
        with pytest.raises(InputError, match="no rotation"):
            camera_of(Eye(pose, 40.0), 8, 8)
    with pytest.raises(InputError, match="not finite"):
        camera_of(Eye(eye_of(eye())["pose"], math.nan), 8, 8)
    for fov, least, most in ((0.0, 0, 1.01), (1e9, 159, 161)):
        camera = camera_of(Eye(eye_of(eye())["pose"], fov), 8, 8)
        assert least < math.degrees(2 * math.atan(0.5 * 8 / camera.fy)) < most


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 1 << 22))
def test_sizes_are_clamped_in_their_aspect(width: int, height: int, most: int) -> None:
    w, h = clamped(width, height, most)
    assert 1 <= w <= max(1, width) and 1 <= h <= max(1, height) and max(w, h) <= 16384
    assert w * h <= most or 1 in (w, h)
    if min(w, h) > 20:
        assert w / h == pytest.approx(width / height, rel=0.1)


def test_sixteen_thousand_pixels() -> None:
    assert clamped(16384, 16384, 1 << 22) == (2048, 2048)
    assert clamped(640, 480, 1 << 22) == (640, 480)


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=4), st.binary(max_size=50))
def test_packets_come_back(header: dict, payload: bytes) -> None:
    assert unpack(packet(header, payload)) == (header, payload)


@settings(max_examples=60)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "look", "eye", "number", "keys"]), inner)
)))  # fmt: skip
def test_anything_is_a_message_or_an_error(value: object) -> None:
    try:
        read(json.dumps(value))
    except InputError:
        pass
