#!/usr/bin/env python3
"""Prints the records of measure.py and of mapped.py as tables of docs/results/migrations.md, or writes them between the marks of a document.

    python experiments/migrate/table.py [DOCUMENT]
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKS = {"class-like": ["recall@1", "map"], "item-like": ["recall@1", "mrr@10"]}
WAYS = [
    ("without a write", "bridged", "bridged queries, no write"),
    ("without a write", "dual", "dual queries, no write"),
    ("half", "merged", "half of the rows embedded again, both columns merged"),
    ("all", "new", "all rows embedded again"),
]


def figure(one):
    return f"{one['after']:.3f} | {one['margin']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"


def recall_table(record, task):
    names = TASKS[task]
    head = " | ".join(f"{name} | margin" for name in names)
    lines = [f"| {task} | {head} | finding |", "|---" * (2 * len(names) + 2) + "|"]
    first = record["without a write"]["tasks"][task]["dual"]
    before = " | ".join(f"{first[name]['before']:.3f} |" for name in names)
    lines.append(f"| before: old queries, old vectors | {before} | |")
    for step, way, title in WAYS:
        found = record[step]["tasks"][task][way]
        lines.append(f"| {title} | {' | '.join(figure(found[name]) for name in names)} | {found['finding']} |")
    return lines


def certificate_lines(record):
    lines = []
    for task, names in TASKS.items():
        found = record["certificate"]["tasks"][task]
        one = found[names[0]]
        lines.append(
            f"{task} {names[0]} {one['before']:.3f} before, {one['after']:.3f} by dual queries [{one['low']:+.3f}, {one['high']:+.3f}], "
            f"{one['embedded_again']:.3f} embedded again: {found['finding']}"
        )
    return "; ".join(lines)


def readers_lines(record):
    readers = record["readers"]
    shown = []
    for dims, title in zip(map(str, record["dimensions"]), ["old", "new"]):
        one = readers["by_dimension"][dims]
        shown.append(
            f"{one['queries']:,} by the {title} vectors (recall@1 {one['recall_at_1']:.3f}, median {one['median_ms']:.1f} ms, p99 {one['p99_ms']:.0f} ms)"
        )
    return (
        f"{readers['readers']} readers searched by the view all the time while it was switched and taken back: {readers['queries']:,} queries, "
        f"{', '.join(shown)}, **{readers['failed']} failed**."
    )


def tables(record):
    machine, rows = record["machine"], record["rows"]
    old, new = record["dimensions"]
    lines = [
        f"{rows:,} rows, {old} dimensions to {new}, HNSW indexes with the default settings; PostgreSQL {machine['postgresql']}, pgvector "
        f"{machine['pgvector']}, {machine['threads']} threads ({machine['processor']}), load average {machine['load_average_at_start']:.1f} at the start.",
        "",
        f"Certificate of dual queries on {record['certificate']['gallery_items']:,} rows: {certificate_lines(record)}.",
        "",
    ]
    for task in TASKS:
        lines += [*recall_table(record, task), ""]
    every = record["all"]
    lines += [
        f"Verified: {every['compared']:,} copies compared with the files, {every['different']} differ; the new index finds {every['recall']:.3f} of the nearest 10.",
        "",
        readers_lines(record),
        "",
        "| step | seconds |",
        "|---|---|",
        *(f"| {name} | {seconds:,.1f} |" for name, seconds in record["seconds"].items()),
        "",
    ]
    rates = ", ".join(f"{run['rows_per_second']:,.0f}" for run in record["runs"])
    lines.append(f"Rows per second of the two runs, without the index of the first: {rates}.")
    kept = record["untouched by dual queries"] and record["untouched in the end"]
    lines.append(f"Rows of the table, their places and transaction ids in the end: {'as they were' if kept else 'CHANGED'}.")
    return "\n".join(lines)


def mapped_tables(record):
    """Of mapped.py: what the certificate says of the bridge, and what the database answered after the run."""
    lines = [f"Load average {record['machine']['load_average_at_start']:.1f} at the start.", ""]
    for task, names in TASKS.items():
        head = " | ".join(f"{name} | margin" for name in names)
        lines += [f"| {task} | {head} | finding |", "|---" * (2 * len(names) + 2) + "|"]
        sampled = record["certificate"][task]
        figures = [sampled[name] | {"margin": sampled[name]["after"] - sampled[name]["before"]} for name in names]
        before = " | ".join(f"{one['before']:.3f} |" for one in figures)
        lines.append(f"| before, by the certificate on a sample | {before} | |")
        lines.append(f"| mapped, by the certificate on a sample | {' | '.join(map(figure, figures))} | {sampled['finding']} |")
        if "all" in record:
            found = record["all"]["tasks"][task]["new"]
            before = " | ".join(f"{found[name]['before']:.3f} |" for name in names)
            lines.append(f"| before, answers of the database | {before} | |")
            lines.append(f"| all rows mapped, answers of the database | {' | '.join(figure(found[name]) for name in names)} | {found['finding']} |")
        lines.append("")
    if "all" in record:
        every, run = record["all"], record["run"]
        lines += [
            f"Mapped by the certificate for {record['mapped for']} retrieval: {run['written']:,} rows at {run['rows_per_second']:,.0f} rows/s, "
            f"{every['compared']:,} copies mapped again, {every['different']} differ; the new index finds {every['recall']:.3f} of the nearest 10.",
            "",
        ]
    else:
        answer = record["refused"]
        lines += [
            f"The certificate refuses both tasks, and so does `migrate run --mapped` (exit code {answer['exit_code']}): `{answer['error']}`. "
            f"Tables in the schema after it: {answer['tables']}, that of the owner.",
            "",
        ]
    lines += ["| step | seconds |", "|---|---|", *(f"| {name} | {seconds:,.1f} |" for name, seconds in record["seconds"].items()), ""]
    kept = "as they were" if record["untouched in the end"] else "CHANGED"
    lines.append(f"Rows of the table, their places and transaction ids in the end: {kept}.")
    return "\n".join(lines)


PARTS = {"table.py": ("record.json", tables), "table.py, mapped": ("mapped.json", mapped_tables)}


def main(document):
    content = None if document is None else document.read_text()
    for name, (record, lines) in PARTS.items():
        text = lines(json.loads((HERE / record).read_text()))
        if content is None:
            print(text)
            continue
        begin, end = (f"<!-- experiments/migrate/{name}: {side} -->" for side in ("begin", "end"))
        start = content.index(begin) + len(begin)
        content = f"{content[:start]}\n\n{text}\n\n{content[content.index(end):]}"
    if document is not None:
        part = document.with_name(f"{document.name}.part")
        part.write_text(content)
        part.replace(document)


if __name__ == "__main__":
    if len(sys.argv) > 2 or sys.argv[1:2] == ["--help"]:
        sys.exit(__doc__)
    main(Path(sys.argv[1]) if len(sys.argv) == 2 else None)
