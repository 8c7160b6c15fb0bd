"""Coordinate networks as one op, from points to features, and the heads from features to log-density and colour.

Vocabulary
  S  samples     D  axes     M  random frequencies     E  encoded values     L  hidden layers     F  features
  e      [2 x - 1 if direct, sin(2 pi x B), cos(2 pi x B)]      B [D, M] in cycles
  layer  y = normalised z, or z = W h + b;   h <- relu(beta + gamma y), gamma and beta [S, L] a sample's or 1 and 0
         the encoding stands behind h at layer `skip`; the last layer is linear: f = W h + b
  heads  [h_0, h] = density network(f)   log_density = h_0   rgb = sigmoid(colour network([h_0, h, harmonics]))

On a CPU a block of samples goes through all layers in cache, and backward computes it once more. With `bfloat16`
products take both factors rounded to bfloat16 and sum in float32, by AMX or AVX-512 BF16; a CPU without either has
them in float32. Everything between products is float32, and so are weights and gradients.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuralfields.ops.native import array, kernel, library, threads
from neuralfields.ops.network import modulate_reference, network_reference
from neuralfields.ops.register import native_op
from neuralfields.ops.spherical_harmonics import spherical_harmonics_reference

MOST_LAYERS, MOST_WIDTH = 16, 1024  # hidden layers of the op; their width, past which a block leaves the cache
MOST_CYCLES = 1 << 19  # frequencies whose whole turns float32 tells apart


def bfloat16_products() -> str:
    """What multiplies bfloat16 here: amx, avx512_bf16, or nothing."""
    return library().bfloat16_product()


@dataclass(frozen=True)
class Layers:
    """Layers of a coordinate network: `frequencies` [D, M] in cycles, weights [out, in] and biases [out] of each.

    The last is linear. `skip`: number of the layer that the encoding is given to again, 0 for none.
    """

    frequencies: Float[Tensor, "D M"]
    direct: bool
    weights: list[Float[Tensor, "_ _"]]
    biases: list[Float[Tensor, " _"]]
    skip: int = 0
    normalise: bool = False


def coordinate_network(
    x: Float[Tensor, "S D"],
    layers: Layers,
    modulation: tuple[Float[Tensor, "S L"], Float[Tensor, "S L"]] | None = None,
    bfloat16: bool = False,
    known: Float[Tensor, "S F"] | None = None,
) -> Float[Tensor, "S F"]:
    """Features of points x [S, D] -> [S, F]. Differentiable in x, weights, biases and the modulation.

    `modulation`: gamma and beta [S, L] of the hidden layers. `known`: the result, where it has been computed before:
    then only gradients are. Points lie in [0, 1], frequencies below 2^19 cycles.
    """
    gamma, beta = modulation or (x.new_empty(len(x), 0), x.new_empty(len(x), 0))
    settings = [layers.skip, int(layers.direct), int(layers.normalise), int(bfloat16)]
    known = x.new_empty(0, 0) if known is None else known
    return _coordinate(x, layers.frequencies, layers.weights, layers.biases, gamma, beta, settings, known)


def _out(
    x: Tensor,
    frequencies: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    gamma: Tensor,
    beta: Tensor,
    settings: list[int],
    known: Tensor,
) -> Tensor:
    return x.new_empty(x.shape[0], weights[-1].shape[0])


@native_op("coordinate", _out)
def _coordinate(
    x: Tensor,
    frequencies: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    gamma: Tensor,
    beta: Tensor,
    settings: list[int],
    known: Tensor,
) -> Tensor:
    if known.shape[1]:
        return known.clone()
    out = _out(x, frequencies, weights, biases, gamma, beta, settings, known)
    forward = kernel("coordinate_forward", x.dtype)
    given = array(x), array(frequencies), [array(w) for w in weights], [array(b) for b in biases]
    forward(*given, array(gamma), array(beta), settings, out, threads())
    return out


def _gradients(
    x: Tensor, frequencies: Tensor, parameters: list[Tensor], gamma: Tensor, beta: Tensor, settings: list[int],
    d_out: Tensor, needs_x: bool,
) -> list[Tensor]:  # fmt: skip
    x = x if needs_x else x[:0]
    return [t.new_empty(t.shape) for t in (x, gamma, beta, *parameters)]


@native_op("coordinate_backward", _gradients)
def _coordinate_backward(
    x: Tensor, frequencies: Tensor, parameters: list[Tensor], gamma: Tensor, beta: Tensor, settings: list[int],
    d_out: Tensor, needs_x: bool,
) -> list[Tensor]:  # fmt: skip
    """d_x (empty where it is not needed), d_gamma, d_beta, then those of `parameters`: all weights, all biases."""
    gradients = _gradients(x, frequencies, parameters, gamma, beta, settings, d_out, needs_x)
    d_x, d_gamma, d_beta, *d_parameters = gradients
    half = len(parameters) // 2
    given = [array(p) for p in parameters]
    kernel("coordinate_backward", x.dtype)(
        array(x), array(frequencies), given[:half], given[half:], array(gamma), array(beta), settings, array(d_out),
        d_parameters[:half], d_parameters[half:], d_gamma, d_beta, d_x if needs_x else None, threads(),
    )  # fmt: skip
    return gradients


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, frequencies, weights, biases, gamma, beta, settings, _ = inputs
    ctx.save_for_backward(x, frequencies, gamma, beta, *weights, *biases)
    ctx.settings = settings


def _backward(ctx: Any, d_out: Tensor) -> tuple:
    x, frequencies, gamma, beta, *parameters = ctx.saved_tensors
    needs_x = ctx.needs_input_grad[0]
    d_x, d_gamma, d_beta, *d_parameters = _coordinate_backward(
        x, frequencies, parameters, gamma, beta, ctx.settings, d_out, needs_x
    )
    half = len(parameters) // 2
    return d_x if needs_x else None, None, d_parameters[:half], d_parameters[half:], d_gamma, d_beta, None, None


torch.library.register_autograd(_coordinate, _backward, setup_context=_setup)


def coordinate_network_reference(
    x: Float[Tensor, "S D"],
    layers: Layers,
    modulation: tuple[Float[Tensor, "S L"], Float[Tensor, "S L"]] | None = None,
) -> Float[Tensor, "S F"]:
    """The same in plain torch, in the type of x."""
    p = 2 * torch.pi * (x @ layers.frequencies)
    waves = [torch.sin(p), torch.cos(p)]
    e = torch.cat([2 * x - 1, *waves] if layers.direct else waves, dim=1)
    h, last = e, len(layers.weights) - 1
    for number, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        h = torch.cat([h, e], dim=1) if number and number == layers.skip else h
        h = torch.nn.functional.linear(h, weight, bias)
        if number == last:
            return h
        one = x.new_ones(len(x), 1)
        gamma, beta = (one, 0 * one) if modulation is None else (m[:, number : number + 1] for m in modulation)
        h = modulate_reference(h, gamma, beta, layers.normalise, True)
    raise AssertionError


def radiance_heads(
    f: Float[Tensor, "S F"],
    directions: Float[Tensor, "S 3"],
    density: list[Float[Tensor, "_ _"]],
    colour: list[Float[Tensor, "_ _"]],
    degree: int,
    bfloat16: bool = False,
) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
    """Decodes f [S, F], unit directions [S, 3] -> log_density [S], rgb [S, 3]; weights [out, in] without biases.

    Differentiable in f and the weights; directions are constants. `degree` of the harmonics: 1 to 4.
    """
    return _heads(f, directions, density, colour, degree, bfloat16)


def log_density_head(
    f: Float[Tensor, "S F"], density: list[Float[Tensor, "_ _"]], bfloat16: bool = False
) -> Float[Tensor, " S"]:
    """The log-density [S] of f [S, F] alone, without a gradient."""
    out, rgb = f.new_empty(len(f)), f.new_empty(0, 3)
    weights = [array(w) for w in density]
    kernel("heads_forward", f.dtype)(array(f), rgb, weights, [], 1, bfloat16, out, rgb, threads())
    return out


def _decoded(
    f: Tensor, directions: Tensor, density: list[Tensor], colour: list[Tensor], degree: int, bfloat16: bool
) -> tuple[Tensor, Tensor]:
    return f.new_empty(f.shape[0]), f.new_empty(f.shape[0], 3)


@native_op("radiance_heads", _decoded)
def _heads(
    f: Tensor, directions: Tensor, density: list[Tensor], colour: list[Tensor], degree: int, bfloat16: bool
) -> tuple[Tensor, Tensor]:
    out = _decoded(f, directions, density, colour, degree, bfloat16)
    weights = [array(w) for w in density], [array(w) for w in colour]
    kernel("heads_forward", f.dtype)(array(f), array(directions), *weights, degree, bfloat16, *out, threads())
    return out


def _heads_gradients(
    f: Tensor, directions: Tensor, density: list[Tensor], colour: list[Tensor], degree: int, bfloat16: bool,
    d_out: list[Tensor],
) -> list[Tensor]:  # fmt: skip
    return [t.new_empty(t.shape) for t in (f, *density, *colour)]


@native_op("radiance_heads_backward", _heads_gradients)
def _heads_backward(
    f: Tensor, directions: Tensor, density: list[Tensor], colour: list[Tensor], degree: int, bfloat16: bool,
    d_out: list[Tensor],
) -> list[Tensor]:  # fmt: skip
    """d_f, then the gradients of all weights; `d_out`: d_log_density and d_rgb."""
    gradients = _heads_gradients(f, directions, density, colour, degree, bfloat16, d_out)
    d_f, *d_weights = gradients
    weights, split = ([array(w) for w in density], [array(w) for w in colour]), len(density)
    kernel("heads_backward", f.dtype)(
        array(f), array(directions), *weights, degree, bfloat16, *map(array, d_out), d_f, d_weights[:split],
        d_weights[split:], threads(),
    )  # fmt: skip
    return gradients


def _heads_setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    f, directions, density, colour, *ctx.settings = inputs
    ctx.split = len(density)
    ctx.save_for_backward(f, directions, *density, *colour)


def _heads_lead_back(ctx: Any, d_log_density: Tensor, d_rgb: Tensor) -> tuple:
    f, directions, *weights = ctx.saved_tensors
    density, colour = weights[: ctx.split], weights[ctx.split :]
    d_f, *d_weights = _heads_backward(f, directions, density, colour, *ctx.settings, [d_log_density, d_rgb])
    return d_f, None, d_weights[: ctx.split], d_weights[ctx.split :], None, None


torch.library.register_autograd(_heads, _heads_lead_back, setup_context=_heads_setup)


def radiance_heads_reference(
    f: Float[Tensor, "S F"],
    directions: Float[Tensor, "S 3"],
    density: list[Float[Tensor, "_ _"]],
    colour: list[Float[Tensor, "_ _"]],
    degree: int,
) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
    """The same in plain torch."""
    code = network_reference(f, density)
    h = torch.cat([code, spherical_harmonics_reference(directions, degree)], dim=1)
    return code[:, 0], torch.sigmoid(network_reference(h, colour))
