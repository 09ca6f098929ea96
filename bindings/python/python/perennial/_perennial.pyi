"""The native half. Arrays are float32 in C order; `perennial.bridge` and its neighbours are the half for users."""

import os
from collections.abc import Callable, Sequence
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

_Matrix: TypeAlias = npt.NDArray[np.float32]
_Tags: TypeAlias = Sequence[int] | Sequence[str]

__all__ = [
    "__version__",
    "PerennialError",
    "NativeBridge",
    "Evaluation",
    "measures",
    "compatibility_metrics",
    "simplex_prototypes",
    "write_text",
]

__version__: str

class PerennialError(Exception): ...

@final
class NativeBridge:
    @staticmethod
    def fit(
        new: _Matrix,
        old: _Matrix,
        kind: str,
        *,
        labels: _Tags | None,
        ids: _Tags | None,
        centred: bool,
        seed: int,
        new_space: str | None,
        old_space: str | None,
    ) -> NativeBridge: ...
    @staticmethod
    def fit_labels(
        new: _Matrix,
        new_labels: _Tags,
        old: _Matrix,
        old_labels: _Tags,
        kind: str,
        *,
        new_space: str | None,
        old_space: str | None,
    ) -> NativeBridge: ...
    @staticmethod
    def load(folder: str | os.PathLike[str]) -> NativeBridge: ...
    def save(self, folder: str | os.PathLike[str]) -> None: ...
    def apply(self, rows: _Matrix, check_direction: bool) -> _Matrix: ...
    def dual(self, old: _Matrix, new: _Matrix, weight: float, index: str, check_direction: bool) -> _Matrix: ...
    def centre(self, rows: _Matrix) -> _Matrix: ...
    def inverse(self) -> NativeBridge: ...
    def then(self, next: NativeBridge) -> NativeBridge: ...
    def dual_weight(self, asked: float | None) -> float: ...
    def fit_record(self) -> str: ...
    def spaces(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def sha256(self) -> str: ...

@final
class Evaluation:
    def __new__(
        cls,
        old_queries: _Matrix,
        old_gallery: _Matrix,
        new_queries: _Matrix,
        new_gallery: _Matrix | None,
        *,
        query_labels: _Tags | None,
        gallery_labels: _Tags | None,
        relevance: Sequence[Sequence[int]] | None,
        own: Sequence[int | None] | None,
        fit_new: _Matrix | None,
        fit_old: _Matrix | None,
        fit_labels: _Tags | None,
        new_space: str | None,
        old_space: str | None,
    ) -> Evaluation: ...
    def certify(
        self,
        bridge: NativeBridge | None,
        *,
        route: str | None,
        weight: float | None,
        index: str,
        kind: str,
        min_margin: float,
        max_negative_flips: float | None,
        alpha: float,
        resamples: int,
        seed: int,
    ) -> str: ...
    def advise(
        self,
        *,
        items: int | None,
        items_per_second: float | None,
        price_per_thousand: float | None,
        min_margin: float,
        max_negative_flips: float | None,
        alpha: float,
        resamples: int,
        seed: int,
        progress: Callable[[str], object] | None,
    ) -> str: ...

def measures(
    names: Sequence[str],
    queries: _Matrix,
    gallery: _Matrix,
    *,
    query_labels: _Tags | None,
    gallery_labels: _Tags | None,
    relevance: Sequence[Sequence[int]] | None,
    own: Sequence[int | None] | None,
) -> list[float | None]: ...
def compatibility_metrics(matrix: Sequence[Sequence[float]], ties_count: bool) -> str: ...
def simplex_prototypes(dim: int) -> _Matrix: ...
def write_text(path: str | os.PathLike[str], text: str) -> None: ...
