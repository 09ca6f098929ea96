#!/usr/bin/env python3
"""The mapped route on the index of measure.py: 200,000 texts by wordllama, mapped into the space of MiniLM-L6 by a bridge, where a certificate allows it.

    VENV/bin/python experiments/migrate/export_texts.py /usr/share/wordnet EXPORTED
    OTHER/bin/python experiments/migrate/mapped.py EXPORTED WORK [RECORD]
    python experiments/migrate/table.py docs/results/migrations.md

The environments and WORK are those of measure.py; RECORD is experiments/migrate/mapped.json without one. Of the new encoder only its queries and its half of
the pairs to fit on are read: this is what is left where the originals are gone. What a certificate refuses is not mapped, and the record says so.
"""

import json
import subprocess
import sys
from pathlib import Path

from measure import HERE, PROGRAM, SAMPLE, SEED, Server, begun, fingerprint, measures

TASKS = ["class-like", "item-like"]


def measure(exported, work, server):
    old, new, program, record, queries, truth, untouched = begun(exported, work, server)

    program.run("bridge", "bridge", "fit", "--from", old / "fit.npz", "--to", new / "fit.npz", "--out", work / "old-to-new")
    certified = program.migrate(
        "certify", "certify", "--route", "mapped", "--bridge", work / "old-to-new", "--sample", SAMPLE, "--seed", SEED, *truth, *queries,
        "--out", work / "mapped.json", codes=(0, 3),
    )
    record["certificate"] = {
        task["task"]: {"finding": task["finding"]}
        | {
            one["measure"]: {"before": one["old"], "after": one["new"]}
            | {bound: next(found for found in one["intervals"] if found["confidence"] == 0.95)[bound] for bound in ("low", "high")}
            for one in task["measures"]
        }
        for task in certified["tasks"]
    }
    # The best task that allows it; an undecided one is mapped with a warning.
    findings = {task: record["certificate"][task]["finding"] for task in TASKS}
    allowed = [task for wanted in ("compatible", "undecided") for task in TASKS if findings[task] == wanted]
    record["mapped for"] = allowed[0] if allowed else None
    if allowed:
        mapped = ["--mapped", work / "old-to-new"]
        permitted = ["--certificate", work / "mapped.json", "--task", allowed[0], "--undecided", "warn"]
        plan = program.migrate("plan", "plan", *mapped, *permitted)
        record["plan"] = {name: plan[name] for name in ("copies_bytes", "index_bytes", "seconds", "quality")}
        run = program.migrate("run", "run", *mapped, *permitted, codes=(0, 3))
        record["run"] = {name: run[name] for name in ("written", "seconds", "rows_per_second", "index_seconds")}
        evaluation = ["--evaluation", "--undecided", "warn", *truth, *queries, "--min-recall", "0.8"]
        found = program.migrate("verify", "verify", *mapped, *evaluation, codes=(0, 3))
        record["all"] = measures(found) | {name: found[name] for name in ("standing", "compared", "different", "recall", "problems")}
        program.migrate("clean", "clean")
    else:
        # What is not certified is not mapped: the run must say so and leave nothing behind.
        record["refused"] = refused(program, "run", "--mapped", work / "old-to-new", "--certificate", work / "mapped.json")
        record["refused"]["tables"] = server.one("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    record["untouched in the end"] = fingerprint(server) == untouched
    return record


def refused(program, *words):
    words = [PROGRAM, "--registry", program.work / "registry", "migrate", words[0], "--table", "items", *words[1:]]
    ended = subprocess.run([str(word) for word in words], env=program.environment, capture_output=True, text=True)
    if ended.returncode == 0:
        sys.exit("a run was allowed that its certificate refuses")
    return {"exit_code": ended.returncode, "error": ended.stderr.strip().splitlines()[0].replace(str(program.work), "WORK")}


def main(exported, work, path):
    work.mkdir(parents=True, exist_ok=True)
    server = Server(work / "server")
    try:
        record = measure(exported, work, server)
    finally:
        server.stop()
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{path}: mapped for {record['mapped for']}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), Path(sys.argv[3]) if len(sys.argv) == 4 else HERE / "mapped.json")
