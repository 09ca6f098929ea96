"""What callers pass, as the native half takes it. Errors name the argument."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Union

import numpy as np
import numpy.typing as npt

Rows = npt.ArrayLike
"""Embeddings ``[n, dim]``: numpy arrays of any float or integer type, and whatever numpy makes one of."""
Labels = Union[Sequence[int], Sequence[str], npt.NDArray[Any]]
"""Classes ``[n]``: integers or texts."""
Relevance = Union[Sequence[Sequence[int]], npt.NDArray[Any]]
"""Right items of each query: lists of gallery positions, one position each ``[n]``, or a boolean table ``[n, m]``."""
Own = Union[bool, Sequence[int], npt.NDArray[np.integer[Any]], None]
"""Gallery position of each query, -1 for none; ``True`` if query ``i`` is item ``i``."""


def rows(name: str, values: Rows) -> npt.NDArray[np.float32]:
    """The same array if it is float32 in C order, else a copy that is."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name}: is a masked array; fill or drop the masked rows first")
    try:
        array = np.asarray(values)
    except ValueError as problem:
        raise ValueError(f"{name}: rows of different lengths make no array [n, dim] ({problem})") from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected numbers, found dtype {array.dtype}; pass an array of float16, float32 or float64")
    if array.ndim != 2:
        hint = "; for a single vector pass x[None, :]" if array.ndim == 1 else ""
        raise ValueError(f"{name}: expected shape [n, dim], found {list(array.shape)}{hint}")
    if array.shape[1] == 0:
        raise ValueError(f"{name}: expected shape [n, dim] with dim of at least 1, found {list(array.shape)}")
    # A float64 that does not fit becomes infinite, and the row is refused by its number.
    with np.errstate(over="ignore"):
        return np.require(array, np.float32, ["C", "A"])


def optional_rows(name: str, values: Rows | None) -> npt.NDArray[np.float32] | None:
    """As :func:`rows`, where something was passed."""
    return None if values is None else rows(name, values)


def tags(name: str, values: Iterable[Any] | None) -> list[int] | list[str] | None:
    """Labels or ids: integers or texts."""
    if values is None:
        return None
    if not isinstance(values, (list, tuple)):
        array = np.asarray(values)
        if array.ndim != 1:
            raise ValueError(f"{name}: expected shape [n], found {list(array.shape)}")
        plain: list[int] | list[str] = array.tolist()
        if array.dtype.kind in "iU":
            return plain
        values = plain
    return [_tag(name, value) for value in values]  # type: ignore[return-value]


def _tag(name: str, value: Any) -> int | str:
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, (bool, np.bool_)):
        try:
            number = operator.index(value)
        except TypeError:
            pass
        else:
            if not -(2**63) <= number < 2**63:
                raise ValueError(f"{name}: {number} is no integer of 64 bits; pass it as a text")
            return number
    raise TypeError(f"{name}: {value!r} is neither an integer nor a text")


def positions(name: str, relevance: Relevance | None) -> list[list[int]] | None:
    """Right items of each query, as lists of positions."""
    if relevance is None:
        return None
    if isinstance(relevance, np.ndarray) and relevance.dtype == np.bool_:
        if relevance.ndim != 2:
            raise ValueError(f"{name}: expected a table [queries, items], found shape {list(relevance.shape)}")
        return [np.flatnonzero(row).tolist() for row in relevance]
    if isinstance(relevance, np.ndarray) and relevance.ndim == 1 and relevance.dtype.kind in "iu":
        return [[_position(name, item)] for item in relevance.tolist()]
    found = []
    for query, items in enumerate(relevance):
        if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
            raise TypeError(f"{name} of query {query}: expected a list of gallery positions, found {items!r}")
        found.append([_position(f"{name} of query {query}", item) for item in items])
    return found


def own_positions(name: str, own: Own, queries: int, items: int) -> list[int | None] | None:
    """Each query's own place in the gallery."""
    if own is None or own is False:
        return None
    if own is True:
        if queries != items:
            raise ValueError(f"{name}=True: there are {queries} queries and {items} gallery items; pass the position of each query, -1 for none")
        return list(range(queries))
    values = np.asarray(own)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected True or integers [n], found {values.dtype} of shape {list(values.shape)}")
    return [None if place == -1 else _position(name, place) for place in values.tolist()]


def _position(name: str, value: Any) -> int:
    try:
        place = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {value!r} is no position in the gallery") from None
    if not 0 <= place < 2**32:
        raise ValueError(f"{name}: {place} is no position in the gallery; positions count from 0")
    return place


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """A number of 64 bits without a sign."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, found {value!r}") from None
    if not least <= number < 2**64:
        raise ValueError(f"{name}: expected a whole number from {least} to 2^64 - 1, found {number}")
    return number
