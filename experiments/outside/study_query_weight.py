#!/usr/bin/env python3
"""Does a dual query gain if each query has a weight of its own?

    study_query_weight.py OUT RECORD.json

OUT is the folder of the exports. Bridge: orthogonal, 2,000 pairs. Every rule is fitted on half of the queries and judged on the other half, both
ways, for three splits; figures are means over the splits. Rules, all from the two rankings of a query alone:

- fixed: 0.5. fitted: one weight for all, the best on average (what the product does); the reference.
- overlap, confidence: five groups of queries by the share of items that the first tens have in common, or by how far the best score stands out in
  the bridged ranking compared with the old one; each group has its best weight.
- regression: for every weight, a linear model of what it gains, from eight features; the weight with the largest forecast.
- gate: the weight is a logistic function of the features, trained on the right answers' share in a softmax of the scores
  (500 queries are enough for nine parameters).
- perfect: the best weight of each query, known from the answer: a bound that nothing reaches.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from retrieval import CHAINS, Centred, Truth, compare, halves, keep, kept, mixed, orthogonal, unit

PAIRS, SPLITS, GROUPS = 2000, 3, 5
GATE_QUERIES, STEPS = 500, 60
WEIGHTS = np.linspace(0, 1, 9)
PENALTY = 0.1


def top(scores, count):
    return np.argpartition(-scores, count, axis=1)[:, :count]


def features(old, bridged):
    """`[queries, 8]` from the scores of both rankings, standardised scores where a scale matters."""
    standard = [(s - s.mean(axis=1, keepdims=True)) / s.std(axis=1, keepdims=True) for s in (old, bridged)]
    rows = np.arange(len(old))
    shared = [[len(np.intersect1d(a, b)) / n for a, b in zip(top(old, n), top(bridged, n), strict=True)] for n in (10, 50)]
    firsts = [np.sort(s[rows[:, None], top(s, 2)], axis=1) for s in standard]
    best = [s.argmax(axis=1) for s in standard]
    columns = [*shared]
    columns += [first[:, 1] for first in firsts]
    columns += [first[:, 1] - first[:, 0] for first in firsts]
    columns += [standard[1][rows, best[0]], standard[0][rows, best[1]]]
    return np.stack(columns, axis=1)


def standardised(rows, fit):
    return (rows - rows[fit].mean(axis=0)) / (rows[fit].std(axis=0) + 1e-12)


def grouped(value, gain, fit):
    """Numbers of the weights: the best of each query's group."""
    edges = np.unique(np.quantile(value[fit], np.arange(1, GROUPS) / GROUPS))
    group = np.searchsorted(edges, value, side="right")
    chosen = np.full(len(value), gain[:, fit].mean(axis=1).argmax())
    for one in np.unique(group[fit]):
        chosen[group == one] = gain[:, fit & (group == one)].mean(axis=1).argmax()
    return chosen


def regression(rows, gain, fit):
    rows = np.hstack([standardised(rows, fit), np.ones((len(rows), 1))])
    x, y = rows[fit], gain[:, fit].T
    forecast = rows @ np.linalg.solve(x.T @ x + PENALTY * len(x) * np.eye(x.shape[1]), x.T @ y)
    return forecast.argmax(axis=1)


def gate(rows, parts, truth, fit):
    """The weight of each query."""
    torch.manual_seed(0)
    rows = torch.tensor(standardised(rows, fit), dtype=torch.float32)
    kept = np.flatnonzero(fit)[:GATE_QUERIES]
    scores = [[torch.tensor(kind[kept], dtype=torch.float32) for kind in part] for part in parts]
    if truth.labelled:
        right = [torch.tensor(truth.hits[kept]), torch.tensor(truth.query_labels[kept, None] == truth.classes)]
    else:
        right = [torch.nn.functional.one_hot(torch.tensor(truth.right[kept]), parts[0][0].shape[1]).bool()]
    model = torch.nn.Linear(rows.shape[1], 1)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    sharpness = torch.full((len(right),), 3.0, requires_grad=True)
    optimiser = torch.optim.Adam([*model.parameters(), sharpness], lr=0.05)
    for _ in range(STEPS):
        w = torch.sigmoid(model(rows[kept]))
        value = 0.001 * model.weight.square().sum()
        for old, bridged, answers, sharp in zip(*scores, right, sharpness, strict=True):
            logits = (w * old + (1 - w) * bridged) * sharp.exp()
            own = logits.masked_fill(~answers, float("-inf")).logsumexp(dim=1)
            value = value + (logits.logsumexp(dim=1) - own).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    with torch.inference_mode():
        return torch.sigmoid(model(rows)).double().numpy()


def study(exports, chain, old_name, new_name):
    old, new = (Centred(exports, chain, name, PAIRS) for name in (old_name, new_name))
    truth = Truth(exports, chain, old_name)
    bridged = unit(new.queries @ orthogonal(new.fit, old.fit))
    parts = [truth.scores(queries, old.gallery) for queries in (old.queries, bridged)]
    measured = np.stack([truth.judge(mixed([w, 1 - w], parts)) for w in WEIGHTS])
    gain, queries = measured.mean(axis=1), np.arange(measured.shape[2])
    rows = features(parts[0][0], parts[1][0])
    take = lambda numbers: measured[numbers, :, queries].T  # noqa: E731
    names = ["fitted", "overlap", "confidence", "regression", "gate"]
    total = {name: np.zeros(measured.shape[1:]) for name in names}
    weights = {"fitted": [], "overlap": [], "gate": []}
    for seed in range(SPLITS):
        for judged in halves(len(queries), seed):
            chosen = {
                "fitted": np.full(len(queries), gain[:, ~judged].mean(axis=1).argmax()),
                "overlap": grouped(rows[:, 0], gain, ~judged),
                "confidence": grouped(rows[:, 3] - rows[:, 2], gain, ~judged),
                "regression": regression(rows, gain, ~judged),
            }
            w = gate(rows, parts, truth, ~judged)
            found = {name: take(numbers) for name, numbers in chosen.items()}
            found["gate"] = truth.judge(mixed([w, 1 - w], parts))
            for name in names:
                total[name][:, judged] += found[name][:, judged] / SPLITS
            weights["fitted"].append(WEIGHTS[chosen["fitted"][0]])
            weights["overlap"].append([WEIGHTS[chosen["overlap"][rows[:, 0] == share][0]] for share in np.unique(rows[:, 0])])
            weights["gate"].append(list(np.quantile(w, [0.1, 0.5, 0.9])))
    total["fixed"] = measured[list(WEIGHTS).index(0.5)]
    total["perfect"] = take(gain.argmax(axis=0))
    return {
        "chain": chain,
        "old": list(measured[-1].mean(axis=1)),
        "rules": {name: compare(truth.measures, values, total["fitted"]) for name, values in total.items()},
        "weights": weights,
    }


def main(exports, record):
    torch.set_num_threads(1)
    record = Path(record)
    found = kept(record)
    for chain in CHAINS:
        if chain[0] in {row["chain"] for row in found}:
            continue
        found.append(study(exports, *chain))
        keep(record, found)
        for name, rows in found[-1]["rules"].items():
            print(chain[0], name, [f"{one['candidate']:.4f} {one['margin']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]" for one in rows], flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
