"""How many threads a step takes beside busy processes, by clocks that are told what to show."""

import pytest
import torch

from neuralfields.trainers.spare_threads import KEEP, WINDOW, SpareThreads


class Machine:
    """Steps take `wall[threads]` seconds, of which threads compute the share `had`."""

    def __init__(self, one: float, two: float, had: float) -> None:
        self.seconds, self.had, self.now, self.used = {1: one, 2: two}, had, 0.0, 0.0
        self.threads = SpareThreads(lambda: self.now, lambda: self.used)

    def run(self, windows: int) -> list[int]:
        """The number of threads of each window."""
        seen = []
        for _ in range(windows):
            for _ in range(WINDOW):
                with self.threads.step():
                    count = torch.get_num_threads()
                    self.now += self.seconds[count]
                    self.used += self.seconds[count] * (2 * self.had if count == 2 else 1)
            seen.append(count)
        return seen


@pytest.fixture(autouse=True)
def two_threads():
    torch.set_num_threads(2)


def test_on_a_machine_of_its_own_all_threads_are_taken():
    assert Machine(one=1.8, two=1.0, had=0.97).run(40) == [2] * 40


def test_beside_a_busy_process_one_is_taken_where_it_is_faster():
    """And now and then the other number is tried."""
    seen = Machine(one=1.0, two=2.0, had=0.6).run(2 + 3 * KEEP)
    assert seen[:3] == [2, 1, 1]
    assert 1 <= seen[3:].count(2) <= 4 and seen.count(1) > 0.85 * len(seen)


def test_one_that_is_slower_is_left_again():
    seen = Machine(one=2.0, two=1.5, had=0.6).run(2 + 3 * KEEP)
    assert seen[:3] == [2, 1, 2]
    assert seen.count(2) > 0.85 * len(seen)


def test_a_machine_that_is_free_again_is_used():
    machine = Machine(one=1.0, two=2.0, had=0.6)
    machine.run(6)
    machine.seconds, machine.had = {1: 1.0, 2: 0.55}, 0.97
    assert machine.run(2 * KEEP)[-5:] == [2] * 5


def test_with_one_thread_nothing_is_measured():
    torch.set_num_threads(1)
    machine = Machine(one=1.0, two=1.0, had=1.0)
    assert machine.run(3) == [1, 1, 1] and not machine.threads.taken
