"""Test data: `data/make.sh` says how it was made."""

import json
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent / "data"


def load(name):
    return np.load(DATA / f"{name}.npy")


def lines(name):
    return (DATA / f"{name}.txt").read_text().splitlines()


def document(name):
    return json.loads((DATA / f"{name}.json").read_text())


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def evaluation():
    """The evaluation set, as `certify` and `advise` take it."""
    sets = {f"{encoder}_{of}": load(f"{encoder}-{of}") for encoder in ("old", "new") for of in ("queries", "gallery")}
    return {**sets, "query_labels": lines("queries-labels"), "gallery_labels": lines("gallery-labels")}


@pytest.fixture(scope="session")
def pairs():
    """Inputs to fit bridges on: by the new encoder, by the old one."""
    return load("new-fit"), load("old-fit")
