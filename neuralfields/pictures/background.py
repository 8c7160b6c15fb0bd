"""Alpha compositing over a background, for numpy arrays and tensors alike.

Vocabulary
  straight       colour as it is, whatever its alpha: what image files hold
  premultiplied  colour times alpha: what sums along rays hold
"""

from typing import TypeVar

import numpy as np
from torch import Tensor

A = TypeVar("A", np.ndarray, Tensor)


def over(rgb: A, alpha: A, background: A) -> A:
    """Composites straight colour [..., 3] with alpha over a background [3] or [..., 3]: rgb a + background (1 - a)."""
    return rgb * alpha[..., None] + background * (1 - alpha[..., None])


def premultiplied_over(rgb: A, alpha: A, background: A) -> A:
    """Composites premultiplied colour [..., 3], alpha [...] over a background: rgb + (1 - a) background."""
    return rgb + (1 - alpha)[..., None] * background
