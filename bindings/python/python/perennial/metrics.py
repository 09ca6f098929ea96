"""Measures of retrieval by cosine similarity, and of compatibility matrices. All are fractions.

Which items are right for a query is said by ``query_labels`` ``[n]`` and ``gallery_labels`` ``[m]`` (items of its class), or by ``relevance``
(lists of gallery positions, one position for each query, or a boolean table ``[n, m]``). ``own`` is each query's own place in the gallery,
which it does not find: ``True`` if query ``i`` is item ``i``, or positions ``[n]`` with -1 for none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _perennial
from .arguments import Labels, Own, Relevance, Rows, optional_tags, own_positions, positions, rows, whole_number


def measure(
    names: Iterable[str],
    queries: Rows,
    gallery: Rows,
    *,
    query_labels: Labels | None = None,
    gallery_labels: Labels | None = None,
    relevance: Relevance | None = None,
    own: Own = None,
) -> dict[str, float]:
    """Several measures in one pass: ``ncm``, ``recall@K``, ``mrr``, ``mrr@K``, ``map``.

    ``queries`` ``[n, dim]`` and ``gallery`` ``[m, dim]`` are scaled to unit length. Of equal similarities the lower position comes first.
    """
    names = [names] if isinstance(names, str) else list(names)
    if (query_labels is None) != (gallery_labels is None):
        raise ValueError("labels are needed for queries and gallery: pass query_labels and gallery_labels")
    if query_labels is not None and relevance is not None:
        raise ValueError("pass labels, which measure class-like retrieval, or relevance, which measures item-like retrieval, but not both")
    queries, gallery = rows("queries", queries), rows("gallery", gallery)
    if len(queries) == 0:
        raise ValueError("queries: has no rows")
    values = _perennial.measures(
        names,
        queries,
        gallery,
        query_labels=optional_tags("query_labels", query_labels),
        gallery_labels=optional_tags("gallery_labels", gallery_labels),
        relevance=positions("relevance", relevance, len(queries), len(gallery)),
        own=own_positions("own", own, len(queries), len(gallery)),
    )
    found = {}
    for name, value in zip(names, values):
        if value is None:
            raise ValueError(f"{name} needs classes: pass query_labels and gallery_labels")
        found[name] = value
    return found


def ncm(queries: Rows, gallery: Rows, *, query_labels: Labels, gallery_labels: Labels, own: Own = None) -> float:
    """Share of the queries whose most similar class mean of the gallery has their class."""
    return measure(["ncm"], queries, gallery, query_labels=query_labels, gallery_labels=gallery_labels, own=own)["ncm"]


def recall_at_k(
    queries: Rows,
    gallery: Rows,
    k: int = 1,
    *,
    query_labels: Labels | None = None,
    gallery_labels: Labels | None = None,
    relevance: Relevance | None = None,
    own: Own = None,
) -> float:
    """Share of the queries with a right item among their first ``k`` hits (CMC, hit rate)."""
    name = f"recall@{whole_number('k', k, least=1)}"
    found = measure(
        [name], queries, gallery, query_labels=query_labels, gallery_labels=gallery_labels, relevance=relevance, own=own
    )
    return found[name]


def mrr(
    queries: Rows,
    gallery: Rows,
    k: int | None = None,
    *,
    query_labels: Labels | None = None,
    gallery_labels: Labels | None = None,
    relevance: Relevance | None = None,
    own: Own = None,
) -> float:
    """Mean of one divided by the rank of the first right item; 0 beyond rank ``k``, where it is given."""
    name = "mrr" if k is None else f"mrr@{whole_number('k', k, least=1)}"
    found = measure(
        [name], queries, gallery, query_labels=query_labels, gallery_labels=gallery_labels, relevance=relevance, own=own
    )
    return found[name]


def mean_average_precision(
    queries: Rows,
    gallery: Rows,
    *,
    query_labels: Labels | None = None,
    gallery_labels: Labels | None = None,
    relevance: Relevance | None = None,
    own: Own = None,
) -> float:
    """Mean over the queries of the mean precision at the ranks of their right items, over the whole ranking."""
    found = measure(
        ["map"], queries, gallery, query_labels=query_labels, gallery_labels=gallery_labels, relevance=relevance, own=own
    )
    return found["map"]


@dataclass(frozen=True)
class CompatibilityMetrics:
    """Every metric of a compatibility matrix; those that compare models are ``None`` for a single one."""

    tasks: int
    average_compatibility: float | None
    """AC: share of the pairs whose cross-test beats the old self-test."""
    average_accuracy: float
    """AA: mean of the lower triangle with its diagonal."""
    average_compatible_accuracy: float | None
    """ACA: sum of the compatible cross-tests over the number of pairs."""
    backward_compatibility: float | None
    forward_compatibility: float | None
    incompatible_pairs_count: int
    average_accuracy_per_task: list[float]
    average_compatibility_per_task: list[float | None]

    def to_dict(self) -> dict[str, object]:
        """The key ``metrics`` of ``perennial metrics --json``."""
        return asdict(self)


def compatibility_matrix(
    matrix: Sequence[Sequence[float]] | npt.NDArray[np.floating[Any]], *, ties_count: bool = False
) -> CompatibilityMetrics:
    """The metrics of ``matrix`` ``[T, T]``: row ``t`` holds the accuracy of version ``t``'s queries on the galleries of versions ``0..t``.

    Values are fractions. A lower triangle of growing rows will do; what is above the diagonal is ignored. ``ties_count`` counts a cross-test
    that equals the old self-test as compatible.
    """
    lower = [[float(cell) for cell in list(row)[: place + 1]] for place, row in enumerate(matrix)]
    return CompatibilityMetrics(**json.loads(_perennial.compatibility_metrics(lower, bool(ties_count))))
