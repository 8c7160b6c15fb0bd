"""Loops that are interrupted and go on: every step is taken once, results are there, random numbers go on."""

import pytest
import torch
from torch import Tensor

from neuralfields.models.loops import MOMENT, Loops


class Stop(Exception):
    pass


class Walk:
    """Two loops of a random walk with a memory, the second from where the first ended."""

    def __init__(self, loops: Loops) -> None:
        self.loops, self.steps, self.between = loops, 0, 0

    def loop(self, many: int, start: Tensor) -> Tensor:
        chance, place, speed = torch.Generator().manual_seed(many), start.clone(), torch.zeros(3)

        def state() -> dict[str, Tensor]:
            return {"place": place, f"{MOMENT}speed": speed, "chance": chance.get_state()}

        for i in self.loops.run(range(many), state, lambda kept: chance.set_state(kept["chance"])):
            speed.mul_(0.9).add_(torch.randn(3, generator=chance))
            place += speed * i
            self.steps += 1
        return place

    def run(self) -> Tensor:
        first = self.loop(5, torch.zeros(3))
        self.between += 1
        return self.loop(4, first.round())


@pytest.mark.parametrize("stops", [(1,), (4,), (5,), (6,), (8,), (2, 3, 7)])
def test_interrupted_at_any_step_it_ends_in_the_same_bits(stops: tuple[int, ...]) -> None:
    unbroken = Walk(Loops()).run()
    kept, taken = None, 0
    for stop in (*stops, None):
        loops = Loops()
        if kept is not None:
            loops.restore(*kept)
        kept_now: list = []

        def after(loops: Loops = loops, stop: int | None = stop, kept_now: list = kept_now) -> None:
            if loops.step_count == stop:
                kept_now.append(({n: t.clone() for n, t in loops.tensors().items()}, loops.counters()))
                raise Stop

        loops.after = after
        walk = Walk(loops)
        if stop is None:
            assert torch.equal(walk.run(), unbroken)
        else:
            with pytest.raises(Stop):
                walk.run()
            kept = kept_now[0]
        taken += walk.steps
    assert taken == 9  # none was taken twice


def test_moments_of_a_loop_that_has_ended_are_not_kept() -> None:
    loops, names = Loops(), []
    loops.after = lambda: names.append(sorted(loops.tensors()))
    Walk(loops).run()
    assert names[0] == ["loop.0.chance", "loop.0.moment.speed", "loop.0.place"]
    assert set(names[-1]) == {"loop.0.chance", "loop.0.place", *(n.replace("0", "1", 1) for n in names[0])}
