"""Exceptions for mistakes of the user or the machine, each with the exit code of the command line.

A message says, in one line: what was given, what is allowed, what to do. Lower case, no "please".
"""


class NeuralfieldsError(Exception):
    """Base class of the errors about the user's input or machine, not about our own mistakes."""

    exit_code = 3


class UsageError(NeuralfieldsError):
    """An option or argument is wrong."""

    exit_code = 2


class InputError(NeuralfieldsError):
    """A file or folder that was given cannot be used."""

    exit_code = 3


class PosesNotFoundError(NeuralfieldsError):
    """No camera poses could be established."""

    exit_code = 4


class InterruptedFit(NeuralfieldsError):
    """A fit was stopped by the user; its checkpoint is written."""

    exit_code = 5


class ResourceError(NeuralfieldsError):
    """Memory or disk ran out."""

    exit_code = 6
