"""What a measurement found. Every result keeps the whole document: `to_dict()` is the JSON of the command line."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._perennial import write_text


@dataclass(frozen=True)
class Measured:
    """One measure of a search, compared with the old encoder's own queries."""

    measure: str
    """``ncm``, ``recall@1``, ``map``, …"""
    queries: int
    new: float
    """Of the search."""
    old: float
    """Of the old encoder's own queries."""
    margin: float
    """``new - old``"""
    interval: tuple[float, float]
    """Of the margin, at the confidence that was demanded."""
    verdict: str
    decides: bool
    """Whether it is one of the measures that decide."""
    positive_flips: float
    """Share of the queries that were wrong before and are right now."""
    negative_flips: float
    """Share of the queries that were right before and are wrong now."""
    p_not_worse: float
    new_self_test: float | None
    """Of the new encoder's queries on its own gallery, where that was passed."""
    upgrade_recovery: float | None
    """``(new - old) / (new_self_test - old)``"""


def _measured(documents: list[dict[str, Any]], confidence: float) -> dict[str, Measured]:
    found = {}
    for document in documents:
        bounds = min(document["intervals"], key=lambda one: abs(one["confidence"] - confidence))
        found[document["measure"]] = Measured(
            measure=document["measure"],
            queries=document["queries"],
            new=document["new"],
            old=document["old"],
            margin=document["margin"],
            interval=(bounds["low"], bounds["high"]),
            verdict=document["verdict"],
            decides=document["decides"],
            positive_flips=document["positive_flips"],
            negative_flips=document["negative_flips"],
            p_not_worse=document["p_not_worse"],
            new_self_test=document.get("new_self_test"),
            upgrade_recovery=document.get("upgrade_recovery"),
        )
    return found


class _Document:
    """A result that is a document of the command line."""

    _text: str

    def to_dict(self) -> dict[str, Any]:
        """The whole document, as ``--json`` prints it."""
        document: dict[str, Any] = json.loads(self._text)
        return document

    def to_json(self) -> str:
        """The whole document as text."""
        return self._text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the document, as ``--out`` does: as a whole or not at all. A file that is there is replaced."""
        write_text(Path(path), self._text)


@dataclass(frozen=True)
class CertifiedTask:
    """The result for one kind of retrieval."""

    task: str
    """``class-like`` or ``item-like``"""
    finding: str
    reasons: list[str]
    """Why it is not compatible."""
    answerable_queries: int
    measures: dict[str, Measured]


@dataclass(frozen=True)
class Certificate(_Document):
    """Whether queries of the new encoder may search what the old one stored."""

    finding: str
    """``compatible``, ``undecided``, ``cannot-tell`` or ``incompatible``: the worst of all tasks."""
    route: str
    weight: float | None
    """The old query's share in dual queries."""
    index: str
    bridge: dict[str, Any] | None
    """``kind``, ``sha256`` and ``pairs``"""
    queries: int
    gallery_items: int
    tasks: dict[str, CertifiedTask]
    agreement_at_10: float | None
    warnings: list[str]
    sha256: str
    """Of the document."""
    _text: str = field(repr=False)

    @property
    def compatible(self) -> bool:
        """Whether the finding is ``compatible``."""
        return self.finding == "compatible"

    @classmethod
    def _of(cls, text: str) -> Certificate:
        document = json.loads(text)
        confidence = document["demands"]["confidence"]
        tasks = {
            one["task"]: CertifiedTask(
                task=one["task"],
                finding=one["finding"],
                reasons=one.get("reasons", []),
                answerable_queries=one["answerable_queries"],
                measures=_measured(one["measures"], confidence),
            )
            for one in document["tasks"]
        }
        return cls(
            finding=document["finding"],
            route=document["route"]["kind"],
            weight=document["route"].get("weight"),
            index=document["index"],
            bridge=document.get("bridge"),
            queries=document["queries"],
            gallery_items=document["gallery_items"],
            tasks=tasks,
            agreement_at_10=document.get("agreement_at_10"),
            warnings=document.get("warnings", []),
            sha256=document["sha256"],
            _text=text,
        )


@dataclass(frozen=True)
class Way:
    """One way to handle the upgrade, measured."""

    kind: str
    name: str
    route: str | None
    weight: float | None
    index: str
    bridge: str | None
    finding: str
    reasons: list[str]
    measures: dict[str, Measured]
    cost: dict[str, Any]

    @property
    def margin(self) -> float:
        """Mean margin of the deciding measures over doing nothing."""
        margins = [one.margin for one in self.measures.values() if one.decides]
        return sum(margins) / max(len(margins), 1)


@dataclass(frozen=True)
class TaskAdvice:
    """The advice for one kind of retrieval."""

    task: str
    recommendation: str
    """The name of the way that pays."""
    reason: str
    ways: list[Way]
    """The best first."""
    tuning_queries: int
    judging_queries: int
    curve: list[dict[str, Any]]
    """Quality by share of the gallery embedded again."""

    @property
    def recommended(self) -> Way | None:
        """The way that pays, where it is one of those that were measured."""
        return next((way for way in self.ways if way.name == self.recommendation), None)


@dataclass(frozen=True)
class Advice(_Document):
    """Which way to handle an upgrade pays."""

    tasks: dict[str, TaskAdvice]
    fit_pairs: int
    _text: str = field(repr=False)

    @classmethod
    def _of(cls, text: str) -> Advice:
        document = json.loads(text)
        confidence = document["demands"]["confidence"]
        tasks = {}
        for one in document["tasks"]:
            ways = [_way(way, confidence) for way in one["ways"]]
            tasks[one["task"]] = TaskAdvice(
                task=one["task"],
                recommendation=one["recommendation"]["way"],
                reason=one["recommendation"]["reason"],
                ways=ways,
                tuning_queries=one["tuning_queries"],
                judging_queries=one["judging_queries"],
                curve=copy.deepcopy(one["curve"]),
            )
        return cls(tasks=tasks, fit_pairs=document["fit_pairs"], _text=text)


def _way(document: dict[str, Any], confidence: float) -> Way:
    route = document.get("route") or {}
    return Way(
        kind=document["kind"],
        name=document["name"],
        route=route.get("kind"),
        weight=route.get("weight"),
        index=document["index"],
        bridge=document.get("bridge"),
        finding=document["finding"],
        reasons=document.get("reasons", []),
        measures=_measured(document["measures"], confidence),
        cost=document["cost"],
    )
