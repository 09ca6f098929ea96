"""Splits a fit set into two halves without a common item: one embedded by the new encoder, the other by the old one.

    halves.py NEW OLD OUT

NEW and OLD are the folders of the two encoders. Writes OUT/from.npy and OUT/to.npy with their labels, for a bridge from class means.
"""

import sys
from pathlib import Path

import numpy as np

SEED = 16


def main(new, old, out):
    out.mkdir(parents=True, exist_ok=True)
    labels = np.load(new / "fit-labels.npy")
    order = np.random.default_rng(SEED).permutation(len(labels))
    for name, folder, rows in [("from", new, order[::2]), ("to", old, order[1::2])]:
        np.save(out / f"{name}.npy", np.load(folder / "fit.npy")[np.sort(rows)])
        np.save(out / f"{name}-labels.npy", labels[np.sort(rows)])


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
