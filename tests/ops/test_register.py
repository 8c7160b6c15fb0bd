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


LOADS = """
import sys
from pathlib import Path
from neuralfields.fields import field_class, field_names
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.scene import Bounds
path = Path(sys.argv[1])
for name in field_names():
    kind = field_class(name)
    encodings = ("octaves", "siren", "gaussian") if name == "mlp" else ()
    for config in [kind.Config(encoding=encoding, frequencies=4.0) for encoding in encodings] or [kind.Config()]:
        save(Model(kind(config), Bounds((0.0, 0.0, 0.0), 1.0)), path)
        load(path)
        if "torch._dynamo" in sys.modules:
            sys.exit(name)
"""


def test_no_field_loads_it_either(tmp_path):
    """Arithmetic that makes a new tensor on the meta device does, where a file's tensors are checked: mul, not mul_."""
    subprocess.run([sys.executable, "-c", LOADS, str(tmp_path / "a.nf")], check=True)


def test_autograd_knows_what_an_op_has_written():
    p, gradient, m, v = torch.ones(4), torch.ones(4), torch.zeros(4), torch.zeros(4)
    before = p._version, m._version
    adam(p, gradient, (m, v), 1, (0.1, 0.9, 0.99, 1e-8), False)
    assert p._version > before[0] and m._version > before[1] and bool((p != 1).all())
