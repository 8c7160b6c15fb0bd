"""How ops are told to torch."""

import subprocess
import sys

import torch

from neuralfields.ops.adam import adam

FIRST_CALL = """
import sys, torch
from neuralfields.ops.contract import contract
x = torch.rand(3, 3, requires_grad=True)
contract(x, "cube", 2.0).sum().backward()
assert bool(x.grad.any())
print("torch._dynamo" in sys.modules)
"""


def test_the_first_call_loads_no_compiler():
    """torch._dynamo takes seconds of every process that it is loaded in."""
    ended = subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False"]


def test_autograd_knows_what_an_op_has_written():
    p, gradient, m, v = torch.ones(4), torch.ones(4), torch.zeros(4), torch.zeros(4)
    before = p._version, m._version
    adam(p, gradient, (m, v), 1, (0.1, 0.9, 0.99, 1e-8), False)
    assert p._version > before[0] and m._version > before[1] and bool((p != 1).all())
