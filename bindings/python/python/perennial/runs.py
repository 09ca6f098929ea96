"""Readers of what trainings and benchmarks leave on disk, as lists of dicts; :func:`to_frame` makes a pandas DataFrame of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._perennial import PerennialError

if TYPE_CHECKING:
    import pandas

Record = dict[str, Any]

# Versions of the files that are read.
_VERSIONS = {"run.json": (1,), "compatibility.json": (1, 2), "benchmark.json": (1, 2)}
_MAX_BYTES = 256 << 20


def read_run(folder: str | os.PathLike[str]) -> Record:
    """A run's ``run.json``, with ``folder`` and, where the run has been evaluated, the content of its ``compatibility.json``."""
    folder = Path(folder)
    record = {"folder": str(folder), **_read(folder / "run.json")}
    report = folder / "compatibility.json"
    if report.exists():
        record["compatibility"] = _read(report)
    return record


def read_runs(folder: str | os.PathLike[str]) -> list[Record]:
    """Every run below a folder such as ``runs``, by path."""
    return [read_run(path.parent) for path in _below(folder, "run.json")]


def read_epochs(folder: str | os.PathLike[str]) -> list[Record]:
    """The lines of ``metrics.jsonl`` of every run below a folder, each with its ``run``: loss, accuracy, learning rate, speed.

    A training may be at work: a last line that is not written to its end yet is left out.
    """
    epochs = []
    for path in _below(folder, "metrics.jsonl"):
        lines = _text(path).split("\n")
        # Behind the last line break stands nothing, or a line that is being written.
        for number, line in enumerate(lines[:-1], start=1):
            if line.strip():
                epochs.append({"run": path.parent.name, **_parse(line, f"{path}, line {number}")})
    return epochs


def read_benchmark(folder: str | os.PathLike[str]) -> list[Record]:
    """The records of ``perennial bench compatibility``, one for each run that has been measured.

    They are read below a folder of runs such as ``runs/cpu``, where each is its run's ``benchmark.json``, or below a folder of records such as
    ``experiments/bench/records/cpu``, where a file has the run's name.
    """
    return [record for record in map(_record, _below(folder, "*.json")) if record is not None]


def to_frame(records: list[Record]) -> pandas.DataFrame:
    """A table with one row for each record; keys of nested dicts are joined by dots, such as ``metrics.average_accuracy``. Needs pandas."""
    try:
        import pandas
    except ImportError:
        raise ImportError('to_frame needs pandas: pip install "perennial[pandas]"') from None
    return pandas.json_normalize(records)


def _below(folder: str | os.PathLike[str], name: str) -> Iterator[Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; name a run's folder, or one that holds runs")
    return iter(sorted(folder.rglob(name)))


def _record(path: Path) -> Record | None:
    """The benchmark's record in a file, if it is one: by its name, and by what it says of itself where another file could have that name."""
    if path.name == "benchmark.json":
        return _read(path)
    # SCENARIO.METHOD.SEED.json
    if path.name.count(".") < 3:
        return None
    record = _parse(_text(path), str(path))
    return _checked(path, record, "benchmark.json") if record.get("run") == path.stem and "values" in record else None


def _read(path: Path) -> Record:
    return _checked(path, _parse(_text(path), str(path)), path.name)


def _checked(path: Path, record: Record, kind: str) -> Record:
    version, known = record.get("schema_version"), _VERSIONS[kind]
    if version not in known:
        names = " and ".join(map(str, known))
        raise PerennialError(f"{path}: schema_version is {version}, this package reads {names}; use a newer one")
    return record


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise PerennialError(f"{path}: is larger than {_MAX_BYTES} bytes; no such record is")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise PerennialError(f"{path}: is not UTF-8 text") from None


def _parse(text: str, place: str) -> Record:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise PerennialError(f"{place}: is damaged: {error}") from None
    if not isinstance(record, dict):
        raise PerennialError(f"{place}: is damaged: expected an object")
    return record
