"""Measures against golden values and brute force."""

import numpy as np
import pytest
from conftest import document, unit

from perennial import metrics


@pytest.mark.parametrize("case", document("golden/retrieval")["cases"])
def test_retrieval_has_the_golden_values(case):
    queries, gallery = case["query"], case["gallery"]
    truth = {"query_labels": case["query_labels"], "gallery_labels": case["gallery_labels"]}
    assert metrics.ncm(queries, gallery, **truth) == pytest.approx(case["nearest_class_mean_accuracy"], abs=1e-9)
    for k, value in case["cmc"].items():
        assert metrics.recall_at_k(queries, gallery, int(k), **truth) == pytest.approx(value, abs=1e-9)
    assert metrics.mean_average_precision(queries, gallery, **truth) == pytest.approx(case["mean_average_precision"], abs=1e-6)


def brute_force(queries, gallery, relevant, own):
    """Rank of the first right item and average precision of each query."""
    similarity = (unit(queries).astype(np.float32) @ unit(gallery).astype(np.float32).T).astype(np.float64)
    first, precision = [], []
    for query, row in enumerate(similarity):
        order = [item for item in np.argsort(-row, kind="stable") if own is None or item != own[query]]
        ranks = [rank for rank, item in enumerate(order, start=1) if relevant[query, item]]
        first.append(ranks[0] if ranks else 0)
        precision.append(np.mean([(found + 1) / rank for found, rank in enumerate(ranks)]) if ranks else 0.0)
    return np.array(first), np.array(precision)


@pytest.mark.parametrize("seed", range(12))
def test_measures_are_those_of_brute_force(seed):
    random = np.random.default_rng(seed)
    queries, items, dim = random.integers(1, 12), random.integers(1, 15), random.integers(1, 6)
    q, g = random.normal(size=(queries, dim)), random.normal(size=(items, dim))
    if seed % 3 == 0:
        items = queries
        g = random.normal(size=(items, dim))
    relevant = random.random((queries, items)) < 0.3
    own = np.arange(queries) if seed % 3 == 0 else None
    ranked = relevant.copy()
    if own is not None:
        ranked[own, own] = False
    first, precision = brute_force(q, g, ranked, own)
    given = {"relevance": ranked, "own": own}
    for k in (1, 3, None):
        hit = (first > 0) & (first <= (k or 99))
        reciprocal = np.where(hit, 1 / np.maximum(first, 1), 0).mean()
        assert metrics.mrr(q, g, k, **given) == pytest.approx(reciprocal, abs=1e-6)
        if k:
            assert metrics.recall_at_k(q, g, k, **given) == pytest.approx(hit.mean(), abs=1e-6)
    assert metrics.mean_average_precision(q, g, **given) == pytest.approx(precision.mean(), abs=1e-6)


def test_several_measures_at_once():
    random = np.random.default_rng(5)
    q, g = random.normal(size=(20, 4)), random.normal(size=(30, 4))
    labels = {"query_labels": random.integers(0, 3, 20), "gallery_labels": random.integers(0, 3, 30)}
    found = metrics.measure(["ncm", "recall@5", "mrr", "mrr@10", "map"], q, g, **labels)
    assert list(found) == ["ncm", "recall@5", "mrr", "mrr@10", "map"]
    assert found["recall@5"] == metrics.recall_at_k(q, g, 5, **labels)
    assert found["ncm"] == metrics.ncm(q, g, **labels)
    # Names of the classes do not matter.
    names = {key: [f"class {label}" for label in values] for key, values in labels.items()}
    assert metrics.measure(found, q, g, **names) == found


@pytest.mark.parametrize("name", ["er", "hoc"])
def test_matrices_have_the_golden_metrics(name):
    golden = document(f"golden/matrix_{name}_7tasks")
    found = metrics.compatibility_matrix(golden["matrix"])
    for key, value in golden["metrics"].items():
        assert getattr(found, key) == pytest.approx(value, abs=1e-9), key
    size = len(golden["matrix"])
    square = np.full((size, size), np.nan)
    for row, values in enumerate(golden["matrix"]):
        square[row, : len(values)] = values
    assert metrics.compatibility_matrix(square) == found
    assert found.to_dict()["tasks"] == 7


def test_ties_count_where_asked():
    matrix = [[0.5], [0.5, 0.6]]
    assert metrics.compatibility_matrix(matrix).average_compatibility == 0
    assert metrics.compatibility_matrix(matrix, ties_count=True).average_compatibility == 1


def test_what_does_not_fit_is_named():
    q, g = np.eye(3), np.eye(4, 3) + 1
    with pytest.raises(ValueError, match="3 dimensions and the gallery 4"):
        metrics.mrr(q, g.T, relevance=[[0]] * 3)
    with pytest.raises(ValueError, match="which items are right"):
        metrics.mrr(q, g)
    with pytest.raises(ValueError, match="but not both"):
        metrics.mrr(q, g, relevance=[[0]] * 3, query_labels=[1] * 3, gallery_labels=[1] * 4)
    with pytest.raises(ValueError, match="ncm needs classes"):
        metrics.measure("ncm", q, g, relevance=[[0]] * 3)
    with pytest.raises(ValueError, match="is no measure"):
        metrics.measure("ndcg", q, g, relevance=[[0]] * 3)
    with pytest.raises(ValueError, match="k: expected a whole number from 1"):
        metrics.recall_at_k(q, g, 0, relevance=[[0]] * 3)
    with pytest.raises(ValueError, match="queries: row 1 has length 0"):
        metrics.mrr(np.diag([1.0, 0.0, 1.0]), g, relevance=[[0]] * 3)
    with pytest.raises(ValueError, match="found 2 entries for 3"):
        metrics.mrr(q, g, relevance=[[0]] * 2)
    with pytest.raises(ValueError, match="outside the gallery"):
        metrics.mrr(q, g, relevance=[[9]] * 3)
    with pytest.raises(ValueError, match="divide all of them by 100"):
        metrics.compatibility_matrix([[50.0]])
    with pytest.raises(ValueError):
        metrics.compatibility_matrix([[0.5], [0.5]])
