#!/usr/bin/env python3
"""Bridges beside numpy's own BLAS and LAPACK, in turns on the same cores.

    python bindings/python/bench.py [--pairs N] [--dim D] [--rounds N]

Both sides do the same on random rows `[pairs, dim]` of float32: unit length, centring, and the fit in float64 (products and singular value
decomposition, or products and a linear system), or the map in float32. Prints one JSON object with the median seconds of both and the median
of the rounds' ratios; 1.1 is the aim. The record of what was fitted on, which numpy's side does not make, is part of our fit. `cpu_ratio` is
that of the processor's time: on a busy machine, with RAYON_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1, it is the one to go by.
"""

import argparse
import json
import os
import statistics
import time

# Left by some environments; numpy's BLAS is to look at the processor itself.
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import numpy as np

import perennial

PENALTY = 1e-3


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def fitted_by_numpy(kind, new, old):
    """Means and map, as `Bridge.fit` finds them."""
    x, y = unit(new.astype(np.float64)), unit(old.astype(np.float64))
    means = x.mean(axis=0), y.mean(axis=0)
    x, y = unit(x - means[0]), unit(y - means[1])
    if kind == "orthogonal":
        u, _, vt = np.linalg.svd(x.T @ y, full_matrices=False)
        matrix = u @ vt
    else:
        gram = x.T @ x
        gram[np.diag_indices_from(gram)] += PENALTY * len(x)
        matrix = np.linalg.solve(gram, x.T @ y)
    return means[0].astype(np.float32), matrix.astype(np.float32)


def mapped_by_numpy(mean, matrix, new):
    return unit(unit(unit(new) - mean) @ matrix)


def seconds(work):
    """Of the clock, and of the processor."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - begun_cpu


def compared(ours, theirs, rounds):
    """Both in turns, the first round to warm up."""
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds + 1)][1:]
    return {
        "perennial_seconds": round(statistics.median(one[0] for one, _ in times), 4),
        "numpy_seconds": round(statistics.median(other[0] for _, other in times), 4),
        "ratio": round(statistics.median(one[0] / other[0] for one, other in times), 3),
        "cpu_ratio": round(statistics.median(one[1] / other[1] for one, other in times), 3),
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=10_000)
    arguments.add_argument("--dim", type=int, default=768)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    random = np.random.default_rng(1)
    new = random.normal(size=(given.pairs, given.dim)).astype(np.float32)
    old = (new @ random.normal(size=(given.dim, given.dim)) / given.dim**0.5 + random.normal(size=new.shape)).astype(np.float32)
    found = {"pairs": given.pairs, "dim": given.dim, "numpy": np.__version__}
    for name, kind in (("orthogonal", "orthogonal"), ("ridge", f"ridge:{PENALTY}")):
        bridge = perennial.Bridge.fit(new, old, kind)
        means_and_map = fitted_by_numpy(name, new, old)
        apart = np.abs(bridge.transform(new) - mapped_by_numpy(*means_and_map, new)).max()
        found[f"fit, {name}"] = compared(
            lambda kind=kind: perennial.Bridge.fit(new, old, kind), lambda name=name: fitted_by_numpy(name, new, old), given.rounds
        )
        found[f"fit, {name}"]["largest_difference_of_a_mapped_value"] = float(apart)
    found["transform"] = compared(lambda: bridge.transform(new), lambda: mapped_by_numpy(*means_and_map, new), 2 * given.rounds)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
