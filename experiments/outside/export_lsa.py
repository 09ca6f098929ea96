#!/usr/bin/env python3
"""An older kind of encoder of text for chains of three: latent semantic analysis, 256 dimensions.

    export_lsa.py WORDNET_DIR OUT

Fitted here, on 20,000 noun definitions of WordNet that no exported set holds; the only encoder of these exports that is not a published
one. Words and their pieces of 3 to 5 letters are hashed to 4,096 columns, weighted by log frequency and rarity, and projected on the leading
singular vectors. Writes OUT/text-class/lsa and OUT/text-item/lsa, with the same rows as export_text.py's encoders.
"""

import json
import re
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
from export_text import read_nouns
from vector_files import write_set

SEED = 17
COLUMNS, DIMENSIONS, DEFINITIONS, EXTRA, ROUNDS = 4096, 256, 20_000, 32, 3


def counts(texts):
    rows = np.zeros((len(texts), COLUMNS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in re.findall(r"[a-z0-9]+", text.lower()):
            framed = f"<{word}>"
            pieces = [framed[i : i + n] for n in (3, 4, 5) for i in range(len(framed) - n + 1)]
            for piece in {framed, *pieces}:
                row[crc32(piece.encode()) % COLUMNS] += 1
    return np.log1p(rows)


class Lsa:
    def __init__(self, texts):
        rows = counts(texts)
        self.rarity = np.log(len(rows) / (1 + (rows > 0).sum(axis=0))).astype(np.float32)
        rows *= self.rarity
        # Leading right singular vectors by subspace iteration.
        basis = np.random.default_rng(SEED).standard_normal((COLUMNS, DIMENSIONS + EXTRA)).astype(np.float32)
        for _ in range(ROUNDS):
            basis, _ = np.linalg.qr(rows.T @ (rows @ basis))
        _, _, right = np.linalg.svd(rows @ basis, full_matrices=False)
        self.basis = basis @ right[:DIMENSIONS].T

    def embed(self, texts):
        return (counts(texts) * self.rarity) @ self.basis


def main(wordnet, out):
    out = Path(out)
    nouns = {noun[0]: noun[3] for noun in read_nouns(Path(wordnet) / "data.noun")}
    words = [json.loads(line) for line in (out / "text-item" / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = nouns | {int(word["_id"]): word["text"] for word in words}
    sets = {}
    for chain in ("text-class", "text-item"):
        for name in ("fit", "queries", "gallery"):
            path = out / chain / "wordllama" / name
            sets[chain, name] = [np.load(f"{path}-{kind}.npy") for kind in ("labels", "ids")]
    exported = np.concatenate([ids for _, ids in sets.values()])
    free = np.setdiff1d(list(nouns), exported)
    encoder = Lsa([nouns[key] for key in np.random.default_rng(SEED).choice(free, DEFINITIONS, replace=False)])
    for (chain, name), (labels, ids) in sets.items():
        write_set(out / chain / "lsa", name, encoder.embed([texts[key] for key in ids]), labels, ids)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
