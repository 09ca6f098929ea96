"""Writes galleries of which every other item is the old model's, as files that `perennial certify --route own` compares with the old gallery.

    half.py FOLDER

FOLDER holds what measure.sh embedded and mapped. A stored vector has two blocks: the item by the old model, and the item as the mixed
gallery holds it; old queries are zero in the second block, new ones in the first. All blocks are unit vectors, so every cosine is that of its
block times a constant, and rankings are those of the two galleries: one certificate compares them query by query, with intervals. Where a
mixed gallery searches its two halves with different queries, the second block has a part for each, and the cosines are merged as they are.

Writes FOLDER/half/WAY-{old,new,gallery-of-two}.npy and shares.json: the share of old items among the first 24 hits. Class means of such
vectors mean nothing.
"""

import json
import sys
from pathlib import Path

import numpy as np

FIRST = 24


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings(path):
    """The float32 rows of a safetensors file of one matrix and labels."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    matrix = next(one for key, one in header.items() if key != "__metadata__" and len(one["shape"]) == 2 and one["dtype"] == "F32")
    begin, end = matrix["data_offsets"]
    return unit(np.frombuffer(raw[8 + length + begin : 8 + length + end], "<f4").reshape(matrix["shape"]))


def beside(left, right):
    """Rows of two spaces in one: `left` and `right` are rows or the dimension of the other space."""
    if isinstance(left, int):
        left = np.zeros((len(right), left), np.float32)
    if isinstance(right, int):
        right = np.zeros((len(left), right), np.float32)
    return np.concatenate([left, right], axis=1)


def alternate(old, new):
    """Every other item by the old model, the first one included."""
    return np.where(np.arange(len(old))[:, None] % 2 == 0, old, new)


def main(folder):
    half = folder / "half"
    old_queries, old_gallery, new_queries, new_gallery = (
        embeddings(folder / f"{name}.safetensors") for name in ("old-queries", "old-gallery", "new-queries", "new-gallery")
    )
    old_centred, new_centred, queries_centred, bridged, dual, mapped = (
        unit(np.load(half / f"{name}.npy"))
        for name in ("old-gallery-centred", "new-gallery-centred", "new-queries-centred", "queries-bridged", "queries-dual", "old-gallery-mapped")
    )
    dims = old_gallery.shape[1], new_gallery.shape[1]

    def two_spaces(old_query, old, new_query, new):
        gallery = alternate(beside(old, dims[1]), beside(dims[0], new))
        return beside(old_query, new_query) / np.sqrt(2, dtype=np.float32), gallery

    ways = {
        "all-new": (new_queries, new_gallery),
        "bridged": two_spaces(bridged, old_centred, new_queries, new_gallery),
        "bridged-centred": two_spaces(bridged, old_centred, queries_centred, new_centred),
        "dual": two_spaces(dual, old_centred, new_queries, new_gallery),
        "dual-centred": two_spaces(dual, old_centred, queries_centred, new_centred),
        "mapped": (queries_centred, alternate(mapped, new_centred)),
    }
    if dims[0] == dims[1]:
        ways["own"] = new_queries, alternate(old_gallery, new_gallery)
    shares = {}
    for way, (queries, gallery) in ways.items():
        hits = np.argpartition(-(queries @ gallery.T), FIRST, axis=1)[:, :FIRST]
        shares[way] = 0.0 if way == "all-new" else float((hits % 2 == 0).mean())
        np.save(half / f"{way}-old.npy", beside(old_queries, gallery.shape[1]))
        np.save(half / f"{way}-new.npy", beside(dims[0], queries))
        np.save(half / f"{way}-gallery-of-two.npy", beside(old_gallery, gallery))
    (half / "shares.json").write_text(json.dumps(shares))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] == "--help":
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
