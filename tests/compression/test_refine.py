"""Tuning against renderings: pictures come nearer at the bytes that there are; what is shown is what is coded."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralfields.compression.compress import Goal, compress
from neuralfields.compression.latent import Latent
from neuralfields.compression.nfz import encode
from neuralfields.compression.original import CaptureCameras, drawn
from neuralfields.compression.quantise import Quantiser
from neuralfields.compression.quantised import dequantised
from neuralfields.compression.refine import Refiner, prunable
from neuralfields.compression.tune import Judge, usual
from neuralfields.ops.splat_pass import Packed
from neuralfields.rendering.splat import Splats
from tests.compression.test_compress import BOUNDS, ball

BLACK = (0.0, 0.0, 0.0)
BALL = ball(400)
VIEWS, OTHERS = drawn(BOUNDS, 12, 64, 1), drawn(BOUNDS, 6, 64, 2)


def coarse(gaussians):
    """A quantiser and what it makes at steps that are seen."""
    quantiser = Quantiser(gaussians, Splats(gaussians, BOUNDS).importance(VIEWS).numpy())
    return quantiser, quantiser.quantise(usual(BOUNDS).times(4))


def test_what_is_shown_is_what_the_file_holds():
    quantiser, quantised = coarse(BALL)
    latent = Latent(quantised, quantiser, BALL)
    found = dequantised(quantised)
    packed = Packed.of(found.means, found.scales, found.rotations, found.opacities, found.harmonics)
    packed.core.zero_(), packed.rest.zero_()
    latent.show(packed, True)
    shown = Packed.unpacked(packed)
    for name, values in zip(("means", "scales", "rotations", "opacities", "harmonics"), shown, strict=True):
        wanted = getattr(found, name)
        rows = (values - wanted).abs().reshape(len(wanted), -1).amax(1) < 2e-3
        assert rows.float().mean() > 0.99, name  # a value between two whole numbers may fall to either side
    again = latent.rounded()
    assert np.array_equal(again.places, quantised.places) and np.array_equal(again.scales, quantised.scales)


def test_values_behind_rounded_ones_bring_pictures_nearer_at_the_same_bytes():
    quantiser, quantised = coarse(BALL)
    latent = Latent(quantised, quantiser, BALL)
    refiner, judge = Refiner(BALL, BOUNDS, VIEWS, BLACK), Judge(BALL, BOUNDS, VIEWS, BLACK)
    refiner.tied(latent, 40)
    tuned = latent.rounded()
    assert judge.psnr(dequantised(tuned)) > judge.psnr(dequantised(quantised)) + 0.4
    assert len(encode(tuned)) < 1.1 * len(encode(quantised))


def test_refining_brings_spoilt_gaussians_back():
    spoilt = ball(400)
    spoilt.harmonics[:, 0] += 0.3
    judge = Judge(BALL, BOUNDS, OTHERS, BLACK)
    refined = Refiner(BALL, BOUNDS, VIEWS, BLACK).free(spoilt, 40)
    assert judge.psnr(refined) > judge.psnr(spoilt) + 1
    assert (refined.means - spoilt.means).abs().max() < 0.01  # in the order in which they were given


def test_only_what_is_not_seen_is_pruned():
    judge = Judge(BALL, BOUNDS, OTHERS, BLACK)
    importance = np.concatenate([np.ones(400), np.zeros(400)])  # the core is hidden
    kept = prunable(BALL, importance, judge, 35.0)
    assert not kept[400:].all() and kept[:400].all()
    assert prunable(BALL, importance[::-1].copy(), judge, 35.0).mean() > 0.8


@pytest.mark.parametrize("goal", [Goal(1.0, steps=30, fitted=25.0), Goal(most_bytes=3000, steps=30)])
def test_tuned_files_meet_their_goal_and_repeat(goal: Goal):
    """By other cameras, half of which judge: with as many bytes about as good as without tuning, and smaller."""
    held_out = drawn(BOUNDS, 16, 64, 2)
    cameras = CaptureCameras(VIEWS, held_out, drawn(BOUNDS, 16, 64, 3))
    made = compress(BALL, BOUNDS, goal, cameras=cameras)
    assert goal.most_bytes is None or 0.8 * goal.most_bytes < len(made.data) <= goal.most_bytes
    plain = compress(BALL, BOUNDS, replace(goal, steps=0, most_bytes=len(made.data)), cameras=cameras)
    assert made.report["psnr"] > plain.report["psnr"] - 0.5
    assert goal.most_bytes or len(made.data) < len(compress(BALL, BOUNDS, replace(goal, steps=0), cameras=cameras).data)
    if goal.most_bytes is None:
        assert compress(BALL, BOUNDS, goal, cameras=cameras).data == made.data
    assert made.report["views"] == len(held_out) // 2 and torch.isfinite(made.gaussians.means).all()
