#!/usr/bin/env python3
"""A service over a gallery of two spaces, joined by dual queries or mapped vectors: swapped under load, or killed at random moments.

    experiments/served-faults.py WORK swaps [--rounds 1000] [--clients 3] [--rest 30] [--pause 0.02]
    experiments/served-faults.py WORK builds [--rounds 5] [--clients 3] [--rest 30] [--items 100000] [--hnsw-from 50000]
    experiments/served-faults.py WORK kills [--rounds 1000]

Two small networks are trained on generated pictures, in spaces of their own, with certificates in both directions (of dual queries, or of route
mapped for `builds`); WORK keeps them. PERENNIAL names another program than target/release/perennial.

- swaps: the live version is moved to and fro while clients search with pictures. Every search must succeed, come from one of both versions, and
  reach all items. Reports the time of searches before the first swap, from the first to the last, and after it (--rest seconds before and after),
  and of those in between that ran beside a swap, and of the others.
- builds: in every round the service starts with the version that all items are of, which is then moved to the other one, for which they are
  mapped; after that the mapped vectors get a graph. Reports the time of searches that begin in the --rest seconds before, from the order to move
  until it is answered (the vectors are mapped by then), from then until the graph has all of them, and in the --rest seconds after that. Needs
  numpy, which makes the items: embeddings of the generated pictures with noise.
- kills: in every round the service starts, the gallery is compared with what was acknowledged, and then it writes, deletes, moves the live version,
  backfills and compacts at the same time until SIGKILL hits it after 0.05 to 1.2 seconds. Nothing acknowledged may be lost, nothing deleted may
  come back, and every item is there once, in one space. The state is kept in WORK/kills.json after each round.

The service listens on loopback. The last line is the record as JSON, which WORK/swaps-record.json and the like hold as well.
"""

import argparse
import atexit
import base64
import http.client
import json
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("PERENNIAL", str(ROOT / "target/release/perennial"))
MODEL = """
name = "NAME"
seed = SEED
[data]
set = "generated"
generated = { classes = 8, images_per_class = 32 }
[network]
backbone = "small"
width = 16
[method]
kind = "er"
[training]
epochs = 2
batch_size = 32
"""
CLASSES = 8
PHOTOS = {"photos": 320, "queries": 160, "fit": 600}


def fail(text):
    sys.exit(f"served-faults: {text}")


def png(path, cls, random):
    """Stripes in the colours of a class, shifted and noisy."""
    side, shift, width = 32, random.randrange(32), 3 + cls
    colours = [((37 * cls + 90 * k) % 256, (91 * cls + 60 * k) % 256, (53 * cls + 130 * k) % 256) for k in range(2)]
    rows = b""
    for y in range(side):
        row = bytearray()
        for x in range(side):
            row += bytes(min(255, max(0, v + random.randrange(-40, 41))) for v in colours[((x + y * (cls % 3) + shift) // width) % 2])
        rows += b"\0" + bytes(row)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


class Work:
    def __init__(self, folder, route):
        self.folder, self.route = folder, route
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PERENNIAL")} | {"PERENNIAL_DEVICE": "cpu"}
        if not (folder / "prepared").exists():
            self.prepare()
        self.photos = sorted((folder / "photos").rglob("*.png"))
        self.names = {alias: json.loads(self.run("--json", "models", "show", alias))["name"] for alias in ("old", "new")}
        self.queries = [base64.b64encode(file.read_bytes()).decode() for file in sorted((folder / "queries").rglob("*.png"))]

    def run(self, *arguments, allowed=(0,)):
        done = subprocess.run([PROGRAM, "--quiet", *map(str, arguments)], cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if done.returncode not in allowed:
            fail(f"{' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def prepare(self):
        moments = random.Random(0)
        number = 0  # no two pictures of different folders have one name: a certificate cannot tell where the bridge knows the queries
        for name, count in PHOTOS.items():
            for number in range(number, number + count):
                png(self.folder / name / f"class-{number % CLASSES}" / f"{number:04}.png", number % CLASSES, moments)
            number += 1
        for name, seed in (("old", 1), ("new", 2)):
            (self.folder / f"{name}.toml").write_text(MODEL.replace("NAME", name).replace("SEED", str(seed)))
            self.run("pretrain", f"{name}.toml")
            for photos in PHOTOS:
                self.run("embed", name, "--set", f"folder:{photos}", "--out", f"{name}-{photos}.npz")
        route = {"dual": ["--weight", "0.5", "--kind", "orthogonal"], "mapped": ["--kind", "ridge:0.001"]}[self.route]
        for old, new in (("old", "new"), ("new", "old")):
            self.run("certify", "--record", "--route", self.route, *route, "--out", f"{new}-to-{old}.json",
                     "--old-queries", f"{old}-queries.npz", "--old-gallery", f"{old}-photos.npz", "--new-queries", f"{new}-queries.npz",
                     "--new-gallery", f"{new}-photos.npz", "--fit-from", f"{new}-fit.npz", "--fit-to", f"{old}-fit.npz", allowed=(0, 3))
        self.run("models", "alias", "live", "old", "--no-gallery")
        (self.folder / "prepared").touch()

    def new_gallery(self, name):
        gallery = self.folder / name
        shutil.rmtree(gallery, ignore_errors=True)
        gallery.mkdir()
        # What is tried is that nothing is lost, not which of two small networks is better.
        (gallery / "policy.toml").write_text("min_margin = -1.0\n")
        return gallery


class Service:
    def __init__(self, work, gallery, log, *options):
        self.log = open(log, "a")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--gallery", gallery, "--listen", "127.0.0.1:0", *options], cwd=work.folder, env=work.environment, stdout=subprocess.PIPE,
            stderr=self.log, text=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            fail(f"the service does not start; {log} says why")
        self.address = self.url.removeprefix("http://").strip("/")

    def client(self):
        return Client(self.address)

    def end(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Client:
    """One connection."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=60)

    def ask(self, method, path, body=None):
        """Status, answer, and the version that answered."""
        self.connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
        answer = self.connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None, answer.getheader("x-model-version")

    def need(self, method, path, body=None):
        status, answer, _ = self.ask(method, path, body)
        if status >= 300:
            fail(f"{method} {path}: {status} {answer}")
        return answer

    def items(self):
        found, after = {}, None
        while True:
            page = self.need("GET", "/gallery/items?limit=500" + (f"&after={after}" if after else ""))
            for item in page["items"]:
                if item["id"] in found:
                    fail(f"{item['id']} is stored twice")
                found[item["id"]] = item
            after = page.get("next")
            if after is None:
                return found


def item(number, photos, count):
    file = photos[number % len(photos)]
    return {"id": f"i{number:05}", "image": base64.b64encode(file.read_bytes()).decode(),
            "payload": {"file": f"{file.parent.name}/{file.name}", "n": count}}


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


class Searches:
    """Clients that search with pictures, each after its last answer, until the end."""

    def __init__(self, work, service, versions, clients):
        self.asked, self.failures, self.stop = [], [], threading.Event()
        self.threads = [threading.Thread(target=self.search, args=(work, service, versions, seed), daemon=True) for seed in range(clients)]
        for thread in self.threads:
            thread.start()

    def search(self, work, service, versions, seed):
        client, chosen = service.client(), random.Random(seed)
        while not self.stop.is_set():
            begin = time.monotonic()
            try:
                status, answer, version = client.ask("POST", "/search", {"image": chosen.choice(work.queries), "limit": 10})
                if status != 200 or version not in versions or answer["not_searched"] or len(answer["hits"]) != 10:
                    self.failures.append(f"{status} by {version}: {str(answer)[:200]}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                client = service.client()
            self.asked.append((begin, time.monotonic() - begin))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def measured(phases):
    return {name: {"searches": len(took), "p50_seconds": quantile(took, 0.5), "p99_seconds": quantile(took, 0.99)} for name, took in phases.items()}


def swaps(work, rounds, clients, rest, pause):
    gallery = work.new_gallery("gallery-swaps")
    work.run("models", "alias", "live", "old", "--no-gallery")
    service = Service(work, gallery, work.folder / "swaps.log")
    atexit.register(service.process.kill)
    admin = service.client()
    half = len(work.photos) // 2
    for live, first in (("old", 0), ("new", half)):
        admin.need("PUT", "/aliases/live", {"version": live})
        for at in range(first, first + half, 80):
            admin.need("POST", "/gallery/items:batch", {"items": [item(number, work.photos, 0) for number in range(at, at + 80)]})
    versions = {item["model_version"] for item in admin.items().values()}
    if len(versions) != 2:
        fail(f"the gallery has items of {versions}")
    searches, moves = Searches(work, service, versions, clients), []
    asked, failures = searches.asked, searches.failures
    time.sleep(2)
    warm = time.monotonic()
    time.sleep(rest)
    admin = service.client()  # The service closes connections that rest as long.
    begun = time.monotonic()
    for number in range(rounds):
        begin = time.monotonic()
        admin.need("PUT", "/aliases/live", {"version": ("old", "new")[number % 2]})
        moves.append((begin, time.monotonic()))
        time.sleep(pause)
        if number % 100 == 99:
            print(f"{number + 1} swaps, {len(asked)} searches, {len(failures)} failed", file=sys.stderr, flush=True)
    ended = time.monotonic()
    time.sleep(rest)
    searches.end()
    left = service.client().items()
    service.end()
    if len(left) != 2 * half:
        fail(f"{len(left)} items of {2 * half} are left")
    beside, apart, at = [], [], 0
    phases = {"before": [], "during": [], "after": []}
    for begin, took in sorted(asked):
        if begin < warm:
            continue
        if begin + took < begun:
            phases["before"].append(took)
            continue
        if begin > ended:
            phases["after"].append(took)
            continue
        phases["during"].append(took)
        while at < len(moves) and moves[at][1] < begin:
            at += 1
        (beside if at < len(moves) and moves[at][0] < begin + took else apart).append(took)
    phases |= {"beside_a_swap": beside, "between_two": apart}
    return {"swaps": rounds, "seconds": ended - begun, "pause_seconds": pause, "median_swap_seconds": statistics.median(end - begin for begin, end in moves),
            "searches": len(asked), "failed": len(failures), "failures": failures[:5]} | measured(phases)


def builds(work, rounds, clients, rest, items, hnsw_from):
    import numpy

    gallery, file = work.new_gallery("gallery-builds"), work.folder / "items.safetensors"
    work.run("models", "alias", "live", "old", "--no-gallery")
    known, random = numpy.load(work.folder / "old-photos.npz"), numpy.random.default_rng(0)
    vectors = known["embeddings"][random.integers(0, len(known["embeddings"]), items)]
    vectors = vectors + 0.02 * random.standard_normal((items, known["embeddings"].shape[1]), numpy.float32)
    vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    parts = {"ids": ("U64", numpy.arange(items, dtype="<u8")), "embeddings": ("F32", vectors.astype("<f4"))}
    head, at = {"__metadata__": {"format": "perennial-embeddings", "format_version": "1", "model_version": work.names["old"]}}, 0
    for name, (kind, values) in parts.items():
        head[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [at, at := at + values.nbytes]}
    head = json.dumps(head).encode()
    file.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(values.tobytes() for _, values in parts.values()))
    work.run("gallery", "add", "--gallery", gallery, "--embeddings", file, "--model", "old")
    phases, spans, failures, indexed = {"before": [], "mapping": [], "graph": [], "after": []}, {"mapping": [], "graph": []}, [], 0

    def wait_for_graph(service, index):
        while (state := index(service.client().need("GET", "/gallery/stats")))["backlog"] or state["state"] != "ready":
            time.sleep(0.1)
        return state["indexed"]

    for number in range(rounds):
        work.run("models", "alias", "live", "old", "--no-gallery")
        service = Service(work, gallery, work.folder / "builds.log", "--hnsw-from", str(hnsw_from))
        atexit.register(service.process.kill)
        wait_for_graph(service, lambda stats: stats["index"])
        searches = Searches(work, service, set(work.names.values()), clients)
        time.sleep(2)
        times = [time.monotonic()]
        time.sleep(rest)
        times.append(time.monotonic())
        service.client().need("PUT", "/aliases/live", {"version": "new"})
        times.append(time.monotonic())
        indexed = wait_for_graph(service, lambda stats: stats["mapped"][0]["index"])
        times += [time.monotonic(), time.monotonic() + rest]
        time.sleep(rest)
        searches.end()
        service.end()
        for phase, begin, end in zip(phases, times, times[1:]):
            phases[phase] += [took for at, took in searches.asked if begin <= at < end]
            if phase in spans:
                spans[phase].append(end - begin)
        failures += searches.failures
        print(f"{number + 1} rounds, {sum(map(len, phases.values()))} searches, {len(failures)} failed", file=sys.stderr, flush=True)
    return {"rounds": rounds, "items": items, "indexed": indexed, "failed": len(failures), "failures": failures[:5]} | {
        f"median_{phase}_seconds": statistics.median(took) for phase, took in spans.items()} | measured(phases)


class State:
    """What the service acknowledged, and what it may or may not have done when it was killed."""

    def __init__(self, file):
        self.file = file
        held = json.loads(file.read_text()) if file.exists() else {}
        self.items = held.get("items", {})
        self.live = held.get("live")
        self.done = held.get("done", {})
        self.open = {}
        self.live_open = set()

    def count(self, what, by=1):
        self.done[what] = self.done.get(what, 0) + by

    def keep(self):
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"items": self.items, "live": self.live, "done": self.done}))
        part.replace(self.file)

    def compare(self, client):
        """Compares the gallery with what it should be, and takes over which of the open changes happened."""
        found = client.items()
        for name in set(self.items) | set(found) | set(self.open):
            here = found[name]["payload"]["n"] if name in found else None
            allowed = {self.items.get(name)} | self.open.get(name, set())
            if here not in allowed:
                fail(f"{name} is {here}, and should be one of {allowed}")
            if here is None:
                self.items.pop(name, None)
            else:
                self.items[name] = here
        spaces = client.need("GET", "/gallery/stats")
        if spaces["items"] != len(found):
            fail(f"the statistics count {spaces['items']} items, and {len(found)} are listed")
        info = client.need("GET", "/info")["live"]
        live = {self.live} | self.live_open
        if self.live is not None and info not in live:
            fail(f"{info} is live, and it should be one of {live}")
        self.live, self.open, self.live_open = info, {}, set()
        return found


def kills(work, rounds):
    file = work.folder / "kills.json"
    gallery = work.folder / "gallery-kills"
    if not file.exists():
        gallery = work.new_gallery("gallery-kills")
    state = State(file)
    while state.done.get("rounds", 0) < rounds:
        chance = random.Random(state.done.get("rounds", 0))
        service = Service(work, gallery, work.folder / "kills.log")
        client = service.client()
        found = state.compare(client)
        if found:
            status, answer, _ = client.ask("POST", "/search", {"image": chance.choice(work.queries), "limit": 5})
            # The old encoder of a dual route is still being loaded for a moment after a start.
            if status not in (200, 409):
                fail(f"a search after a start: {status} {answer}")
        lock, numbers = threading.Lock(), list(range(len(work.photos) * 2))

        def write():
            client, chance = service.client(), random.Random(state.done.get("rounds", 0) + 10**6)
            while True:
                if chance.random() < 0.3 and state.items:
                    chosen = chance.sample(sorted(state.items), min(len(state.items), chance.randrange(1, 10)))
                    with lock:
                        for name in chosen:
                            state.open.setdefault(name, set()).add(None)
                    status, _, _ = client.ask("DELETE", "/gallery/items", {"ids": chosen})
                    settle(status, dict.fromkeys(chosen), "deleted")
                else:
                    chosen = [item(number, work.photos, state.done.get("stored", 0) + at) for at, number in enumerate(chance.sample(numbers, chance.randrange(1, 20)))]
                    with lock:
                        for one in chosen:
                            state.open.setdefault(one["id"], set()).add(one["payload"]["n"])
                    status, _, _ = client.ask("POST", "/gallery/items:batch", {"items": chosen})
                    settle(status, {one["id"]: one["payload"]["n"] for one in chosen}, "stored")

        def settle(status, changed, what):
            with lock:
                if status == 200:
                    for name, count in changed.items():
                        state.open.pop(name, None)
                        if count is None:
                            state.items.pop(name, None)
                        else:
                            state.items[name] = count
                    state.count(what, len(changed))
                else:
                    for name in changed:
                        state.open.pop(name, None)
                    state.count(f"{what}: {status}", len(changed))

        def manage():
            client, chance = service.client(), random.Random(state.done.get("rounds", 0) + 2 * 10**6)
            while True:
                what = chance.choice(["move", "move", "backfill", "backfill", "compact", "rest"])
                if what == "move":
                    target = chance.choice(sorted({"old", "new"}))
                    with lock:
                        state.live_open.add(work.names[target])
                    status, _, _ = client.ask("PUT", "/aliases/live", {"version": target})
                    with lock:
                        if status == 200:
                            state.live, state.live_open = work.names[target], set()
                        else:
                            state.live_open = set()
                elif what == "backfill":
                    status, _, _ = client.ask("POST", "/backfill", {"originals": {"folder": str(work.folder / "photos")}})
                elif what == "compact":
                    status, _, _ = client.ask("POST", "/gallery/compact")
                else:
                    time.sleep(0.05)
                    continue
                with lock:
                    state.count(f"{what}: {status}")

        def until_killed(what):
            try:
                what()
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                pass

        threads = [threading.Thread(target=until_killed, args=(what,)) for what in (write, manage)]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.05, 1.2))
        service.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
        state.count("rounds")
        # What was open when it was killed is known only after the next start; an interrupted experiment must not forget it.
        checked = Service(work, gallery, work.folder / "kills.log")
        state.compare(checked.client())
        checked.end(signal.SIGKILL)
        state.keep()
        if state.done["rounds"] % 25 == 0:
            print(json.dumps(state.done), file=sys.stderr, flush=True)
    last = Service(work, gallery, work.folder / "kills.log")
    found = state.compare(last.client())
    by_version = {}
    for one in found.values():
        by_version[one["model_version"]] = by_version.get(one["model_version"], 0) + 1
    last.end()
    return state.done | {"items": len(found), "by_version": by_version}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("what", choices=["swaps", "builds", "kills"])
    parser.add_argument("--rounds", type=int, help="1000; 5 of builds")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--rest", type=float, default=30, help="seconds of searches before the first swap and after the last")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two swaps")
    parser.add_argument("--items", type=int, default=100_000, help="items of builds")
    parser.add_argument("--hnsw-from", type=int, default=50_000, help="items from which the service builds a graph, in builds")
    arguments = parser.parse_args()
    folder = arguments.work.resolve() / ("mapped" if arguments.what == "builds" else ".")
    folder.mkdir(parents=True, exist_ok=True)
    work = Work(folder, "mapped" if arguments.what == "builds" else "dual")
    rounds = arguments.rounds or (5 if arguments.what == "builds" else 1000)
    match arguments.what:
        case "swaps":
            record = swaps(work, rounds, arguments.clients, arguments.rest, arguments.pause)
        case "builds":
            record = builds(work, rounds, arguments.clients, arguments.rest, arguments.items, arguments.hnsw_from)
        case "kills":
            record = kills(work, rounds)
    text = json.dumps(record)
    (work.folder / f"{arguments.what}-record.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
