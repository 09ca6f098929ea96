#!/usr/bin/env python3
"""Upgrades imported encoders behind a running service: imported, embedded, certified, served, promoted under load, rolled back.

    served_chains.py ENCODERS WORK [--cifar DIR] [--wordnet DIR] [--chain NAME]... [--table FILE]

ENCODERS is what export.py wrote; WORK keeps what is done, so that it can be stopped and started again. Chains:

- pictures:  EfficientNet-lite0 (224 px) -> lite2 (260 px), classes of CIFAR-10; bridges are fitted on CIFAR-100, without labels
- texts:     wordllama (256 values) -> MiniLM (384 values), categories of WordNet's nouns by their definitions
- item:      the same encoders, the one right definition of a word
- int8:      MiniLM in f32 -> the same with int8 weights, categories, as it is

Of each chain: a gallery that the old encoder embeds, queries before; the certificates of every route; the promotion through the service, with
searches running all the time; the same queries after; the rollback. The last figures are what embedding everything again would give. Recall@1 of the
service's answers, mAP over the first 100 hits (MRR at 10 where one item is right). `--table` puts the table between its markers in FILE.

Requirements: numpy; Pillow for the pictures. PERENNIAL names another binary than target/release/perennial (with `--features full`).
The service listens on loopback and is stopped at the end.
"""

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64encode
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("PERENNIAL", str(ROOT / "target/release/perennial"))
sys.path.insert(0, str(ROOT / "experiments/outside"))

CHAINS = {
    "pictures": ("lite0", "lite2", ["own", "bridged", "dual"]),
    "texts": ("wordllama", "minilm", ["bridged", "dual"]),
    "item": ("wordllama", "minilm", ["bridged", "dual"]),
    "int8": ("minilm", "minilm-int8", ["own"]),
}
TITLES = {
    "pictures": "lite0 to lite2, CIFAR-10 classes",
    "texts": "wordllama to MiniLM, categories",
    "item": "wordllama to MiniLM, the right definition",
    "int8": "MiniLM f32 to int8 weights, categories",
}
SIZES = {"pictures": (300, 900, 600), "texts": (600, 1500, 1000), "item": (600, 2000, 1000), "int8": (600, 1500, 1000)}
LIMIT, SEED = 100, 0
BEGIN, END = "<!-- experiments/encoders/served_chains.py: begin -->", "<!-- experiments/encoders/served_chains.py: end -->"


def write_pictures(cifar, folder, sizes, rng):
    """PNG files in a folder per class: queries and gallery of CIFAR-10, fit of CIFAR-100's training images."""
    from PIL import Image

    def records(file, head):
        raw = np.frombuffer((cifar / file).read_bytes(), np.uint8).reshape(-1, head + 3072)
        return raw[:, head - 1], raw[:, head:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    sources = {
        "queries": records("cifar-10-batches-bin/data_batch_1.bin", 1),
        "gallery": records("cifar-10-batches-bin/test_batch.bin", 1),
        "fit": records("cifar-100-binary/train.bin", 2),
    }
    for (name, (labels, pixels)), count in zip(sources.items(), sizes):
        for number in np.sort(rng.choice(len(labels), count, replace=False)):
            file = folder / name / f"class{labels[number]:03}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[number]).save(file)


def write_texts(wordnet, folder, sizes, rng, item):
    """JSON lines with id, text and label: definitions of WordNet's nouns; with `item`, queries are words."""
    from export_text import HELD_OUT, NO_CATEGORY, read_nouns

    nouns = read_nouns(wordnet / "data.noun")
    queries, gallery, fit = sizes
    if item:
        chosen = [nouns[at] for at in rng.choice(len(nouns), gallery + fit, replace=False)]
        items, others = chosen[:gallery], chosen[gallery:]
        meanings = {}
        for noun in items:
            for word in {word.lower() for word in noun[2]}:
                meanings[word] = meanings.get(word, 0) + 1
        clear = [noun for noun in items if meanings[noun[2][0].lower()] == 1]
        asked = [clear[at] for at in rng.choice(len(clear), queries, replace=False)]
        rows = {"queries": [(f"q{noun[0]}", noun[2][0], noun[0]) for noun in asked], "gallery": [(f"n{noun[0]}", noun[3], noun[0]) for noun in items],
                "fit": [(f"n{noun[0]}", noun[3], 0) for noun in others]}
        (folder / "qrels.txt").write_text("".join(f"q{noun[0]} 0 n{noun[0]} 1\n" for noun in asked))
    else:
        members = {}
        for noun in nouns:
            members.setdefault(noun[1], []).append(noun)
        held_out = sorted(members, key=lambda category: -len(members[category]))[:HELD_OUT]
        rows = {"queries": [], "gallery": []}
        for category in held_out:
            one, two = queries // HELD_OUT, gallery // HELD_OUT
            chosen = [members[category][at] for at in rng.choice(len(members[category]), one + two, replace=False)]
            rows["queries"] += [(f"n{noun[0]}", noun[3], category) for noun in chosen[:one]]
            rows["gallery"] += [(f"n{noun[0]}", noun[3], category) for noun in chosen[one:]]
        others = [noun for noun in nouns if noun[1] not in held_out and noun[1] != NO_CATEGORY]
        rows["fit"] = [(f"n{others[at][0]}", others[at][3], 0) for at in rng.choice(len(others), fit, replace=False)]
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"id": i, "text": t, "label": int(l)}) + "\n" for i, t, l in lines))


class Chain:
    """What one chain keeps in its folder: inputs, a registry with both encoders, vectors, certificates, the gallery."""

    def __init__(self, name, folder, encoders):
        self.name, self.folder, self.encoders = name, folder, encoders
        self.old, self.new, self.routes = CHAINS[name]
        self.pictures = name == "pictures"

    def run(self, *words, allowed=(0,)):
        done = subprocess.run([PROGRAM, "--quiet", "--registry", str(self.folder / "registry"), *map(str, words)], capture_output=True, text=True)
        if done.returncode not in allowed:
            raise SystemExit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def prepare(self, cifar, wordnet):
        """Inputs, encoders, vectors: once."""
        inputs = self.folder / "inputs"
        if not inputs.exists():
            shutil.rmtree(self.folder / "inputs.part", ignore_errors=True)
            part = self.folder / "inputs.part"
            part.mkdir(parents=True)
            rng = np.random.default_rng(SEED)
            if self.pictures:
                write_pictures(cifar, part, SIZES[self.name], rng)
            else:
                write_texts(wordnet, part, SIZES[self.name], rng, self.name == "item")
            part.rename(inputs)
        if not (self.folder / "imported").exists():
            shutil.rmtree(self.folder / "registry", ignore_errors=True)
            for alias, encoder in (("old", self.old), ("new", self.new)):
                # wordllama's files do not say where a text is cut.
                more = ["--max-tokens", "512"] if encoder == "wordllama" else []
                self.run("models", "import", self.encoders / encoder, "--alias", alias, *more)
            (self.folder / "imported").touch()
        for alias in ("old", "new"):
            for name in ("queries", "gallery", "fit"):
                out = self.folder / f"{alias}-{name}.npz"
                if out.exists():
                    continue
                part = out.with_suffix(".part.npz")
                if self.pictures:
                    source = ["--set", f"folder:{inputs / name}"]
                else:
                    source = ["--table", inputs / f"{name}.jsonl", "--id-column", "id", "--as", "query" if name == "queries" else "document"]
                begin = time.perf_counter()
                self.run("embed", alias, *source, "--out", part)
                print(f"{self.name}: {alias} {name} embedded in {time.perf_counter() - begin:.0f} s", flush=True)
                part.rename(out)
        if not self.pictures:
            for name in ("queries", "gallery"):
                np.save(self.folder / f"{name}-labels.npy", np.array([line["label"] for line in self.lines(name)], np.int64))

    def lines(self, name):
        return [json.loads(line) for line in (self.folder / "inputs" / f"{name}.jsonl").read_text().splitlines()]

    def certify(self):
        """The finding and margins of each route, recorded in the registry for the service."""
        found = {}
        for route in self.routes:
            file = self.folder / f"{route}.json"
            if not file.exists():
                words = ["certify", "--record", "--route", route, "--out", file]
                for side in ("queries", "gallery"):
                    words += [f"--old-{side}", self.folder / f"old-{side}.npz", f"--new-{side}", self.folder / f"new-{side}.npz"]
                    if self.name == "item":
                        continue
                    if not self.pictures:
                        words += [f"--{'query' if side == 'queries' else 'gallery'}-labels", self.folder / f"{side}-labels.npy"]
                if self.name == "item":
                    words += ["--relevance", self.folder / "inputs/qrels.txt"]
                if route != "own":
                    words += ["--fit-from", self.folder / "new-fit.npz", "--fit-to", self.folder / "old-fit.npz", "--kind", "orthogonal"]
                if route == "dual":
                    words += ["--weight", "0.5"]
                self.run(*words, allowed=(0, 3))
            found[route] = json.loads(file.read_text())
        return found

    def asked(self):
        """Bodies of searches and the ids that answer each."""
        if self.pictures:
            files = sorted((self.folder / "inputs/queries").rglob("*.png"))
            right = {}
            for file in (self.folder / "inputs/gallery").rglob("*.png"):
                right.setdefault(file.parent.name, set()).add(f"{file.parent.name}/{file.name}")
            return [({"image": b64encode(file.read_bytes()).decode()}, right[file.parent.name]) for file in files]
        right = {}
        for line in self.lines("gallery"):
            right.setdefault(line["label"], set()).add(line["id"])
        return [({"text": line["text"]}, right[line["label"]]) for line in self.lines("queries")]


class Service:
    """A service over a gallery, on a free port of loopback, with a client that searches all the time."""

    def __init__(self, chain, gallery, live):
        chain.run("models", "alias", "live", live, "--no-gallery")
        self.log = open(gallery.with_suffix(".log"), "w")
        self.process = subprocess.Popen([PROGRAM, "--registry", str(chain.folder / "registry"), "serve", "--gallery", str(gallery), "--listen", "127.0.0.1:0"],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        self.url = next(word for word in line.split() if word.startswith("http")).rstrip("/.,")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def search(self, body):
        request = urllib.request.Request(f"{self.url}/search", json.dumps(body | {"limit": LIMIT, "exact": True}).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)


def measure(service, asked, item):
    first, quality, answer = [], [], None
    for body, right in asked:
        answer = service.search(body)
        hits = np.array([hit["id"] in right for hit in answer["hits"]])
        first.append(bool(hits[0]) if len(hits) else False)
        ranks = np.flatnonzero(hits) + 1
        if item:
            quality.append(1 / ranks[0] if len(ranks) and ranks[0] <= 10 else 0)
        else:
            quality.append((np.arange(1, len(ranks) + 1) / ranks).sum() / min(len(right), LIMIT))
    return {"recall_at_1": float(np.mean(first)), "quality": float(np.mean(quality)), "not_searched": answer["not_searched"],
            "routes": sorted({part["route"] for part in answer["parts"]})}


class Load(threading.Thread):
    """Searches one after the other until it is told to stop; counts and times them."""

    def __init__(self, service, asked):
        super().__init__(daemon=True)
        self.service, self.asked, self.running, self.failed, self.seconds = service, asked, True, [], []

    def run(self):
        at = 0
        while self.running:
            begin = time.perf_counter()
            try:
                self.service.search(self.asked[at % len(self.asked)][0])
            except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
                self.failed.append(repr(error))
            self.seconds.append(time.perf_counter() - begin)
            at += 1

    def stop(self):
        self.running = False
        self.join()
        return {"requests": len(self.seconds), "failed": len(self.failed), "errors": self.failed[:3], "slowest_seconds": max(self.seconds)}


def through_the_service(chain, certificates):
    gallery, asked, item = chain.folder / "gallery", chain.asked(), chain.name == "item"
    shutil.rmtree(gallery, ignore_errors=True)
    record = {"chain": chain.name, "old": chain.old, "new": chain.new, "items": SIZES[chain.name][1], "queries": len(asked)}
    record["findings"] = {route: {"finding": c["finding"], "margins": c.get("margins")} for route, c in certificates.items()}
    items = [chain.folder / "inputs/gallery"] if chain.pictures else ["--table", chain.folder / "inputs/gallery.jsonl", "--id-column", "id"]
    with Service(chain, gallery, "old") as service:
        chain.run("gallery", "add", *items, "--server", service.url)
        if item:
            (gallery / "policy.toml").write_text('task = "item-like"\n')
        record["before"] = measure(service, asked, item)
        load = Load(service, asked)
        load.start()
        promoted = subprocess.run([PROGRAM, "--quiet", "--registry", str(chain.folder / "registry"), "models", "promote", "new", "--server", service.url],
                                  capture_output=True, text=True)
        record["promotion"] = {"exit": promoted.returncode, "says": (promoted.stdout + promoted.stderr).strip().splitlines()[:12]}
        time.sleep(1)
        if promoted.returncode == 0:
            record["after"] = measure(service, asked, item)
            chain.run("models", "rollback", "--server", service.url)
            time.sleep(1)
        record["load"] = load.stop()
        record["back"] = measure(service, asked, item)
    if record["back"] != record["before"]:
        raise SystemExit(f"{chain.name}: {record['before']} before the promotion, {record['back']} after the rollback")
    shutil.rmtree(chain.folder / "gallery-new", ignore_errors=True)
    with Service(chain, chain.folder / "gallery-new", "new") as service:
        chain.run("gallery", "add", *items, "--server", service.url)
        record["again"] = measure(service, asked, item)
    return record


def table(records):
    lines = ["| chain | routes: finding | before: R@1 / mAP or MRR | promoted: R@1 / mAP or MRR, by | everything embedded again | searches meanwhile, failed |",
             "|---|---|---|---|---|---|"]
    pair = lambda figures: f"{figures['recall_at_1']:.3f} / {figures['quality']:.3f}"
    for record in records:
        findings = ", ".join(f"{route}: {found['finding']}" for route, found in record["findings"].items())
        after = f"{pair(record['after'])}, {', '.join(record['after']['routes'])}" if "after" in record else "refused"
        lines.append(f"| {TITLES[record['chain']]} | {findings} | {pair(record['before'])} | {after} | {pair(record['again'])} "
                     f"| {record['load']['requests']}, {record['load']['failed']} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cifar", type=Path, default=os.environ.get("PERENNIAL_DATA"))
    parser.add_argument("--wordnet", type=Path, default="/usr/share/wordnet")
    parser.add_argument("--chain", action="append", choices=CHAINS)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    records = []
    for name in arguments.chain or CHAINS:
        folder = arguments.work.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        chain, file = Chain(name, folder, arguments.encoders.resolve()), folder / "record.json"
        if not file.exists():
            chain.prepare(arguments.cifar and Path(arguments.cifar), Path(arguments.wordnet))
            record = through_the_service(chain, chain.certify())
            file.write_text(json.dumps(record, indent=1))
        records.append(json.loads(file.read_text()))
    found = table(records)
    print(found)
    if arguments.table:
        text = arguments.table.read_text()
        head, rest = text.split(BEGIN)
        arguments.table.write_text(f"{head}{BEGIN}\n\n{found}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
