"""Maps between embedding spaces, and queries by two encoders at once."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ._perennial import NativeBridge
from .arguments import Labels, Rows, optional_ids, optional_tags, rows, tags, whole_number

Matrix = npt.NDArray[np.float32]


class Bridge:
    """A directed map from the space of a new encoder to that of an old one. It never changes once it is fitted.

    ``Bridge.fit(new, old)`` fits one on a few hundred inputs that both encoders have embedded, ``bridge.transform(x)`` gives unit vectors in
    the old space, ``bridge.save(folder)`` and ``Bridge.load(folder)`` use the files of ``perennial bridge``.
    """

    __slots__ = ("_native",)
    _native: NativeBridge

    def __init__(self) -> None:
        raise TypeError("a bridge comes from Bridge.fit(new, old), Bridge.fit_labels(...) or Bridge.load(folder)")

    @classmethod
    def _of(cls, native: NativeBridge) -> Bridge:
        bridge = cls.__new__(cls)
        bridge._native = native
        return bridge

    @classmethod
    def fit(
        cls,
        new: Rows,
        old: Rows,
        kind: str = "auto",
        *,
        labels: Labels | None = None,
        ids: Labels | None = None,
        centred: bool = True,
        seed: int = 0,
        new_space: str | None = None,
        old_space: str | None = None,
    ) -> Bridge:
        """Fits on pairs: row ``i`` of ``new`` ``[n, from_dim]`` and of ``old`` ``[n, to_dim]`` are embeddings of the same input.

        ``kind``: ``auto``, ``identity``, ``centring``, ``orthogonal``, ``ridge:PENALTY``, ``whitened:SHRINKAGE,POWER``,
        ``low_rank:RANK,PENALTY`` or ``lambda_orthogonal:LAMBDA``. ``auto`` fits each kind on most pairs, measures retrieval on the others, and
        fits the best one on all pairs; with ``labels`` ``[n]`` it measures by class, and chooses the weight of dual queries as well.
        ``seed`` draws those held-out pairs. ``ids`` ``[n]``, where they are texts, are recorded, so that a certificate notices inputs that were
        fitted on; rows are recognised by their values anyway. ``centred=False`` subtracts no means.

        Raises ``ValueError`` for rows that are not finite, have length 0 or do not match, fewer than 100 pairs with ``auto``, and kinds
        that do not exist; ``TypeError`` for arrays that hold no numbers.
        """
        native = NativeBridge.fit(
            rows("new", new),
            rows("old", old),
            kind,
            labels=optional_tags("labels", labels),
            ids=optional_ids("ids", ids),
            centred=bool(centred),
            seed=whole_number("seed", seed),
            new_space=new_space,
            old_space=old_space,
        )
        return cls._of(native)

    @classmethod
    def fit_labels(
        cls,
        new: Rows,
        new_labels: Labels,
        old: Rows,
        old_labels: Labels,
        kind: str = "orthogonal",
        *,
        new_space: str | None = None,
        old_space: str | None = None,
    ) -> Bridge:
        """Fits on the means of classes, for two encoders that have embedded different inputs of the same classes."""
        native = NativeBridge.fit_labels(
            rows("new", new),
            tags("new_labels", new_labels),
            rows("old", old),
            tags("old_labels", old_labels),
            kind,
            new_space=new_space,
            old_space=old_space,
        )
        return cls._of(native)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Bridge:
        """Reads a bridge's folder. Raises ``PerennialError`` if it is damaged, ``FileNotFoundError`` if it is not there."""
        return cls._of(NativeBridge.load(Path(folder)))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes ``bridge.toml`` and ``weights.safetensors``, as a whole or not at all. A bridge in the folder is replaced, anything else
        is not (``PerennialError``)."""
        self._native.save(Path(folder))

    def transform(self, x: Rows, *, check_direction: bool = True) -> Matrix:
        """Maps rows ``[n, from_dim]`` to unit rows ``[n, to_dim]``. A row's result does not depend on the others.

        From 32 rows on, embeddings of the target space are noticed and refused; ``check_direction=False`` maps them all the same.
        """
        return self._native.apply(rows("x", x), bool(check_direction))

    def centre(self, x: Rows) -> Matrix:
        """Centres stored rows of the old space ``[n, to_dim]`` with the bridge's mean, for an index that is built anew."""
        return self._native.centre(rows("x", x))

    def inverse(self) -> Bridge:
        """The bridge of the other direction."""
        return self._of(self._native.inverse())

    def then(self, following: Bridge) -> Bridge:
        """The chain of this bridge and one that leads on from its target."""
        return self._of(self._native.then(expect_bridge("following", following)._native))

    @property
    def kind(self) -> str:
        """How it was fitted, such as ``ridge:0.001``; of a chain, its parts."""
        return self._native.kind

    @property
    def from_dim(self) -> int:
        """Dimension of the rows that it takes."""
        return int(self.spaces[0]["dim"])

    @property
    def to_dim(self) -> int:
        """Dimension of the rows that it gives."""
        return int(self.spaces[1]["dim"])

    @property
    def spaces(self) -> list[dict[str, Any]]:
        """Both ends: ``dim``, and ``id`` and ``fingerprint`` where they are known."""
        ends: list[dict[str, Any]] = json.loads(self._native.spaces())
        return ends

    @property
    def fit_record(self) -> dict[str, Any]:
        """What it was fitted on and what was tried: the table ``fit`` of its ``bridge.toml``."""
        record: dict[str, Any] = json.loads(self._native.fit_record())
        return record

    @property
    def dual_weight(self) -> float:
        """The old query's share in dual queries: what labels chose when it was fitted, else 0.5."""
        return self._native.dual_weight(None)

    @property
    def sha256(self) -> str:
        """Identifies it; a certificate names it."""
        return self._native.sha256

    def __repr__(self) -> str:
        return f"<Bridge {self.kind}, {self.from_dim} -> {self.to_dim} dimensions, {self.fit_record['pairs']} pairs>"

    def __eq__(self, other: object) -> bool:
        return self.sha256 == other.sha256 if isinstance(other, Bridge) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __reduce__(self) -> tuple[Any, tuple[dict[str, bytes], type[Bridge]]]:
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder)
            return _unpickled, ({path.name: path.read_bytes() for path in Path(folder).iterdir()}, type(self))


def _unpickled(files: dict[str, bytes], kind: type[Bridge] = Bridge) -> Bridge:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("bridge.toml", "weights.safetensors"):
            Path(folder, name).write_bytes(files[name])
        return kind.load(folder)


def expect_bridge(name: str, bridge: object) -> Bridge:
    """The same bridge; anything else is refused."""
    if not isinstance(bridge, Bridge):
        raise TypeError(f"{name}: expected a Bridge, found {type(bridge).__name__}; Bridge.load(folder) reads one")
    return bridge


class DualQuery:
    """Queries by both encoders: ``unit(weight * old + (1 - weight) * bridge(new))``, one vector in the old space.

    ``weight`` is the old query's share, from 0 to 1; without it, the bridge's :attr:`Bridge.dual_weight`. ``index`` is ``raw`` for stored
    vectors as they are and ``centred`` for ones that :meth:`Bridge.centre` has centred.
    """

    def __init__(self, bridge: Bridge, weight: float | None = None, *, index: str = "raw") -> None:
        self.bridge = expect_bridge("bridge", bridge)
        self.weight = bridge._native.dual_weight(None if weight is None else float(weight))
        self.index = index
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight {self.weight}: use a number from 0 (only the bridged query) to 1 (only the old query)")
        if index not in ("raw", "centred"):
            raise ValueError(f'index {index!r}: use "raw" or "centred"')

    def transform(self, old_queries: Rows, new_queries: Rows, *, check_direction: bool = True) -> Matrix:
        """Row ``i`` of ``old_queries`` ``[n, to_dim]`` and of ``new_queries`` ``[n, from_dim]`` are the same query; gives ``[n, to_dim]``."""
        old, new = rows("old_queries", old_queries), rows("new_queries", new_queries)
        return self.bridge._native.dual(old, new, self.weight, self.index, bool(check_direction))

    def __repr__(self) -> str:
        return f"<DualQuery weight {self.weight}, {self.index} index, {self.bridge!r}>"
