import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera
from neuralfields.errors import UsageError
from neuralfields.ops.project import DIFFERENTIABLE, View, project, project_reference
from tests.support.gaussians import gaussians, one, view
from tests.support.judges import assert_matches


def dense(*inputs, view, degree):
    """Rows in the order of Gaussians, what has a gradient."""
    rows = project(*inputs, view, degree)
    there = (rows.ids >= 0).nonzero().flatten()
    values = torch.zeros_like(rows.values).index_copy(0, rows.ids[there].long(), rows.values[there])
    return values[:, :DIFFERENTIABLE]


def reference(*inputs, view, degree):
    return project_reference(*inputs, view, degree)[:, :DIFFERENTIABLE]


@pytest.mark.parametrize(("bases", "degree"), [(1, 0), (4, 1), (9, 2), (16, 3), (16, 1)])
@pytest.mark.parametrize("antialiased", [False, True])
def test_reference(bases, degree, antialiased, generator, instruction_set):
    camera = view(antialiased=antialiased)
    options = {"view": camera, "degree": degree}
    inputs = gaussians(2600, generator, torch.float64, bases)
    seen = (reference(*inputs, **options) != 0).any(1)
    assert 500 < int(seen.sum()) < 2300  # more than a chunk's worth of cases on either side
    # A needle's determinant is a small difference: keep what float32 is compared by away from it.
    assert_matches(lambda *a: dense(*a, **options), lambda *a: reference(*a, **options), inputs, 1e-10)
    inputs = gaussians(300, generator, torch.float32, bases, size=0.3)
    assert_matches(lambda *a: dense(*a, **options), lambda *a: reference(*a, **options), inputs, 1e-4)


@pytest.mark.parametrize("antialiased", [False, True])
def test_gradcheck(antialiased, generator):
    camera = view(antialiased=antialiased)
    inputs = gaussians(7, generator)
    assert int(project(*inputs, camera, 3).totals[0]) >= 3
    assert torch.autograd.gradcheck(lambda *a: dense(*a, view=camera, degree=3), inputs, atol=1e-5)


def straight(size=64, focal=80.0, **changes):
    """A camera at the origin that looks along z."""
    eye = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    return View(eye, (0.0, 0.0, 0.0), (focal, focal), (size / 2, size / 2), (size, size), **changes)


def test_on_the_axis():
    """Analytic truth: a round Gaussian of deviation s at depth z is a circle of variance (f s / z)^2 + blur."""
    row = project(*one((0.0, 0.0, 5.0), 0.2, 0.8, (0.1, 0.6, 0.9)), straight(), 0).values[0]
    variance = (80 * 0.2 / 5) ** 2 + 0.3
    reach = math.sqrt(2 * math.log(255 * 0.8) * variance)
    first, last = (math.floor(32 + sign * reach + shift) // 16 for sign, shift in ((-1, 0.5), (1, -0.5)))
    tiles = (last - first + 1) * 4096 + first  # as a row holds them: how many, and the first
    want = [
        32,
        32,
        1 / variance,
        0,
        1 / variance,
        math.log(0.8),
        0.1,
        0.6,
        0.9,
        5,
        *row[10:13].tolist(),
        tiles,
        tiles,
        0,
    ]
    torch.testing.assert_close(row, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_antialiased_keeps_what_a_picture_gets():
    """Analytic truth: opacity times the ellipse's area is that without the blur, however small the Gaussian."""
    for deviation in (0.3, 0.01):
        row = project(*one((0.0, 0.0, 5.0), deviation, 0.8, (0.5,) * 3), straight(antialiased=True), 0).values[0]
        area = row[5].exp() / (row[2] * row[4] - row[3] ** 2).sqrt()
        torch.testing.assert_close(area.item(), 0.8 * (80 * deviation / 5) ** 2, rtol=1e-9, atol=0)


def test_normal_is_the_shortest_axis_towards_the_camera():
    disc = one((0.3, -0.2, 4.0), 0.3, 0.9, (0.5,) * 3)
    disc[1] = torch.tensor([[-1.0, -1.2, -6.0]], dtype=torch.float64)
    for quaternion, normal in (
        ((1.0, 0, 0, 0), (0.0, 0, -1)),
        ((3.0, 3.0, 0, 0), (0.0, 1, 0)),
        ((0.0, 1, 0, 0), (0.0, 0, -1)),
    ):
        disc[2] = torch.tensor([quaternion], dtype=torch.float64)
        found = project(*disc, straight(), 0).values[0, 10:13]
        sign = 1 if (torch.tensor(normal, dtype=torch.float64) @ disc[0][0]) < 0 else -1
        torch.testing.assert_close(found, sign * torch.tensor(normal, dtype=torch.float64), rtol=0, atol=1e-12)


def test_world_and_camera_turned_together(generator):
    """Analytic truth: nothing but the normals and the harmonics' frame change; without harmonics nothing at all."""
    inputs = [a.detach() for a in gaussians(300, generator, bases=1)]
    camera = view()
    quaternion = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7, 0.2], dtype=torch.float64), dim=0)
    w, x, y, z = quaternion.tolist()
    from neuralfields.ops.project import rotations_reference

    turn, shift = rotations_reference(quaternion[None])[0], torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
    left = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]], dtype=torch.float64)
    moved = [inputs[0] @ turn.T + shift, inputs[1], inputs[2] @ left.T, *inputs[3:]]
    rotation = torch.tensor(camera.camera_from_world, dtype=torch.float64).reshape(3, 3) @ turn.T
    centre = turn @ torch.tensor(camera.centre, dtype=torch.float64) + shift
    other = replace(camera, camera_from_world=tuple(rotation.flatten().tolist()), centre=tuple(centre.tolist()))
    before, after = dense(*inputs, view=camera, degree=0), dense(*moved, view=other, degree=0)
    assert int((before != 0).any(1).sum()) > 50
    torch.testing.assert_close(after[:, :10], before[:, :10], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(after[:, 10:], before[:, 10:] @ turn.T, rtol=0, atol=1e-9)


def test_quaternions_of_any_length(generator):
    inputs = [a.detach() for a in gaussians(200, generator)]
    rows = project(*inputs, view(), 3).values
    inputs[2] = inputs[2] * torch.linspace(0.01, 50, 200, dtype=torch.float64)[:, None]
    torch.testing.assert_close(project(*inputs, view(), 3).values, rows, rtol=1e-9, atol=1e-12)


def test_what_cannot_be_seen_has_no_row():
    camera, colour = straight(), (0.5,) * 3
    unseen = [
        one((0.0, 0.0, -5.0), 0.2, 0.8, colour),
        one((0.0, 0.0, 0.005), 0.2, 0.8, colour),
        one((9.0, 0.0, 5.0), 0.2, 0.8, colour),
        one((0.0, 0.0, 5.0), 0.2, 1 / 256, colour),
        one((float("nan"), 0.0, 5.0), 0.2, 0.8, colour),
    ]
    for inputs in unseen:
        rows = project(*inputs, camera, 0)
        assert rows.count == 0 and rows.ids.tolist() == [-1] and not rows.values.any()


def test_same_bits_whatever_the_threads(generator):
    inputs, before, found = gaussians(5000, generator, torch.float32), torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        values = dense(*inputs, view=view(), degree=3)
        found.append([values, *torch.autograd.grad(values.square().sum(), inputs)])
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_bent_lenses_are_refused():
    camera = Camera(np.eye(4), 8, 8, 5.0, 5.0, 4.0, 4.0, distortion=(0.1,) + (0.0,) * 7)
    with pytest.raises(UsageError, match=r"pinhole cameras, this one is perspective with distortion .*undistort"):
        View.of(camera)
    with pytest.raises(UsageError, match="this one is fisheye"):
        View.of(replace(camera, model="fisheye", distortion=(0.0,) * 8))
    assert View.of(replace(camera, distortion=(0.0,) * 8)).numbers[12:18] == [5, 5, 4, 4, 8, 8]


def test_wrong_inputs_are_refused(generator):
    inputs = gaussians(5, generator)
    with pytest.raises(ValueError, match=r"scales has shape \[4, 3\], expected \[5, 3\]"):
        project(inputs[0], inputs[1][:4], *inputs[2:], view(), 3)
    with pytest.raises(ValueError, match="harmonics of degree 3 need more"):
        project(*inputs[:4], inputs[4][:, :4], view(), 3)
    with pytest.raises(ValueError, match="near, fx and fy above 0"):
        project(*inputs, view(near=0.0), 3)


def test_none_at_all():
    inputs = [torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 1, 3)]
    assert project(*inputs, view(), 0).count == 0


@pytest.mark.slow
def test_opcheck(generator):
    inputs = gaussians(40, generator)
    torch.library.opcheck(torch.ops.neuralfields.splat_project, (*inputs, view().numbers, 3))


def test_arrays_that_are_not_contiguous_are_read_as_they_are(generator):
    """Their copies were given back before the core read them: other numbers, sometimes."""
    inputs = [a.detach() for a in gaussians(2000, generator, torch.float32, 16)]
    wide = torch.cat([a.flatten(1) if a.ndim > 1 else a[:, None] for a in inputs], 1)
    wanted = project(*inputs, view(), 3).values
    for _ in range(10):
        parts = wide.split([3, 3, 4, 1, 48], 1)
        strided = parts[0], parts[1], parts[2], parts[3][:, 0], parts[4].unflatten(1, (16, 3))
        assert torch.equal(project(*strided, view(), 3).values, wanted)
