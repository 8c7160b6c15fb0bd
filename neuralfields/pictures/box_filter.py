"""Makes pictures smaller by a whole number, each pixel the mean of the square that it stands for."""

from torch import Tensor


def box_filtered(picture: Tensor, times: int) -> Tensor:
    """Means [H // times, W // times (, C)] of squares of a picture [H, W (, C)], float32; what is left at the far edges
    is dropped.

    Rows are added first, then columns: several times as fast as a mean over the axes of a reshaped picture.
    """
    height, width = picture.shape[0] // times, picture.shape[1] // times
    whole = picture[: height * times, : width * times].float()
    rows = sum(whole[row::times] for row in range(times))
    return sum(rows[:, column::times] for column in range(times)) / times**2
