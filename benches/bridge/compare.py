#!/usr/bin/env python3
"""The orthogonal fit beside numpy's, on the same cores, one after the other.

    cargo build --release -p perennial
    python benches/bridge/compare.py [--program target/release/perennial] [--pairs N] [--dim D] [--rounds N]

numpy computes the same in f64 on random rows of the same shape: unit length, centring, X^T Y, its SVD, U V^T. Prints one JSON object
with the seconds of both and their ratio (at most 1.2 is the aim), the best round of each.
"""

import argparse
import json
import subprocess
import time

import numpy as np


def centred(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x -= x.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def fit_seconds(program, pairs, dim):
    """Seconds of one orthogonal fit, as `perennial bench bridge` measures it."""
    command = [program, "--json", "--quiet", "bench", "bridge", "--samples", "1", "--pairs", str(pairs), "--pair-dim", str(dim)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    name = f"fit of a bridge, orthogonal, {pairs} x {dim}"
    return next(found["median_s"] for found in report["measurements"] if found["name"] == name)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--program", default="target/release/perennial")
    arguments.add_argument("--pairs", type=int, default=20_000)
    arguments.add_argument("--dim", type=int, default=1536)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    random = np.random.default_rng(1)
    x, y = (random.uniform(-1, 1, (given.pairs, given.dim)).astype(np.float32) for _ in range(2))
    ours, theirs = [], []
    for _ in range(given.rounds):
        ours.append(fit_seconds(given.program, given.pairs, given.dim))
        begun = time.perf_counter()
        product = centred(x.astype(np.float64)).T @ centred(y.astype(np.float64))
        between = time.perf_counter()
        u, _, vt = np.linalg.svd(product)
        u @ vt
        ended = time.perf_counter()
        theirs.append((ended - begun, between - begun, ended - between))
    seconds, products, decomposition = min(theirs)
    print(json.dumps({
        "pairs": given.pairs,
        "dim": given.dim,
        "perennial_seconds": round(min(ours), 3),
        "numpy": np.__version__,
        "numpy_seconds": round(seconds, 3),
        "numpy_product_and_svd_seconds": [round(products, 3), round(decomposition, 3)],
        "fit_ratio": round(min(ours) / seconds, 3),
    }))


if __name__ == "__main__":
    main()
