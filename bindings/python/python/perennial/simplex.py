"""Class prototypes at the vertices of a regular simplex."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import _perennial
from .arguments import whole_number


def simplex_prototypes(dim: int) -> npt.NDArray[np.float32]:
    """The ``dim + 1`` prototypes ``[dim + 1, dim]``: unit rows with pairwise cosine ``-1/dim``.

    Source: arXiv 2405.02581, the d-Simplex fixed classifier, in its canonical orientation.
    """
    return _perennial.simplex_prototypes(whole_number("dim", dim, least=1))
