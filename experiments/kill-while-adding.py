#!/usr/bin/env python3
"""Kills `perennial gallery add DIR` with SIGKILL at random moments and looks at the gallery after each kill.

    cargo build --release && experiments/kill-while-adding.py [--kills 24] [--files 4000] [--seed 0]

PERENNIAL names another program. Three stages, each killed a third of the times: a new folder; the same folder after a third of its
files have changed; and after a third of them are gone (`--prune`). After every kill, no item that was stored before may be missing
or differ, and every item must be the one of an uninterrupted run before or after the change. At the end of a stage, adding the
folder once more must complete it: the same items, labels and embeddings as without a kill, and each file once.
"""

import argparse
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("PERENNIAL", str(ROOT / "target/release/perennial"))
MODEL = """
name = "tiny"
seed = 1
[data]
set = "generated"
generated = { classes = 4, images_per_class = 16 }
[network]
backbone = "small"
width = 16
[method]
kind = "er"
[training]
epochs = 1
batch_size = 16
"""


def png(path, seed):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    side = 48
    noise = random.Random(seed)
    colour = [noise.randrange(256) for _ in range(3)]
    rows = b"".join(
        b"\0" + bytes((value + seed * x + 5 * y) % 256 for x in range(side) for value in colour) for y in range(side)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


def fail(text):
    sys.exit(f"kill-while-adding: {text}")


class Work:
    def __init__(self, folder, files):
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PERENNIAL")}
        self.environment["PERENNIAL_DEVICE"] = "cpu"
        (folder / "model.toml").write_text(MODEL)
        self.run("pretrain", "model.toml")
        self.run("models", "alias", "live", "v0001")
        self.photos = folder / "photos"
        self.names = [f"class-{number % 7}/{number:05}.png" for number in range(files)]
        for number, name in enumerate(self.names):
            png(self.photos / name, number)

    def run(self, *arguments):
        done = subprocess.run(
            [PROGRAM, "--quiet", *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            fail(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def add(self, gallery):
        """One whole run, and its seconds."""
        begun = time.monotonic()
        answer = json.loads(self.run("--json", "gallery", "--gallery", gallery, "add", "photos", "--prune"))
        return answer, time.monotonic() - begun

    def killed(self, gallery, seconds):
        """Whether the run was killed before its end."""
        command = [PROGRAM, "--quiet", "gallery", "--gallery", gallery, "add", "photos", "--prune"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=quiet, stderr=quiet)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        if process.returncode:
            fail(f"an addition ended with {process.returncode}")
        return False

    def content(self, gallery):
        """Every item by its id, as a read-only service shows it, which changes nothing on the disk."""
        if not (self.folder / gallery / "gallery.redb").exists():
            return {}
        command = [PROGRAM, "--quiet", "serve", "--read-only", "--gallery", gallery, "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().strip()
            if not url:
                error = server.communicate()[1]
                # A kill before the first batch leaves a gallery without items, if any.
                if "gallery" in error and not self.items(gallery):
                    return {}
                fail(f"the gallery cannot be served after a kill: {error}")
            items, cursor = {}, None
            while True:
                query = {"limit": 500, "embeddings": "true", **({"after": cursor} if cursor is not None else {})}
                with urllib.request.urlopen(f"{url}gallery/items?{urllib.parse.urlencode(query)}", timeout=60) as answer:
                    page = json.load(answer)
                for item in page["items"]:
                    if item["id"] in items:
                        fail(f"{item['id']} is stored twice")
                    items[item["id"]] = item
                cursor = page.get("next")
                if cursor is None:
                    return items
        finally:
            server.kill()
            server.communicate()

    def items(self, gallery):
        return json.loads(self.run("--json", "gallery", "--gallery", gallery, "stats"))["items"]


def stage(work, title, kills, allow_gone, moments):
    """Kills additions of the folder as it is now to `killed`; `whole` gets it without a kill. Returns the counts."""
    before = work.content("killed")
    _, seconds = work.add("whole")
    whole = work.content("whole")
    stored, midway, done = before, 0, 0
    for _ in range(kills):
        done += not work.killed("killed", moments.uniform(0.02, 1.0) * seconds)
        now = work.content("killed")
        for name, item in stored.items():
            if name not in now and not (allow_gone and name not in whole):
                fail(f"{title}: {name} was stored and is lost")
            # What the folder's present state has stored stays; what it replaces may change once.
            if item == whole.get(name) and now.get(name) != item:
                fail(f"{title}: {name} was stored and has changed")
        for name, item in now.items():
            if item not in (before.get(name), whole.get(name)):
                fail(f"{title}: {name} is neither the item from before nor the one that was added")
        midway += now not in (before, whole)
        stored = now
        if now == whole:
            # Everything is there: go on from the state before this stage, so that later kills hit work as well.
            work.restore()
            stored = work.content("killed")
            if stored != before:
                fail(f"{title}: the copy of the gallery differs")
    if not midway:
        fail(f"{title}: no kill hit a half-done addition, so nothing was tested; take more kills or more files")
    answer, _ = work.add("killed")
    if work.content("killed") != whole:
        fail(f"{title}: adding again does not complete the gallery")
    if answer["items"] != len(whole):
        fail(f"{title}: {answer['items']} items are counted, {len(whole)} are there")
    again, _ = work.add("killed")
    if again["inserted"] + again["replaced"] + again["pruned"]:
        fail(f"{title}: a further addition still finds something to do: {again}")
    print(
        f"{title}: {kills} kills, {midway} of them midway, {done} runs ended before; {len(whole)} items as without a kill, "
        "0 lost, 0 doubled",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    share = [arguments.kills // 3 + (part < arguments.kills % 3) for part in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder), arguments.files)

        def keep():
            """Later `restore`s return to the gallery as it is now."""
            subprocess.run(["rm", "-rf", "kept"], cwd=folder, check=True)
            if (work.folder / "killed").exists():
                subprocess.run(["cp", "-r", "killed", "kept"], cwd=folder, check=True)

        def restore():
            subprocess.run(["rm", "-rf", "killed"], cwd=folder, check=True)
            if (work.folder / "kept").exists():
                subprocess.run(["cp", "-r", "kept", "killed"], cwd=folder, check=True)

        work.restore = restore
        keep()
        stage(work, "a new folder", share[0], False, moments)
        for number, name in enumerate(work.names):
            if number % 3 == 0:
                png(work.photos / name, number + 100_000)
        keep()
        stage(work, "a third of the files changed", share[1], False, moments)
        for number, name in enumerate(work.names):
            if number % 3 == 1:
                (work.photos / name).unlink()
        keep()
        stage(work, "a third of the files gone", share[2], True, moments)


if __name__ == "__main__":
    main()
