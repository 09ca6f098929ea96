#!/usr/bin/env python3
"""From an empty machine: an index of 200,000 texts in PostgreSQL moves from wordllama to MiniLM-L6 and back, by `perennial migrate`.

    experiments/outside/setup.sh VENV && apt-get install wordnet-base
    VENV/bin/python experiments/migrate/export_texts.py /usr/share/wordnet EXPORTED
    python3 -m venv OTHER && OTHER/bin/pip install -r experiments/migrate/requirements.txt
    OTHER/bin/python experiments/migrate/measure.py EXPORTED WORK [RECORD]
    python experiments/migrate/table.py docs/results/migrations.md

WORK is an empty folder for the server's data and for bridges and certificates; the server is stopped in the end, and its data removed. RECORD is
experiments/migrate/record.json without one. PERENNIAL names another binary than target/release/perennial.

The steps: a table with an HNSW index; a bridge from other texts; a certificate on a sample of the table; dual queries asked of the table, without a
write; half of the new embeddings, searched and merged with the old ones; all of them, verified; a switch of the view and back while readers
search by it. Each reader asks, in one transaction, which dimension the view shows, and searches with that encoder's query.
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psycopg

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = os.environ.get("PERENNIAL", str(ROOT / "target/release/perennial"))
SAMPLE, SEED = 10_000, 7
READERS, SHOWN_SECONDS = 2, 15
LABELS = ["--label-column", "category"]


class Server:
    """A PostgreSQL with pgvector of its own."""

    def __init__(self, folder):
        self.folder = str(folder)
        start = [str(ROOT / "tests/postgres.sh"), "start", self.folder]
        self.url = subprocess.run(start, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]

    def connect(self):
        return psycopg.connect(self.url, autocommit=True)

    def one(self, sql):
        with self.connect() as connection:
            return connection.execute(sql).fetchone()[0]

    def stop(self):
        subprocess.run([str(ROOT / "tests/postgres.sh"), "stop", self.folder], check=True)


class Program:
    """The program, with times."""

    def __init__(self, server, work):
        self.environment = os.environ | {"PERENNIAL_DATABASE_URL": server.url}
        self.work, self.seconds = work, {}

    def run(self, name, *words, codes=(0,)):
        words = [PROGRAM, "--registry", str(self.work / "registry"), *map(str, words), "--json"]
        print(f"{name}: {' '.join(words[3:-1])}", flush=True)
        began = time.monotonic()
        ended = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        self.seconds[name] = time.monotonic() - began
        if ended.returncode not in codes:
            sys.exit(f"{name} ended with {ended.returncode}: {ended.stderr}{ended.stdout}")
        print(f"  {self.seconds[name]:.1f} s", flush=True)
        return json.loads(ended.stdout)

    def migrate(self, name, step, *words, codes=(0,)):
        return self.run(name, "migrate", step, "--table", "items", *words, codes=codes)


def fill(server, gallery):
    """The table as its owner made it; returns seconds of loading and of the index."""
    with server.connect() as connection:
        # The index of 200,000 vectors of 384 values is built in memory.
        connection.execute("ALTER SYSTEM SET maintenance_work_mem = '1GB'")
        connection.execute("SELECT pg_reload_conf()")
    with server.connect() as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute(f"CREATE TABLE items (id bigint PRIMARY KEY, category integer, embedding vector({gallery['embeddings'].shape[1]}))")
        began = time.monotonic()
        with connection.cursor().copy("COPY items FROM STDIN") as copy:
            for row, category, vector in zip(gallery["ids"], gallery["labels"], gallery["embeddings"]):
                copy.write_row((int(row), int(category), "[" + ",".join(map(repr, vector.tolist())) + "]"))
        loaded = time.monotonic()
        connection.execute("CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)")
        connection.execute("ANALYZE items")
        return loaded - began, time.monotonic() - loaded


def fingerprint(server):
    """Everything that a migration must leave alone: rows with their transaction ids and places."""
    return server.one("SELECT md5(string_agg(md5(concat_ws('|', t.ctid, t.xmin, t.*)), ',' ORDER BY t.ctid)) FROM items t")


class Readers:
    """Programs that search by the view all the time."""

    def __init__(self, server, queries):
        self.server, self.queries = server, queries
        self.stopping = threading.Event()
        self.answers, self.failed = [], []
        self.threads = [threading.Thread(target=self.read, args=(number,)) for number in range(READERS)]

    def read(self, number):
        rng = np.random.default_rng(number)
        connection = psycopg.connect(self.server.url)
        while not self.stopping.is_set():
            query = int(rng.integers(len(self.queries["labels"])))
            began = time.monotonic()
            try:
                with connection.transaction():
                    # The view cannot be replaced between the two statements: the first one's lock is held to the end of the transaction.
                    dims = connection.execute("SELECT vector_dims(embedding) FROM items_live LIMIT 1").fetchone()[0]
                    vector = self.queries[dims][query]
                    rows = connection.execute(
                        "SELECT category FROM items_live ORDER BY embedding <=> %s::vector LIMIT 10", (vector,)
                    ).fetchall()
                right = len(rows) == 10 and rows[0][0] == self.queries["labels"][query]
                self.answers.append((time.monotonic(), time.monotonic() - began, dims, right))
                if len(rows) != 10:
                    self.failed.append(f"{len(rows)} rows")
            except psycopg.Error as error:
                self.failed.append(str(error))
                connection.close()
                connection = psycopg.connect(self.server.url)
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def report(self, dims):
        answers = {shown: [answer for answer in self.answers if answer[2] == shown] for shown in dims}
        return {
            "readers": READERS,
            "queries": len(self.answers),
            "failed": len(self.failed),
            "first_failures": self.failed[:3],
            "by_dimension": {
                shown: {
                    "queries": len(some),
                    "recall_at_1": float(np.mean([answer[3] for answer in some])) if some else None,
                    "median_ms": float(np.median([answer[1] for answer in some]) * 1e3) if some else None,
                    "p99_ms": float(np.quantile([answer[1] for answer in some], 0.99) * 1e3) if some else None,
                }
                for shown, some in answers.items()
            },
        }


def texts(vectors):
    return ["[" + ",".join(map(repr, vector.tolist())) + "]" for vector in vectors]


def measures(result):
    """What an evaluation found, without the groups."""
    found = {}
    for way in result["evaluation"]["ways"]:
        one = {"finding": way["finding"]}
        for measured in way["measures"]:
            interval = next(one for one in measured["intervals"] if one["confidence"] == 0.95)
            one[measured["measure"]] = {
                "before": measured["old"],
                "after": measured["new"],
                "margin": measured["margin"],
                "low": interval["low"],
                "high": interval["high"],
            }
        found.setdefault(way["task"], {})[way["way"]] = one
    return {"now": result["evaluation"]["now"], "finding": result["evaluation"]["finding"], "tasks": found}


def machine(server):
    processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "processor": processor.split(": ", 1)[1],
        "threads": os.cpu_count(),
        "load_average_at_start": os.getloadavg()[0],
        "system": platform.system(),
        "postgresql": server.one("SHOW server_version"),
        "pgvector": server.one("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"),
    }


def begun(exported, work, server):
    """The table of the old vectors with its index: folders, the program, the record so far, options for queries and truth, the table's fingerprint."""
    old, new = exported / "wordllama", exported / "minilm"
    program = Program(server, work)
    record = {"machine": machine(server), "seconds": program.seconds}
    gallery = np.load(old / "gallery.npz")
    gallery = {name: gallery[name] for name in ("ids", "labels", "embeddings")}
    record["rows"] = len(gallery["ids"])
    record["dimensions"] = [np.load(folder / "queries.npz")["embeddings"].shape[1] for folder in (old, new)]
    program.seconds["load"], program.seconds["index of the old vectors"] = fill(server, gallery)
    del gallery
    queries = ["--old-queries", old / "queries.npz", "--new-queries", new / "queries.npz"]
    truth = [*LABELS, "--relevance", exported / "relevance.trec"]
    return old, new, program, record, queries, truth, fingerprint(server)


def measure(exported, work, server):
    old, new, program, record, queries, truth, untouched = begun(exported, work, server)

    program.run("bridge", "bridge", "fit", "--from", new / "fit.npz", "--to", old / "fit.npz", "--out", work / "new-to-old")
    bridge = ["--bridge", work / "new-to-old"]
    certified = program.migrate(
        "certify", "certify", "--route", "dual", *bridge, "--sample", SAMPLE, "--seed", SEED, *truth, *queries,
        "--new-gallery", new / "gallery.npz", "--out", work / "dual.json", codes=(0, 3),
    )
    record["certificate"] = {
        "gallery_items": certified["gallery_items"],
        "tasks": {
            task["task"]: {"finding": task["finding"]}
            | {
                one["measure"]: {
                    "before": one["old"],
                    "after": one["new"],
                    "low": next(bound for bound in one["intervals"] if bound["confidence"] == 0.95)["low"],
                    "high": next(bound for bound in one["intervals"] if bound["confidence"] == 0.95)["high"],
                    "embedded_again": one.get("new_self_test"),
                }
                for one in task["measures"]
            }
            for task in certified["tasks"]
        },
    }
    plan = program.migrate("plan", "plan", "--dim", record["dimensions"][1], "--measured", work / "dual.json")
    record["plan"] = {name: plan[name] for name in ("copies_bytes", "index_bytes", "seconds", "quality")}

    evaluation = ["--evaluation", "--undecided", "warn", *truth, *queries, *bridge, "--min-recall", "0.8"]
    found = program.migrate("dual queries, no write", "verify", *evaluation, codes=(0, 3))
    record["without a write"] = measures(found)
    tables = server.one("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    record["untouched by dual queries"] = tables == 1 and fingerprint(server) == untouched

    runs = []
    runs.append(program.migrate("side by side, first half", "run", "--side-by-side", new / "portion-1.npz"))
    found = program.migrate("evaluation, half", "verify", *evaluation, codes=(0, 3))
    record["half"] = measures(found)
    runs.append(program.migrate("side by side, second half", "run", "--side-by-side", new / "portion-2.npz"))
    record["runs"] = [{name: run[name] for name in ("written", "seconds", "rows_per_second", "index_seconds")} for run in runs]
    files = ["--side-by-side", new / "portion-1.npz", new / "portion-2.npz"]
    found = program.migrate("verify, all", "verify", *evaluation, *files, codes=(0, 3))
    record["all"] = measures(found) | {name: found[name] for name in ("standing", "compared", "different", "recall", "problems")}

    program.migrate("view", "rollback", "--view", "items_live")
    of_old, of_new = np.load(old / "queries.npz"), np.load(new / "queries.npz")
    asked = {"labels": of_old["labels"]} | {rows["embeddings"].shape[1]: texts(rows["embeddings"]) for rows in (of_old, of_new)}
    with Readers(server, asked) as readers:
        time.sleep(SHOWN_SECONDS)
        program.migrate("switch", "switch")
        switched = time.monotonic()
        time.sleep(SHOWN_SECONDS)
        program.migrate("rollback", "rollback")
        back = time.monotonic()
        time.sleep(SHOWN_SECONDS)
    record["readers"] = readers.report(record["dimensions"])
    # What was shown once the commands had ended: the new vectors until the rollback began, and the old ones after it.
    late = [answer for answer in readers.answers if switched + 1 < answer[0] < switched + SHOWN_SECONDS - 1]
    record["readers"]["all new after the switch"] = bool(late) and all(answer[2] == record["dimensions"][1] for answer in late)
    late = [answer for answer in readers.answers if answer[0] > back + 1]
    record["readers"]["all old after the rollback"] = bool(late) and all(answer[2] == record["dimensions"][0] for answer in late)
    program.migrate("clean", "clean")
    record["untouched in the end"] = fingerprint(server) == untouched
    return record


def main(exported, work, path):
    work.mkdir(parents=True, exist_ok=True)
    server = Server(work / "server")
    try:
        record = measure(exported, work, server)
    finally:
        server.stop()
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{path}: {record['readers']['failed']} failed queries of {record['readers']['queries']}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), Path(sys.argv[3]) if len(sys.argv) == 4 else HERE / "record.json")
