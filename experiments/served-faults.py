#!/usr/bin/env python3
"""A service over a gallery of two spaces, joined by dual queries: swapped under load, or killed at random moments.

    experiments/served-faults.py WORK swaps [--rounds 1000] [--clients 3] [--rest 30] [--pause 0.02]
    experiments/served-faults.py WORK kills [--rounds 1000]

Two small networks are trained on generated pictures, in spaces of their own, with certificates for dual queries in both directions; WORK keeps
them. PERENNIAL names another program than target/release/perennial.

- swaps: the live version is moved to and fro while clients search with pictures. Every search must succeed, come from one of both versions, and
  reach all items. Reports the time of searches before the first swap, from the first to the last, and after it (--rest seconds before and after),
  and of those in between that ran beside a swap, and of the others.
- kills: in every round the service starts, the gallery is compared with what was acknowledged, and then it writes, deletes, moves the live version,
  backfills and compacts at the same time until SIGKILL hits it after 0.05 to 1.2 seconds. Nothing acknowledged may be lost, nothing deleted may
  come back, and every item is there once, in one space. The state is kept in WORK/kills.json after each round.

The service listens on loopback. The last line is the record as JSON, which WORK/swaps-record.json or WORK/kills-record.json holds as well.
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
    def __init__(self, folder):
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PERENNIAL")} | {"PERENNIAL_DEVICE": "cpu"}
        if not (folder / "prepared").exists():
            self.prepare()
        self.photos = sorted((folder / "photos").rglob("*.png"))
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
        for old, new in (("old", "new"), ("new", "old")):
            self.run("certify", "--record", "--route", "dual", "--weight", "0.5", "--kind", "orthogonal", "--out", f"{new}-to-{old}.json",
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
    def __init__(self, work, gallery, log):
        self.log = open(log, "a")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--gallery", gallery, "--listen", "127.0.0.1:0"], cwd=work.folder, env=work.environment, stdout=subprocess.PIPE,
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
    asked, failures, stop, moves = [], [], threading.Event(), []

    def search(seed):
        client, chosen = service.client(), random.Random(seed)
        while not stop.is_set():
            begin = time.monotonic()
            try:
                status, answer, version = client.ask("POST", "/search", {"image": chosen.choice(work.queries), "limit": 10})
                if status != 200 or version not in versions or answer["not_searched"] or len(answer["hits"]) != 10:
                    failures.append(f"{status} by {version}: {str(answer)[:200]}")
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                client = service.client()
            asked.append((begin, time.monotonic() - begin))

    threads = [threading.Thread(target=search, args=(seed,), daemon=True) for seed in range(clients)]
    for thread in threads:
        thread.start()
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
    stop.set()
    for thread in threads:
        thread.join()
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
            "searches": len(asked), "failed": len(failures), "failures": failures[:5]} | {
                name: {"searches": len(took), "p50_seconds": quantile(took, 0.5), "p99_seconds": quantile(took, 0.99)} for name, took in phases.items()}


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
    parser.add_argument("what", choices=["swaps", "kills"])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--rest", type=float, default=30, help="seconds of searches before the first swap and after the last")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two swaps")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    work = Work(arguments.work.resolve())
    work.names = {alias: json.loads(work.run("--json", "models", "show", alias))["name"] for alias in ("old", "new")}
    record = swaps(work, arguments.rounds, arguments.clients, arguments.rest, arguments.pause) if arguments.what == "swaps" else kills(work, arguments.rounds)
    text = json.dumps(record)
    (work.folder / f"{arguments.what}-record.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
