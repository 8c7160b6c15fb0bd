"""A field at its last coarse-to-fine stage, as files hold it, also while its fit is still to grow it."""

from copy import deepcopy

import torch

from neuralfields.fields.field import Field


def whole(field: Field) -> Field:
    """The field itself, or a resampled copy where it is smaller than its config says."""
    stages = len(field.stages())
    if not stages:
        return field
    with torch.device("meta"):  # nothing is allocated
        final = type(field)(field.config, field.domain).state_dict()
    if all(final[name].shape == tensor.shape for name, tensor in field.state_dict().items()):
        return field
    copy = deepcopy(field)
    copy.grow(stages)
    return copy
