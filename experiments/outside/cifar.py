"""Reads CIFAR's binary records: label bytes, then 1,024 red, 1,024 green and 1,024 blue bytes."""

from pathlib import Path

import numpy as np

PIXELS = 3 * 32 * 32


def read_records(path, label_bytes):
    """Returns (images `[n, 3, 32, 32]` uint8, labels `[n]` int64); of several label bytes the last one counts (CIFAR-100: fine)."""
    raw = np.fromfile(path, dtype=np.uint8)
    size = label_bytes + PIXELS
    if len(raw) == 0 or len(raw) % size:
        raise ValueError(f"{path}: {len(raw)} bytes are no whole number of records of {size}")
    raw = raw.reshape(-1, size)
    return raw[:, label_bytes:].reshape(-1, 3, 32, 32), raw[:, label_bytes - 1].astype(np.int64)


def cifar10(data, part):
    """`part` is `data_batch_1` or `test_batch`."""
    return read_records(Path(data) / "cifar-10-batches-bin" / f"{part}.bin", 1)


def cifar100_train(data):
    return read_records(Path(data) / "cifar-100-binary" / "train.bin", 2)
