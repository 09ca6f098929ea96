"""Writes what the product reads: vectors, labels and ids as npy, relevance judgements in TREC and BEIR layout, texts as JSONL.

A folder holds the sets of one encoder, each as NAME.npy (float32, one row an input, as the encoder gives it, not normalised),
NAME-labels.npy and NAME-ids.npy (int64). Rows of two encoders' files with the same name belong to the same inputs.
"""

import json
from pathlib import Path

import numpy as np


def write_set(folder, name, vectors, labels, ids):
    """Writes one set; refuses rows that no index can hold."""
    vectors = np.ascontiguousarray(vectors, dtype="<f4")
    labels, ids = np.asarray(labels, dtype="<i8"), np.asarray(ids, dtype="<i8")
    if not len(vectors) == len(labels) == len(ids):
        raise ValueError(f"{name}: {len(vectors)} vectors, {len(labels)} labels, {len(ids)} ids")
    if len(np.unique(ids)) != len(ids):
        raise ValueError(f"{name}: an id occurs twice")
    if not np.isfinite(vectors).all() or not np.linalg.norm(vectors, axis=1).all():
        raise ValueError(f"{name}: a row is zero or not finite")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", vectors)
    np.save(folder / f"{name}-labels.npy", labels)
    np.save(folder / f"{name}-ids.npy", ids)
    print(f"{folder / name}.npy: {vectors.shape[0]} x {vectors.shape[1]}, {len(np.unique(labels))} labels", flush=True)


def write_relevance(folder, query_ids, item_ids):
    """Writes judgements of grade 1 for pairs of ids: relevance.trec (qid 0 docid grade) and qrels/test.tsv (BEIR)."""
    folder = Path(folder)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    pairs = list(zip(query_ids, item_ids, strict=True))
    (folder / "relevance.trec").write_text("".join(f"{query} 0 {item} 1\n" for query, item in pairs))
    lines = "".join(f"{query}\t{item}\t1\n" for query, item in pairs)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
    print(f"{folder / 'relevance.trec'}: {len(pairs)} judgements", flush=True)


def write_texts(path, ids, texts):
    """Writes texts as BEIR has them: one object a line with `_id` and `text`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for key, text in zip(ids, texts, strict=True):
            file.write(json.dumps({"_id": str(key), "text": text}, ensure_ascii=False) + "\n")
