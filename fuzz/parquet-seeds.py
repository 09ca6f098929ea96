#!/usr/bin/env python3
"""Writes the seeds of the fuzz target `parquet`, with pyarrow 26: python3 fuzz/parquet-seeds.py"""
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).parent / "seeds" / "parquet"
FOLDER.mkdir(parents=True, exist_ok=True)


def write(name, columns, schema=False, **options):
    pq.write_table(pa.table(columns), FOLDER / name, store_schema=schema, write_statistics=False, **options)


vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype="f4") + 1), 2)
pairs = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
write("fixed", {"id": ["a", "b", "c"], "embedding": vectors}, schema=True, compression="none", use_dictionary=["id"])
write("lists", {
    "vector": pa.array(pairs, pa.list_(pa.float16())),
    "_id": pa.array([1, 2, 2**63], pa.uint64()),
    "label": pa.array(["x", "x", "y"]).dictionary_encode(),
}, schema=True, compression="snappy")
write("payload", {
    "embedding": pa.array(pairs, pa.large_list(pa.float64())),
    "n": pa.array([1, None, 3]),
    "t": pa.array([["a", "bc"], None, []]),
    "s": pa.array([{"k": True}, {"k": None}, None], pa.struct([("k", pa.bool_())])),
}, compression="gzip", data_page_version="2.0")
write("deltas", {
    "embedding": vectors,
    "id": ["apple", "apply", "appz"],
    "t": ["left", "lefty", "right"],
    "n": pa.array([5, 7, 1]),
}, compression="zstd", use_dictionary=False, column_encoding={
    "embedding.list.element": "BYTE_STREAM_SPLIT",
    "id": "DELTA_BYTE_ARRAY",
    "t": "DELTA_LENGTH_BYTE_ARRAY",
    "n": "DELTA_BINARY_PACKED",
})
write("text_payload", {
    "embedding": vectors,
    "payload": ['{"a":1}', None, "{}"],
    "label": pa.array([1, 2, 3], pa.int16()),
}, compression="lz4")
write("refused_missing", {"embedding": pa.array([pairs[0], None, pairs[2]], pa.list_(pa.float32()))}, compression="none")
write("refused_lengths", {"embedding": pa.array([[1.0, 2.0], [5.0]], pa.list_(pa.float32()))}, compression="none")
write("refused_memory", {"embedding": pa.array([np.ones(1 << 26, "f4")], pa.list_(pa.float32()))}, compression="none")
(FOLDER / "refused_cut").write_bytes((FOLDER / "lists").read_bytes()[:-9])
