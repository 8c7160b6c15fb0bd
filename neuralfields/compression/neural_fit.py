"""Fits the networks of NeuralGS (arXiv:2503.23162): attributes first, weighted by importance, then what is seen.

Vocabulary
  block  BLOCK rows of one cluster; all blocks of a step are one product of matrices (bmm), whatever the clusters
  rows   of the Gaussians in Morton order: inputs [N, E] and attributes [N, D], standardised

  regression    sum_i w_i |f_c(i)(x_i) - a_i|^2, w the importance
  fine-tuning   0.8 L1 + 0.2 D-SSIM + ramp * frequency loss, against photos or renderings of the original
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.fft import fftfreq, rfftfreq

from neuralfields.compression.neural import ONE, Networks, encoded, shapes
from neuralfields.compression.refine import Refiner, Target
from neuralfields.gaussians import Gaussians
from neuralfields.layers.trunk import has_bfloat16
from neuralfields.models.loops import MOMENT, Loops
from neuralfields.ops.image_loss import image_loss
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import render_gaussians

BLOCK = 256
GROUP, MOST_GROUP = 4, 1024  # blocks of fine-tuning at once: on a CPU as few as stay in a core's caches; on a GPU
WIDE = 64  # width from which products of regression in bfloat16 pay; those of all rows are bound by memory
RATE, LAST = 4e-3, 0.02  # Adam's rate of regression; share of a rate at the end
TUNING_RATES, TRIED = (2e-3, 5e-4, 1e-4), 16  # rates of fine-tuning, and steps after which one of them is chosen
HIGH = 0.25  # cycles a pixel from which frequencies are high, of 0.5 at most
FREQUENCIES = 0.1  # weight of the frequency loss at the end
CHANCE = "chance"  # the state of the random numbers, in a checkpoint
MOST_WEIGHT = 0.98  # quantile of the importance that weights are held to

Shown = Callable[[Tensor, Tensor], Gaussians]
Seen = Callable[[Target], Tensor]


@dataclass(frozen=True)
class Rows:
    """What networks are fitted to: `inputs` [N, E], `wanted` [N, D] standardised by `mean` and `spread` [D].

    `labels` int64 [N]; `weights` [N] of Gaussians, mean 1; `matters` [D] of attributes.
    """

    inputs: Tensor
    wanted: Tensor
    mean: Tensor
    spread: Tensor
    labels: Tensor
    weights: Tensor
    matters: Tensor

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return int(self.labels.max()) + 1

    def to(self, device: torch.device | str) -> "Rows":
        """The same on another device."""
        return Rows(*(getattr(self, part.name).to(device) for part in fields(self)))


def rows_of(
    places: np.ndarray, bits: int, octaves: int, values: Tensor, labels: Tensor, importance: np.ndarray | None
) -> Rows:
    """Rows of places [N, 3] and attributes [N, D]; without importance all weigh alike.

    Harmonics beyond the constant weigh by their spread beside the constant's, since both are colours.
    """
    inputs = torch.from_numpy((encoded(places, bits, octaves) / ONE).astype(np.float32))
    mean, spread = values.mean(0), values.std(0, correction=0).clamp(min=1e-4)
    matters = torch.ones_like(mean)
    matters[10:] = (spread[10:] / spread[7:10].mean()).clamp(max=1) ** 2
    weights = torch.ones(len(values))
    if importance is not None:
        held = np.minimum(importance, max(float(np.quantile(importance, MOST_WEIGHT)), 1e-12))
        weights = torch.from_numpy((held / max(float(held.mean()), 1e-12)).astype(np.float32))
    return Rows(inputs, (values - mean) / spread, mean, spread, labels, weights, matters)


def network(layers: list[Tensor], values: Tensor, bfloat16: bool = False) -> Tensor:
    """Standardised attributes [B, n, D] of inputs [B, n, E] by layers [B, inputs + 1, outputs]."""
    for i, layer in enumerate(layers):
        biases, weights = layer[:, -1:], layer[:, :-1]
        if bfloat16:
            values = torch.bmm(values.bfloat16(), weights.bfloat16()).float() + biases
        else:
            values = torch.baddbmm(biases, values, weights)
        values = values.tanh() if i < len(layers) - 1 else values
    return values


class Bank:
    """The networks of all clusters as parameters on a device: `layers` [K, inputs + 1, outputs], biases last.

    `rows` are given on the CPU. Random numbers are drawn there, so that they are the same whatever the device.
    """

    def __init__(
        self, rows: Rows, width: int, octaves: int, degree: int, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        chance = torch.Generator().manual_seed(seed)
        self.octaves, self.width, self.rows, self.layers = octaves, width, rows.to(device), []
        for clusters, inputs, outputs in shapes(rows.clusters, width, octaves, degree):
            weights = torch.randn(clusters, inputs, outputs, generator=chance) / math.sqrt(inputs - 1)
            weights[:, -1] = 0
            self.layers.append(weights.to(device).requires_grad_())
        self._order = torch.argsort(rows.labels, stable=True)
        self._counts = torch.bincount(rows.labels, minlength=rows.clusters)
        self._starts = torch.cumsum(self._counts, 0) - self._counts
        self._labels, self._chance = rows.labels, chance

    def _blocks(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Blocks [B, BLOCK] and clusters [B] that hold the rows [S], given on the CPU; where each is in them [S]."""
        labels = self._labels[rows]
        order = torch.argsort(labels, stable=True)
        counts = torch.bincount(labels, minlength=len(self._counts))
        many = -(-counts // BLOCK)
        which = torch.repeat_interleave(torch.arange(len(many)), many)
        first = torch.cumsum(many, 0) - many  # block of each cluster
        ends, starts = torch.cumsum(counts, 0), torch.cumsum(counts, 0) - counts
        place = torch.arange(len(which))[:, None] * BLOCK + torch.arange(BLOCK)
        inside = (place - first[which, None] * BLOCK + starts[which, None]).clamp(max=ends[which, None] - 1)
        at = torch.empty_like(order)
        at[order] = torch.arange(len(rows)) + (first * BLOCK - starts)[labels[order]]
        return rows[order][inside], which, at

    def _groups(self, rows: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """The blocks of rows [S] by groups on the networks' device, and where each row is in them [S]."""
        index, which, at = (part.to(self.device) for part in self._blocks(rows))
        many = GROUP if self.device.type == "cpu" else MOST_GROUP
        return list(zip(index.split(many), which.split(many), strict=True)), at

    def __call__(self, rows: Tensor, which: Tensor, bfloat16: bool = False) -> Tensor:
        """Standardised attributes [B, BLOCK, D] of rows [B, BLOCK] of clusters [B]."""
        return network([layer[which] for layer in self.layers], self.rows.inputs[rows], bfloat16)

    @torch.no_grad()
    def attributes(self, rows: Tensor | None = None) -> Tensor:
        """Attributes [S, D] of rows [S], given on the CPU, or of all."""
        groups, at = self._groups(torch.arange(len(self._labels)) if rows is None else rows)
        found = torch.cat([self(*group).flatten(0, 1) for group in groups])[at]
        return found * self.rows.spread + self.rows.mean

    def lead_back(self, rows: Tensor, gradient: Tensor) -> None:
        """Sets the layers' gradients from that of the attributes [S, D] of rows [S].

        Hidden layers are computed once more, group by group: those of all rows would not stay in the caches.
        """
        groups, at = self._groups(rows)
        blocks = gradient.new_zeros(sum(len(which) for _, which in groups) * BLOCK, gradient.shape[1])
        blocks[at] = gradient * self.rows.spread  # rows that fill up a block have none
        parts = blocks.view(-1, BLOCK, gradient.shape[1]).split([len(which) for _, which in groups])
        totals = [torch.zeros_like(layer) for layer in self.layers]
        for (index, which), back in zip(groups, parts, strict=True):
            chosen = [layer.detach()[which].requires_grad_() for layer in self.layers]
            found = torch.autograd.grad(network(chosen, self.rows.inputs[index]), chosen, back)
            for total, part in zip(totals, found, strict=True):
                total.index_add_(0, which, part)
        for layer, total in zip(self.layers, totals, strict=True):
            layer.grad = total

    def regress(self, steps: int, blocks: int = 12, loops: Loops | None = None) -> None:
        """Fits the attributes for `steps`, each of `blocks` blocks of random rows, clusters by their size."""
        rows, chance = self.rows, self._chance
        adam = self._adam(RATE)
        share, order = self._counts.double(), self._order.to(self.device)
        bfloat16 = self.device.type == "cpu" and self.width >= WIDE and has_bfloat16()

        def state() -> dict[str, Tensor]:
            return self._state(adam) | {CHANCE: chance.get_state()}

        for step in (loops or Loops()).run(range(steps), state, lambda kept: chance.set_state(kept[CHANCE].cpu())):
            _rate(adam, RATE, step / steps)
            which = torch.multinomial(share, blocks, replacement=True, generator=chance)
            which = torch.cat([which, torch.arange(len(share))]) if len(share) <= blocks else which
            pick = torch.rand(len(which), BLOCK, generator=chance, dtype=torch.float64)
            place = self._starts[which, None] + (pick * self._counts[which, None]).long()
            index = order[place.to(self.device)]
            error = (self(index, which.to(self.device), bfloat16) - rows.wanted[index]) ** 2
            loss = (error * rows.matters * rows.weights[index][..., None]).mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()

    def tune(self, refiner: Refiner, shown: Shown, seen: Seen, steps: int, frequencies: float) -> None:
        """Fine-tunes by pictures; `shown` makes Gaussians of rows and their attributes, differentiably.

        `seen`: rows of the Gaussians that matter to a picture, on the CPU.
        """
        rate = self._tuning_rate(refiner, shown, seen, min(TRIED, steps))
        adam = self._adam(rate)
        for step, target, colour in refiner.loops.run(refiner.turns(steps), lambda: self._state(adam)):
            _rate(adam, rate, step / steps)
            self._tuning_step(adam, (target, target.over(colour)), (shown, seen, colour), frequencies * step / steps)

    def _tuning_rate(self, refiner: Refiner, shown: Shown, seen: Seen, steps: int) -> float:
        """The rate by which pictures come nearest within some steps, after which the networks are as before.

        One picture changes what networks tell of Gaussians that it does not show: those of 180 thousand in a street
        forgot more by 2e-3 than they learned (15.2 dB became 9.1), where a chair of 36 thousand gained most by it.
        """
        before, errors = [layer.detach().clone() for layer in self.layers], {}
        for rate in TUNING_RATES:
            adam = self._adam(rate)
            turns = [
                ((target, target.over(colour)), (shown, seen, colour)) for _, target, colour in refiner.turns(steps)
            ]
            errors[rate] = sum(float(self._tuning_step(adam, *turn, 0.0)) for turn in turns)
            for layer, value in zip(self.layers, before, strict=True):
                layer.data.copy_(value)
        return min(errors, key=errors.__getitem__)

    def _tuning_step(
        self, adam: torch.optim.Adam, picture: tuple[Target, Tensor], drawn: tuple[Shown, Seen, Colour], share: float
    ) -> Tensor:
        """A step by one picture, with a share of the frequency loss; its mean absolute error before."""
        (target, wanted), (shown, seen, colour) = picture, drawn
        rows = seen(target)
        values = self.attributes(rows).requires_grad_()
        rgb = render_gaussians(shown(rows, values), target.view, colour).rgb
        found = rgb.detach()
        gradient = image_loss(found, wanted, target.mask).d_rgb
        if share:
            gradient = gradient + frequency_gradient(found, wanted, target.mask) * share
        self.lead_back(rows, torch.autograd.grad(rgb, values, gradient)[0])
        adam.step()
        return (found - wanted).abs().mean()

    def _adam(self, rate: float) -> torch.optim.Adam:
        """Adam with moments from the start, so that there is something to copy those of a checkpoint into."""
        adam = torch.optim.Adam(self.layers, rate, betas=(0.9, 0.99))
        for layer in self.layers:
            moments = {name: torch.zeros_like(layer) for name in ("exp_avg", "exp_avg_sq")}
            adam.state[layer] = {"step": torch.tensor(0.0), **moments}
        return adam

    def _state(self, adam: torch.optim.Adam) -> dict[str, Tensor]:
        """Tensors that the next step depends on."""
        named = {f"layer{i}": layer for i, layer in enumerate(self.layers)}
        moments = {f"{MOMENT}{n}.{m}": t for n, layer in named.items() for m, t in adam.state[layer].items()}
        return {**named, **moments}

    def quantised(self, share: float) -> Networks:
        """The networks with weights in steps of `share` of each layer's root mean square, a power of two."""
        weights, steps = [], []
        for layer in self.layers:
            values = layer.detach().cpu().double().numpy()
            size = max(float(np.sqrt((values**2).mean())), 1e-9)
            steps.append(2.0 ** round(math.log2(size * share)))
            weights.append(np.clip(np.rint(values / steps[-1]), -(2**19), 2**19).astype(np.int32))
        mean, spread = (part.cpu().numpy().astype(np.float32) for part in (self.rows.mean, self.rows.spread))
        return Networks(self.octaves, tuple(weights), tuple(steps), mean, spread)


def _rate(adam: torch.optim.Adam, rate: float, done: float) -> None:
    for group in adam.param_groups:
        group["lr"] = rate * (LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * done)))


def frequency_loss(rgb: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean size of the high frequencies of the difference of pictures [H, W, 3], in units of a pixel's.

    sum over |f| >= HIGH of |F(rgb - wanted)(f)| / number of frequencies, F the orthonormal Fourier transform.
    """
    off = rgb - wanted if mask is None else (rgb - wanted) * mask[..., None]
    found = torch.fft.rfft2(off, dim=(0, 1), norm="ortho")
    rows, columns = (f(n, device=off.device) for f, n in ((fftfreq, off.shape[0]), (rfftfreq, off.shape[1])))
    high = (rows[:, None] ** 2 + columns**2 >= HIGH**2).to(off)
    return ((found.real**2 + found.imag**2 + 1e-12).sqrt() * high[..., None]).mean()


def frequency_gradient(rgb: Tensor, wanted: Tensor, mask: Tensor | None) -> Tensor:
    """Gradient [H, W, 3] of the frequency loss in rgb."""
    at = rgb.clone().requires_grad_()
    return torch.autograd.grad(frequency_loss(at, wanted, mask), at)[0]
