"""The native half. Arrays are float32 in C order; `perennial.bridge` and its neighbours are the half for users."""

import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float32]
Tags: TypeAlias = Sequence[int] | Sequence[str]

__version__: str

class PerennialError(Exception): ...

class NativeBridge:
    @staticmethod
    def fit(
        new: Matrix,
        old: Matrix,
        kind: str,
        *,
        labels: Tags | None,
        ids: Tags | None,
        centred: bool,
        seed: int,
        new_space: str | None,
        old_space: str | None,
    ) -> NativeBridge: ...
    @staticmethod
    def fit_labels(
        new: Matrix,
        new_labels: Tags | None,
        old: Matrix,
        old_labels: Tags | None,
        kind: str,
        *,
        new_space: str | None,
        old_space: str | None,
    ) -> NativeBridge: ...
    @staticmethod
    def load(folder: str | os.PathLike[str]) -> NativeBridge: ...
    def save(self, folder: str | os.PathLike[str]) -> None: ...
    def apply(self, rows: Matrix, check_direction: bool) -> Matrix: ...
    def dual(self, old: Matrix, new: Matrix, weight: float, index: str, check_direction: bool) -> Matrix: ...
    def centre(self, rows: Matrix) -> Matrix: ...
    def inverse(self) -> NativeBridge: ...
    def then(self, next: NativeBridge) -> NativeBridge: ...
    def dual_weight(self, asked: float | None) -> float: ...
    def fit_record(self) -> str: ...
    def spaces(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def sha256(self) -> str: ...

class Evaluation:
    def __new__(
        cls,
        old_queries: Matrix,
        old_gallery: Matrix,
        new_queries: Matrix,
        new_gallery: Matrix | None,
        *,
        query_labels: Tags | None,
        gallery_labels: Tags | None,
        relevance: Sequence[Sequence[int]] | None,
        own: Sequence[int | None] | None,
        fit_new: Matrix | None,
        fit_old: Matrix | None,
        fit_labels: Tags | None,
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
    queries: Matrix,
    gallery: Matrix,
    *,
    query_labels: Tags | None,
    gallery_labels: Tags | None,
    relevance: Sequence[Sequence[int]] | None,
    own: Sequence[int | None] | None,
) -> list[float | None]: ...
def compatibility_metrics(matrix: Sequence[Sequence[float]], ties_count: bool) -> str: ...
def simplex_prototypes(dim: int) -> Matrix: ...
