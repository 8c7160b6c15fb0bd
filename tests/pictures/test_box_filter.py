"""Pictures made smaller by means of squares: equal to a mean that is written out, edges dropped."""

import numpy as np
import pytest
import torch

from neuralfields.pictures.box_filter import box_filtered


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("shape", [(7, 8, 3), (6, 9)])
def test_each_pixel_is_the_mean_of_its_square(times: int, shape: tuple[int, ...]) -> None:
    picture = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    small = box_filtered(picture, times)
    assert small.shape[:2] == (shape[0] // times, shape[1] // times) and small.dtype == torch.float32
    for row, column in np.ndindex(*small.shape[:2]):
        square = picture[times * row : times * (row + 1), times * column : times * (column + 1)].double()
        assert torch.allclose(small[row, column].double(), square.mean((0, 1)), atol=1e-4)
