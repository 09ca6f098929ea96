"""What the studies share: exported sets, linear bridges, measures query by query, and paired intervals.

Rows are made unit, the mean of the fit set is subtracted, and they are made unit again ("centred"), as the product does by default.
Fits in f64, scores in f32.
"""

import json
from pathlib import Path

import numpy as np

CHAINS = [
    ("images", "lite0", "lite2"),
    ("text-class", "wordllama", "minilm"),
    ("text-item", "wordllama", "minilm"),
    ("neardup", "lite0", "lite2"),
    ("emoji", "lite0", "lite2"),
]
LABELLED = {"images", "text-class"}
RESAMPLES = 2000


def kept(record):
    """What a study has finished, of an earlier call."""
    return json.loads(record.read_text()) if record.exists() else []


def keep(record, found):
    """Keeps it as a whole: a study may be stopped at any moment."""
    part = record.with_name(f"{record.name}.part")
    part.write_text(json.dumps(found, indent=1) + "\n")
    part.replace(record)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def load(exports, chain, encoder, name):
    return unit(np.load(Path(exports) / chain / encoder / f"{name}.npy").astype(np.float64))


def orthogonal(x, y):
    u, _, v = np.linalg.svd(x.T @ y, full_matrices=False)
    return u @ v


def ridge(x, y, penalty):
    return np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T @ y)


def whitened(x, y, shrinkage=0.1, power=0.5):
    """Rotation between whitened spaces, its directions weighted by the singular values' power."""

    def root(rows):
        covariance = rows.T @ rows / len(rows)
        values, vectors = np.linalg.eigh(covariance)
        values = (1 - shrinkage) * np.maximum(values, 0) + shrinkage * values.mean()
        return (vectors / np.sqrt(values)) @ vectors.T, (vectors * np.sqrt(values)) @ vectors.T

    (white, _), (other, back) = root(x), root(y)
    u, s, v = np.linalg.svd(white @ (x.T @ y / len(x)) @ other, full_matrices=False)
    return white @ (u * s**power) @ v @ back


LINEAR = {
    "orthogonal": orthogonal,
    "ridge:0.001": lambda x, y: ridge(x, y, 1e-3),
    "ridge:0.01": lambda x, y: ridge(x, y, 1e-2),
    "whitened:0.1,0.5": whitened,
}


class Truth:
    """What is right for each query of a chain, and the measures that decide."""

    def __init__(self, exports, chain, encoder):
        folder = Path(exports) / chain
        self.labelled = chain in LABELLED
        labels = [np.load(folder / encoder / f"{name}-labels.npy") for name in ("queries", "gallery")]
        if self.labelled:
            self.measures = ["ncm", "recall@1", "map"]
            self.classes = np.unique(labels[1])
            self.query_labels, self.gallery_labels = labels
            self.hits = labels[0][:, None] == labels[1]
            return
        self.measures = ["recall@1", "mrr@10"]
        ids = [np.load(folder / encoder / f"{name}-ids.npy") for name in ("queries", "gallery")]
        row = {key: number for number, key in enumerate(ids[1])}
        lines = (line.split() for line in (folder / "relevance.trec").read_text().splitlines())
        right = {int(query): row[int(item)] for query, _, item, _ in lines}
        self.right = np.array([right[key] for key in ids[0]])

    def class_means(self, gallery):
        return unit(np.stack([gallery[self.gallery_labels == one].mean(axis=0) for one in self.classes]))

    def scores(self, queries, gallery):
        """Scores of items and, with labels, of class means. Linear in the queries, so those of a dual query are sums."""
        targets = [gallery] + ([self.class_means(gallery)] if self.labelled else [])
        return [queries.astype(np.float32) @ target.T.astype(np.float32) for target in targets]

    def judge(self, scores):
        """`[measures, queries]`; queries need not be unit, as no measure depends on their length."""
        items = scores[0]
        if not self.labelled:
            own = items[np.arange(len(items)), self.right][:, None]
            lower = np.arange(items.shape[1]) < self.right[:, None]
            rank = (items > own).sum(axis=1) + ((items == own) & lower).sum(axis=1)
            return np.stack([rank == 0, np.where(rank < 10, 1 / (1 + rank), 0)]).astype(float)
        nearest = self.classes[scores[1].argmax(axis=1)]
        found = np.take_along_axis(self.hits, np.argsort(-items, axis=1), axis=1)
        precision = np.cumsum(found, axis=1) / np.arange(1, found.shape[1] + 1)
        average = (precision * found).sum(axis=1) / found.sum(axis=1)
        return np.stack([nearest == self.query_labels, found[:, 0], average]).astype(float)

    def measure(self, queries, gallery):
        return self.judge(self.scores(queries, gallery))


def mixed(weights, parts):
    """Scores of the weighted sum of queries whose scores are given."""
    return [sum(np.float32(w) * scores for w, scores in zip(weights, kind, strict=True)) for kind in zip(*parts, strict=True)]


class Centred:
    """Both sides of a chain, centred with the means of the first `pairs` rows of its fit set (all by default)."""

    def __init__(self, exports, chain, encoder, pairs=None):
        fit = load(exports, chain, encoder, "fit")[:pairs]
        self.mean = fit.mean(axis=0)
        self.fit = unit(fit - self.mean)
        self.queries = unit(load(exports, chain, encoder, "queries") - self.mean)
        self.gallery = unit(load(exports, chain, encoder, "gallery") - self.mean)


def halves(count, seed):
    """Two random halves of the queries: settings are chosen on one and judged on the other, both ways."""
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(count)[: count // 2]] = True
    return [chosen, ~chosen]


def interval(differences):
    """Mean and 95 % paired-bootstrap interval of differences query by query."""
    rng = np.random.default_rng(0)
    means = [differences[rng.integers(0, len(differences), len(differences))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"margin": differences.mean(), "low": low, "high": high}


def compare(measures, candidate, reference):
    """Records of each measure: both means and the interval of the difference."""
    return [
        {"measure": name, "reference": there.mean(), "candidate": here.mean(), **interval(here - there)}
        for name, here, there in zip(measures, candidate, reference, strict=True)
    ]
