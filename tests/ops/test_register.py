"""How ops are told to torch."""

import subprocess
import sys

import pytest
import torch

from neuralfields.ops.adam import adam

NO_COMPILER = """
import sys, torch
from pathlib import Path
from neuralfields.ops.contract import contract
x = torch.rand(3, 3, requires_grad=True)
contract(x, "cube", 2.0).sum().backward()
assert bool(x.grad.any())
if "torch._dynamo" in sys.modules:
    sys.exit("the first call of an op")
from neuralfields.fields import field_class, field_names
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.scene import Bounds
path = Path(sys.argv[1])
for name in field_names():
    kind = field_class(name)
    encodings = ("octaves", "siren", "gaussian") if name == "mlp" else ()
    size = kind.SIZES[0] if kind.SIZES else {}  # else most of the time is spent on files of many megabytes
    every = [kind.Config(encoding=encoding, frequencies=4.0, **size) for encoding in encodings]
    for config in every or [kind.Config(**size)]:
        save(Model(kind(config), Bounds((0.0, 0.0, 0.0), 1.0)), path)
        load(path)
        if "torch._dynamo" in sys.modules:
            sys.exit(f"loading {name}")
"""


@pytest.mark.slow
def test_neither_a_call_nor_a_field_loads_the_compiler(tmp_path):
    """torch._dynamo takes seconds of every process that it is loaded in.

    Arithmetic that makes a new tensor on the meta device does, where a file's tensors are checked: mul, not mul_.
    """
    ended = subprocess.run([sys.executable, "-c", NO_COMPILER, str(tmp_path / "a.nf")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_autograd_knows_what_an_op_has_written():
    p, gradient, m, v = torch.ones(4), torch.ones(4), torch.zeros(4), torch.zeros(4)
    before = p._version, m._version
    adam(p, gradient, (m, v), 1, (0.1, 0.9, 0.99, 1e-8), False)
    assert p._version > before[0] and m._version > before[1] and bool((p != 1).all())
