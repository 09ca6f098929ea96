#!/usr/bin/env python3
"""The orthogonal fit beside numpy's, on the same cores, one after the other.

    cargo build --release -p perennial-bridge --example bridge_speed
    python benches/bridge/compare.py target/release/examples/bridge_speed [ROWS] [DIM]

numpy computes the same in f64 on random rows of the same shape: unit length, centring, X^T Y, its SVD, U V^T. Prints one JSON object
with the seconds of both and their ratio (at most 1.2 is the aim), the best of three runs each.
"""

import json
import subprocess
import sys
import time

import numpy as np


def centred(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x -= x.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def main():
    program = sys.argv[1]
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    dim = int(sys.argv[3]) if len(sys.argv) > 3 else 1536
    random = np.random.default_rng(1)
    x = random.uniform(-1, 1, (rows, dim)).astype(np.float32)
    y = random.uniform(-1, 1, (rows, dim)).astype(np.float32)
    ours, numpy_seconds, parts = [], [], []
    for _ in range(3):
        printed = subprocess.run([program, str(rows), str(dim)], check=True, capture_output=True, text=True).stdout
        ours.append(json.loads(printed))
        begun = time.perf_counter()
        product = centred(x.astype(np.float64)).T @ centred(y.astype(np.float64))
        between = time.perf_counter()
        u, _, vt = np.linalg.svd(product)
        u @ vt
        numpy_seconds.append(time.perf_counter() - begun)
        parts.append((between - begun, time.perf_counter() - between))
    best = min(ours, key=lambda run: run["fit_orthogonal_seconds"])
    seconds = min(numpy_seconds)
    print(json.dumps({
        **best,
        "numpy": np.__version__,
        "numpy_seconds": round(seconds, 3),
        "numpy_product_and_svd_seconds": [round(part, 3) for part in parts[numpy_seconds.index(seconds)]],
        "fit_ratio": round(best["fit_orthogonal_seconds"] / seconds, 3),
    }))


if __name__ == "__main__":
    main()
