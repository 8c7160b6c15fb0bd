"""Wide-narrow-wide blocks against other bodies of a coordinate network, at equal numbers of trained parameters.

python benchmarks/hourglass.py [--quick] [--rows 24]

Small pictures as in fresh.py, some 64 Gaussian frequencies of deviation 6, 400 steps of 2048 random pixels, and one
learning rate for all, the plain body's. Bodies:
  plain         3 layers, no path past them
  conventional  2 residual blocks whose middle is twice as wide as the path past it
  trained lift  2 blocks whose middle is half as wide as the path past it
  fixed lift    the same, the first projection as it was drawn; only trained weights count as parameters
"""

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from fresh import IMAGE, STEPS, fitted, picture
from table import kept, row, write

from neuralfields.fields.mlp import Config, Mlp

PICTURES = ("astronaut", "coffee")
BUDGETS = (6_000, 18_000, 54_000)
SEEDS = 3
# name: (blocks, layers, middle / path, lift)
BODIES: dict[str, tuple[Any, int, float, Any]] = {
    "plain": ("plain", 3, 1.0, "trained"),
    "conventional": ("hourglass", 2, 2.0, "trained"),
    "trained lift": ("hourglass", 2, 0.5, "trained"),
    "fixed lift": ("hourglass", 2, 0.5, "fixed"),
}


def config(body: str, width: int, inner: int, count: int) -> Config:
    """The network of a body."""
    blocks, layers, _, lift = BODIES[body]
    return Config(frequencies=6.0, count=count, layers=layers, width=width, blocks=blocks, inner=inner, lift=lift)


def parameters(given: Config) -> int:
    """Trained ones."""
    with torch.device("meta"):
        return sum(p.numel() for p in Mlp(given, IMAGE).parameters())


def matched(body: str, budget: int) -> Config:
    """The body whose trained parameters are nearest to the budget, its middle within three units of its ratio."""
    ratio = BODIES[body][2]
    low, high = 4, 1024
    while high - low > 1:  # the widest that fits
        middle = (low + high) // 2
        fits = parameters(config(body, middle, max(1, round(middle * ratio)), 64)) <= budget
        low, high = (middle, high) if fits else (low, middle)
    near = [
        config(body, width, max(1, round(width * ratio) + more), count)
        for width in range(max(4, low - 6), low + 2)
        for more in ((0,) if body == "plain" else range(-3, 4))
        for count in ((64,) if body == "fixed lift" else range(60, 69))
    ]
    return min(near, key=lambda c: (abs(parameters(c) - budget), abs(c.count - 64)))


def measure(name: str, body: str, budget: int, seed: int, steps: int) -> dict[str, Any]:
    """One fit."""
    given = matched(body, budget)
    score = fitted(lambda: Mlp(given, IMAGE), picture(name, Path()), steps, seed)  # a bundled one
    return {
        "picture": name, "budget": budget, "body": body, "seed": seed, "psnr": round(score, 3), "width": given.width,
        "inner": given.inner if given.blocks == "hourglass" else "", "parameters": parameters(given),
    }  # fmt: skip


def summary(rows: list[dict[str, Any]], command: str) -> list[dict[str, Any]]:
    """Means over seeds, and the difference to the plain body of the same budget."""
    found = []
    for name, budget, body in dict.fromkeys((r["picture"], r["budget"], r["body"]) for r in rows):
        alike = [r for r in rows if (r["picture"], r["budget"]) == (name, budget)]
        mine = [r for r in alike if r["body"] == body]
        scores, plain = ([r["psnr"] for r in alike if r["body"] == b] for b in (body, "plain"))
        found.append(
            row(
                command,
                picture=name,
                budget=budget,
                body=body,
                width=mine[0]["width"],
                inner=mine[0]["inner"],
                parameters=mine[0]["parameters"],
                seeds=len(mine),
                psnr=round(mean(scores), 2),
                spread=round(stdev(scores), 2) if len(scores) > 1 else "one seed",
                over_plain=round(mean(scores) - mean(plain), 2),
            )
        )
    return found


def main() -> None:
    """All fits; the tables are written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 steps of each body, nothing is written")
    parser.add_argument("--rows", type=int, default=1000, help="stop after this many; the same command goes on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.quick:
        for body in BODIES:
            print(body, *(parameters(matched(body, budget)) for budget in BUDGETS), end=" ")
            print(measure("coffee", body, BUDGETS[0], 0, 20))
        return
    command = "python benchmarks/hourglass.py"
    rows = kept("hourglass-runs", command)
    done = {(r["seed"], r["picture"], r["budget"], r["body"]) for r in rows}
    every = [(s, p, n, b) for s in range(SEEDS) for p in PICTURES for n in BUDGETS for b in BODIES]
    for seed, name, budget, body in [case for case in every if case not in done][: given.rows]:
        rows.append(row(command, **measure(name, body, budget, seed, STEPS)))
        print(name, budget, body, seed, rows[-1]["psnr"], flush=True)
        write("hourglass-runs", f"Bodies of a coordinate network, {STEPS} steps: every fit", rows)
        write("hourglass", f"Bodies of a coordinate network at equal parameters, {STEPS} steps", summary(rows, command))


if __name__ == "__main__":
    main()
