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
Relevance = Union[Sequence[Sequence[int]], Sequence[int], npt.NDArray[Any]]
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
    if array.dtype.kind == "O" and array.ndim == 1 and any(np.ndim(row) for row in array):
        # Before numpy 1.24, an array of lists.
        raise ValueError(f"{name}: rows of different lengths make no array [n, dim]")
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


def optional_tags(name: str, values: Iterable[Any] | None) -> list[int] | list[str] | None:
    """As :func:`tags`, where something was passed."""
    return None if values is None else tags(name, values)


def tags(name: str, values: Iterable[Any]) -> list[int] | list[str]:
    """Labels: integers or texts."""
    return _tags(name, values, range(-(2**63), 2**63))


def optional_ids(name: str, values: Iterable[Any] | None) -> list[int] | list[str] | None:
    """Ids, where some were passed: integers that are not negative, or texts."""
    return None if values is None else _tags(name, values, range(2**64))


def _tags(name: str, values: Iterable[Any], numbers: range) -> list[int] | list[str]:
    if not isinstance(values, (list, tuple)):
        array = np.asarray(values)
        if array.ndim != 1:
            raise ValueError(f"{name}: expected shape [n], found {list(array.shape)}")
        plain: list[int] = array.tolist()
        if array.dtype.kind == "i" and numbers.start:
            return plain
        values = plain
    found = [_tag(name, value, numbers) for value in values]
    try:
        "".join(value for value in found if isinstance(value, str)).encode()
    except UnicodeEncodeError as problem:
        raise ValueError(f"{name}: {problem.object[problem.start : problem.end]!r} is no character of a text (half of a pair)") from None
    return found  # type: ignore[return-value]


def _tag(name: str, value: Any, numbers: range) -> int | str:
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, (bool, np.bool_)):
        try:
            number = operator.index(value)
        except TypeError:
            pass
        else:
            if number not in numbers:
                kind = "no integer of 64 bits" if numbers.start else "no integer of 64 bits without a sign"
                raise ValueError(f"{name}: {number} is {kind}; pass it as a text")
            return number
    raise TypeError(f"{name}: {value!r} is neither an integer nor a text")


def positions(name: str, relevance: Relevance | None, queries: int, items: int) -> list[list[int]] | None:
    """Right items of each query, as lists of positions."""
    if relevance is None:
        return None
    if hasattr(relevance, "ndim"):
        # Tensors and tables of pandas as well, which are not walked by rows.
        relevance = np.asarray(relevance)
    if isinstance(relevance, np.ndarray) and relevance.dtype == np.bool_:
        if relevance.shape != (queries, items):
            raise ValueError(
                f"{name}: expected a table [queries, items] of [{queries}, {items}], found shape {list(relevance.shape)}"
            )
        return [np.flatnonzero(row).tolist() for row in relevance]
    if isinstance(relevance, (str, bytes)) or not isinstance(relevance, Iterable):
        raise TypeError(f"{name}: expected a list for each query, one position for each, or a boolean table, found {relevance!r}")
    found = []
    for query, right in enumerate(relevance.tolist() if isinstance(relevance, np.ndarray) else relevance):
        of_query = f"{name} of query {query}"
        if isinstance(right, (str, bytes)):
            raise TypeError(f"{of_query}: expected a list of gallery positions, found {right!r}")
        if not _is_number(right) and isinstance(right, Iterable):
            found.append([_position(of_query, item) for item in right])
        else:
            found.append([_position(of_query, right)])
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


def _is_number(value: Any) -> bool:
    """Whether it is one number, also in an array or a tensor of no dimensions, which Python takes for iterable."""
    return getattr(value, "ndim", None) == 0 or hasattr(type(value), "__index__") and not hasattr(value, "ndim")


def _position(name: str, value: Any) -> int:
    # True and False would be the positions 1 and 0.
    kind = getattr(value, "dtype", type(value))
    if kind is bool or str(kind).rpartition(".")[2] == "bool":
        raise TypeError(f"{name}: {value!r} is no position in the gallery; pass a table of True and False as a numpy array")
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
