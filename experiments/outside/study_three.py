#!/usr/bin/env python3
"""Does a third encoder add anything to a dual query?

    study_three.py OUT RECORD.json

OUT is the folder of the exports. The index holds the oldest encoder's vectors; two newer encoders are bridged into its space (orthogonal, 2,000
pairs, centred) and added to the old query. Weights on a grid of eighths, chosen on half of the queries and judged on the other half, both ways,
for three splits: of old and newest, of old and intermediate, and of all three. Also equal weights.
"""

import sys
from pathlib import Path

import numpy as np
from retrieval import Centred, Truth, compare, halves, keep, kept, mixed, orthogonal, unit

CHAINS = [
    ("images", ["lite0", "lite1", "lite2"]),
    ("neardup", ["lite0", "lite1", "lite2"]),
    ("emoji", ["lite0", "lite1", "lite2"]),
    ("text-class", ["lsa", "wordllama", "minilm"]),
    ("text-item", ["lsa", "wordllama", "minilm"]),
]
PAIRS, SPLITS, PARTS = 2000, 3, 8
GRID = [(a / PARTS, b / PARTS, (PARTS - a - b) / PARTS) for a in range(PARTS + 1) for b in range(PARTS + 1 - a)]
WAYS = {
    "old and newest": [w for w in GRID if w[1] == 0],
    "old and intermediate": [w for w in GRID if w[2] == 0],
    "all three": GRID,
    "old and newest, equal": [(1 / 2, 0, 1 / 2)],
    "all three, equal": [(1 / 3, 1 / 3, 1 / 3)],
}


def study(exports, chain, names):
    old, *newer = (Centred(exports, chain, name, PAIRS) for name in names)
    truth = Truth(exports, chain, names[0])
    queries = [old.queries] + [unit(one.queries @ orthogonal(one.fit, old.fit)) for one in newer]
    parts = [truth.scores(one, old.gallery) for one in queries]
    every = {w for ways in WAYS.values() for w in ways}
    measured = {w: truth.judge(mixed(w, parts)) for w in every}
    total, weights = {}, {}
    for way, choices in WAYS.items():
        total[way], weights[way] = np.zeros_like(measured[1.0, 0.0, 0.0]), []
        for seed in range(SPLITS):
            for judged in halves(len(old.queries), seed):
                best = max(choices, key=lambda w: measured[w][:, ~judged].mean())
                total[way][:, judged] += measured[best][:, judged] / SPLITS
                weights[way].append(best)
    selves = {name: list(truth.measure(one.queries, one.gallery).mean(axis=1)) for name, one in zip(names, [old, *newer], strict=True)}
    return {
        "chain": chain,
        "encoders": names,
        "self_tests": selves,
        "ways": {way: compare(truth.measures, found, total["old and newest"]) for way, found in total.items()},
        "equal": compare(truth.measures, total["all three, equal"], total["old and newest, equal"]),
        "weights": weights,
    }


def main(exports, record):
    record = Path(record)
    found = kept(record)
    for chain, names in CHAINS:
        if chain in {row["chain"] for row in found}:
            continue
        if not all((Path(exports) / chain / name / "queries.npy").exists() for name in names):
            print(f"{chain}: not exported for {', '.join(names)}", file=sys.stderr)
            continue
        found.append(study(exports, chain, names))
        keep(record, found)
        for name, rows in found[-1]["ways"].items():
            print(chain, name, [f"{one['candidate']:.4f} {one['margin']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]" for one in rows], flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
