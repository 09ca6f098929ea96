"""The HOC loss in numpy: a reference for implementations in frameworks. `examples/hoc_torch.py` is one for PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .simplex import simplex_prototypes

Values = npt.NDArray[np.float64]


class HocLoss(NamedTuple):
    """The loss of a batch and its gradient."""

    loss: float
    """``weight * cross_entropy + (1 - weight) * contrastive``"""
    cross_entropy: float
    """Of the simplex's logits, mean over the batch."""
    contrastive: float
    """The contrastive term, mean over the batch."""
    gradient: Values
    """Of the loss by the new features, ``[n, dim]``."""


def hoc_loss(
    new: npt.ArrayLike,
    old: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    vertices: npt.ArrayLike | None = None,
    weight: float = 0.1,
    mu: float = 10.0,
    masking: str = "excluded",
) -> HocLoss:
    """The loss that ties a new encoder's features to those of the encoder before it, through one simplex.

    ``new`` and ``old`` ``[n, dim]`` are features of the same images, not normalised; ``labels`` ``[n]`` tell which are of one class.
    ``vertices`` ``[n]`` are their classes' prototypes, without them ``dim - labels``: local classes take the simplex from the back.
    ``weight`` is the paper's lambda, ``mu`` the inverse temperature. ``masking`` says what becomes of pairs of one class in the contrastive
    term's denominator: ``excluded`` leaves them out, ``zeroed`` counts each as 1, as the released code does. A row without another class in
    the batch adds nothing to that term.

    Everything is computed in float64. Source: arXiv 2405.02581.
    """
    new, old, labels = np.asarray(new, np.float64), np.asarray(old, np.float64), np.asarray(labels)
    if new.ndim != 2 or new.shape != old.shape or new.size == 0:
        raise ValueError(f"new and old must be features [n, dim] of the same images, found shapes {list(new.shape)} and {list(old.shape)}")
    count, dim = new.shape
    given = labels if vertices is None else np.asarray(vertices)
    if labels.shape != (count,) or given.shape != (count,) or labels.dtype.kind not in "iu" or given.dtype.kind not in "iu":
        raise ValueError(f"labels and vertices must be integers, one for each of the {count} rows")
    # Wide first: labels are often bytes, as a data set's file has them, and `dim - labels` does not fit into those.
    vertices = dim - labels.astype(np.int64) if vertices is None else given.astype(np.int64)
    if vertices.min() < 0 or vertices.max() > dim:
        raise ValueError(f"vertices must be from 0 to {dim}; found {vertices.min()} to {vertices.max()}")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight {weight}: use a number from 0 to 1")
    if not (mu > 0 and np.isfinite(mu)):
        raise ValueError(f"mu {mu}: use a number above 0")
    if masking not in ("excluded", "zeroed"):
        raise ValueError(f'masking {masking!r}: use "excluded" or "zeroed"')
    if not (np.isfinite(new).all() and np.isfinite(old).all()):
        raise ValueError("the features hold values that are not finite")
    if not (np.linalg.norm(new, axis=1).all() and np.linalg.norm(old, axis=1).all()):
        raise ValueError("a feature vector has length 0 and no direction")
    cross_entropy, by_logits = _cross_entropy(new, vertices)
    contrastive, by_similarity = _contrastive(new, old, labels, mu, masking)
    return HocLoss(
        weight * cross_entropy + (1 - weight) * contrastive,
        cross_entropy,
        contrastive,
        weight * by_logits + (1 - weight) * by_similarity,
    )


def _cross_entropy(features: Values, vertices: npt.NDArray[np.integer]) -> tuple[float, Values]:
    count, dim = features.shape
    prototypes = simplex_prototypes(dim).astype(np.float64)
    logits = features @ prototypes.T
    log_probabilities = logits - _log_sum_exp(logits)[:, None]
    targets = (np.arange(count), vertices)
    errors = np.exp(log_probabilities)
    errors[targets] -= 1
    return float(-log_probabilities[targets].mean()), errors @ prototypes / count


def _contrastive(new: Values, old: Values, labels: npt.NDArray[np.integer], mu: float, masking: str) -> tuple[float, Values]:
    count = len(new)
    lengths = np.linalg.norm(new, axis=1, keepdims=True)
    unit_new, unit_old = new / lengths, old / np.linalg.norm(old, axis=1, keepdims=True)
    similarity = mu * unit_old @ unit_new.T
    others = labels[:, None] != labels[None, :]
    counted = others.any(axis=1)
    masked = np.where(others, similarity, -np.inf if masking == "excluded" else 0.0)
    # Rows that do not count get a finite denominator, and no part in the sums.
    masked[~counted] = 0.0
    log_sums = _log_sum_exp(masked)
    losses = np.where(counted, log_sums - similarity.diagonal(), 0.0)
    by_similarity = np.where(others, np.exp(masked - log_sums[:, None]), 0.0)
    by_similarity[np.diag_indices(count)] -= counted
    by_unit = mu * by_similarity.T @ unit_old / count
    # The part along the feature itself does not change its direction.
    along = (by_unit * unit_new).sum(axis=1, keepdims=True)
    return float(losses.mean()), (by_unit - along * unit_new) / lengths


def _log_sum_exp(values: Values) -> Values:
    largest: Values = values.max(axis=1)
    sums: Values = np.exp(values - largest[:, None]).sum(axis=1)
    return largest + np.log(sums)
