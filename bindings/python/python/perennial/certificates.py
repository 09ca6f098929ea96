"""May queries of a new encoder search what an old one stored, and which way to handle the upgrade pays?

Both functions take an evaluation set: the same queries and the same gallery items by both encoders, row by row, and which items are right.
"""

from __future__ import annotations

from collections.abc import Callable

from ._perennial import Evaluation
from .arguments import Labels, Own, Relevance, Rows, optional_rows, optional_tags, own_positions, positions, rows, whole_number
from .bridge import Bridge, expect_bridge
from .results import Advice, Certificate


def certify(
    old_queries: Rows,
    old_gallery: Rows,
    new_queries: Rows,
    new_gallery: Rows | None = None,
    *,
    query_labels: Labels | None = None,
    gallery_labels: Labels | None = None,
    relevance: Relevance | None = None,
    own: Own = None,
    bridge: Bridge | None = None,
    fit_new: Rows | None = None,
    fit_old: Rows | None = None,
    fit_labels: Labels | None = None,
    kind: str = "auto",
    route: str | None = None,
    weight: float | None = None,
    index: str = "raw",
    min_margin: float = 0.0,
    max_negative_flips: float | None = None,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    new_space: str | None = None,
    old_space: str | None = None,
) -> Certificate:
    """Measures one way to search: ``perennial certify`` on arrays. Equal seeds give the figures of the command line.

    Queries ``[n, dim]``, galleries ``[m, dim]``; ``new_gallery`` shows what embedding everything again would give. Labels measure class-like
    retrieval, ``relevance`` (lists of gallery positions, one position for each query, or a boolean table) item-like retrieval; neither
    certifies the other. With ``own``, queries are gallery items and do not find themselves.

    ``route`` is ``own``, ``bridged``, ``dual`` or ``mapped``; without it ``bridged`` where there is a bridge and ``own`` where there is none.
    The bridge is ``bridge``, or it is fitted on ``fit_new`` and ``fit_old``, other inputs by both encoders, as ``Bridge.fit`` does. ``weight``
    is the old query's share in dual queries. The margin over the old encoder's own queries must be at least ``min_margin`` on the whole
    interval of error probability ``alpha`` (0.1, 0.05 or 0.01).

    Raises ``ValueError`` for arrays and settings that do not fit one another.
    """
    if bridge is not None and (fit_new is not None or fit_old is not None):
        raise ValueError("pass a bridge, or fit_new and fit_old to fit one on, but not both")
    native = None if bridge is None else expect_bridge("bridge", bridge)._native
    evaluation = _evaluation(
        old_queries, old_gallery, new_queries, new_gallery, query_labels, gallery_labels, relevance, own, fit_new, fit_old, fit_labels,
        new_space, old_space,
    )
    text = evaluation.certify(
        native,
        route=route,
        weight=weight,
        index=index,
        kind=kind,
        min_margin=min_margin,
        max_negative_flips=max_negative_flips,
        alpha=alpha,
        resamples=whole_number("resamples", resamples),
        seed=whole_number("seed", seed),
    )
    return Certificate._of(text)


def advise(
    old_queries: Rows,
    old_gallery: Rows,
    new_queries: Rows,
    new_gallery: Rows | None = None,
    *,
    query_labels: Labels | None = None,
    gallery_labels: Labels | None = None,
    relevance: Relevance | None = None,
    own: Own = None,
    fit_new: Rows | None = None,
    fit_old: Rows | None = None,
    items: int | None = None,
    items_per_second: float | None = None,
    price_per_thousand: float | None = None,
    min_margin: float = 0.0,
    max_negative_flips: float | None = None,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    new_space: str | None = None,
    old_space: str | None = None,
    progress: Callable[[str], object] | None = None,
) -> Advice:
    """Measures every way to handle an upgrade, and says which one pays: ``perennial advise`` on arrays. Equal seeds give the same figures.

    The evaluation set is that of :func:`certify`. Without ``fit_new`` and ``fit_old``, other inputs by both encoders, no bridge can be measured.
    ``items`` of the real gallery, ``items_per_second`` of the new encoder and ``price_per_thousand`` items give the cost. ``progress`` is called
    with what is being measured; Ctrl-C ends the work between two steps.

    Raises ``ValueError`` for arrays and settings that do not fit one another, and too few queries.
    """
    if query_labels is None and relevance is None:
        raise ValueError("advice needs to know which items are right: pass query_labels and gallery_labels, or relevance")
    evaluation = _evaluation(
        old_queries, old_gallery, new_queries, new_gallery, query_labels, gallery_labels, relevance, own, fit_new, fit_old, None,
        new_space, old_space,
    )
    text = evaluation.advise(
        items=None if items is None else whole_number("items", items),
        items_per_second=items_per_second,
        price_per_thousand=price_per_thousand,
        min_margin=min_margin,
        max_negative_flips=max_negative_flips,
        alpha=alpha,
        resamples=whole_number("resamples", resamples),
        seed=whole_number("seed", seed),
        progress=progress,
    )
    return Advice._of(text)


def _evaluation(
    old_queries: Rows,
    old_gallery: Rows,
    new_queries: Rows,
    new_gallery: Rows | None,
    query_labels: Labels | None,
    gallery_labels: Labels | None,
    relevance: Relevance | None,
    own: Own,
    fit_new: Rows | None,
    fit_old: Rows | None,
    fit_labels: Labels | None,
    new_space: str | None,
    old_space: str | None,
) -> Evaluation:
    queries, gallery = rows("old_queries", old_queries), rows("old_gallery", old_gallery)
    return Evaluation(
        queries,
        gallery,
        rows("new_queries", new_queries),
        optional_rows("new_gallery", new_gallery),
        query_labels=optional_tags("query_labels", query_labels),
        gallery_labels=optional_tags("gallery_labels", gallery_labels),
        relevance=positions("relevance", relevance, len(queries), len(gallery)),
        own=own_positions("own", own, len(queries), len(gallery)),
        fit_new=optional_rows("fit_new", fit_new),
        fit_old=optional_rows("fit_old", fit_old),
        fit_labels=optional_tags("fit_labels", fit_labels),
        new_space=new_space,
        old_space=old_space,
    )
