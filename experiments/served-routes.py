#!/usr/bin/env python3
"""Measures a gallery of two versions through the running service: queries are pictures that it embeds, hits are its answers.

    PERENNIAL_DATA=DIR experiments/served-routes.py --registry DIR --old VERSION --new VERSION --work DIR [--routes dual] [--weight W]
        [--certified-on both] [--json FILE]
    experiments/served-routes.py --table FILE...

Routes own, bridged and dual from the new into the old space, and route mapped from the old into the new one by least squares, are certified first
as --routes says (bridges fitted on CIFAR-100's training images, without labels) and recorded in a copy of the registry. Then galleries of 3,000 CIFAR-10 test
images are served: all embedded by the old version and searched by it; all by the new one; and half by each, searched by the new version
through the routes that the service chooses. Every query asks for 1,000 hits with exact comparison.

- class-like: 1,000 images of CIFAR-10's batch 1; a hit is right if it has the query's label. mAP is over the first 1,000 hits.
- item-like: altered copies (cropped to 80 %, mirrored, brightened) of 1,000 of the gallery's images look for their originals, of which
  half lie in the old space.

Routes are certified on classes (images of batch 1 among all test images), or with --certified-on both on classes and single items at once: altered
copies of 3,000 images of batch 1 look for their class and for their originals among these images, none of which the galleries and queries above have.

--weight is the share of the old encoder's query in a dual one (0.5 unless given). Routes are certified once for each folder of --work, so another
weight, or another set to certify on, needs another folder.

Requirements: numpy. PERENNIAL names another binary than target/release/perennial. The service listens on loopback and is stopped at the end.
"""

import argparse
import base64
import csv
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("PERENNIAL", str(ROOT / "target/release/perennial"))
ITEMS, QUERIES, LIMIT, FIRST = 3000, 1000, 1000, 24


def cifar10(file):
    raw = np.frombuffer(file.read_bytes(), np.uint8).reshape(-1, 3073)
    return raw[:, 0], raw[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def png(pixels):
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def altered(pixels, random):
    """Cropped to 26 pixels at a random place, mirrored, 20 % brighter, its colours shifted."""
    top, left = random.integers(0, 7, 2)
    part = pixels[top : top + 26, left : left + 26][:, ::-1].astype(np.float32)
    return np.clip(part * 1.2 + random.uniform(-15, 15, 3), 0, 255).astype(np.uint8)


def perennial(registry, *arguments, allowed=(0,)):
    done = subprocess.run([PROGRAM, "--quiet", "--device", "cpu", "--registry", str(registry), *map(str, arguments)],
                          capture_output=True, text=True)
    if done.returncode not in allowed:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def ask(method, url, body):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


class Service:
    """A service over an own gallery, on a free port of loopback."""

    def __init__(self, registry, folder, live, *options):
        (registry / "aliases.toml").write_text(f'live = "{live}"\n')
        self.log = open(folder.with_suffix(".log"), "w")
        self.process = subprocess.Popen(
            [PROGRAM, "--device", "cpu", "--registry", str(registry), "serve", "--gallery", str(folder), "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the service ended with {self.process.wait()} before it was ready: {self.log.name}")
        self.url = next(word for word in line.split() if word.startswith("http")).rstrip("/.,")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def put(self, version, ids, vectors, labels):
        for start in range(0, len(ids), 500):
            part = slice(start, start + 500)
            items = [{"id": int(i), "embedding": v.tolist(), "model_version": version, "label": int(l), "payload": {"file": f"{i}.png"}}
                     for i, v, l in zip(ids[part], vectors[part], labels[part])]
            ask("POST", f"{self.url}/gallery/items:batch", {"items": items, "force": True})

    def wait_for_encoders(self, pixels):
        """The old encoder of a space's first items is loaded within seconds; until then a dual route does not reach them."""
        for _ in range(60):
            try:
                answer = self.search(pixels)
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    raise
            else:
                if answer["not_searched"] == 0:
                    return answer
            time.sleep(0.5)
        raise SystemExit("items are still not searched after 30 seconds: " + self.log.name)

    def search(self, pixels, **options):
        image = base64.b64encode(png(pixels)).decode()
        return ask("POST", f"{self.url}/search", {"image": image, "limit": LIMIT, "exact": True} | options)


def class_like(service, images, labels, class_sizes, old_version, **options):
    first, precision, old, seconds = [], [], [], []
    for pixels, label in zip(images, labels):
        begin = time.perf_counter()
        hits = service.search(pixels, **options)["hits"]
        seconds.append(time.perf_counter() - begin)
        right = np.array([hit["label"] == label for hit in hits])
        first.append(right[0])
        ranks = np.flatnonzero(right) + 1
        precision.append((np.arange(1, len(ranks) + 1) / ranks).sum() / min(class_sizes[label], LIMIT))
        old.append(np.mean([hit["model_version"] == old_version for hit in hits[:FIRST]]))
    return {"recall_at_1": float(np.mean(first)), "map_at_1000": float(np.mean(precision)), "old_share": float(np.mean(old)),
            "median_seconds": float(np.median(seconds))}


def item_like(service, images, ids, old_ids, **options):
    ranks = []
    for pixels, wanted in zip(images, ids):
        hits = service.search(pixels, **options)["hits"]
        ranks.append(next((rank for rank, hit in enumerate(hits, 1) if hit["id"] == wanted), None))
    ranks, is_old = np.array([rank or 10**9 for rank in ranks]), np.isin(ids, old_ids)

    def figures(chosen):
        found = ranks[chosen]
        return {"recall_at_1": float(np.mean(found == 1)), "mrr_at_10": float(np.mean(np.where(found <= 10, 1 / found, 0)))}

    everything = np.ones(len(ids), bool)
    parts = {"all": figures(everything)}
    if is_old.any() and not is_old.all():
        parts |= {"old answer": figures(is_old), "new answer": figures(~is_old)}
    return parts


def certified(arguments):
    """A copy of the registry in which the routes from the new into the old space are certified, and the embeddings of both."""
    work, old, new = Path(arguments.work), arguments.old, arguments.new
    work.mkdir(parents=True, exist_ok=True)
    registry = work / "registry"
    wanted = {"old": old, "new": new, "routes": sorted(arguments.routes), "weight": arguments.weight}
    both = getattr(arguments, "certified_on", "classes") == "both"
    if both:
        wanted["certified_on"] = "both"
    done = work / "certified.json"
    if registry.exists():
        if not done.exists() or json.loads(done.read_text()) != wanted:
            raise SystemExit(f"the routes in {work} were certified with other options, or not to the end: name another folder with --work")
    else:
        shutil.copytree(arguments.registry, registry)
        shutil.rmtree(registry / "certificates", ignore_errors=True)
        for version, side in ((old, "old"), (new, "new")):
            perennial(registry, "embed", version, "--set", "cifar10:test", "--out", work / f"{side}-cifar10-test.safetensors")
        if both:
            measured = copies_and_originals(registry, work, old, new)
        else:
            measured = ["--old-queries", f"{old}@cifar10:batch1", "--old-gallery", f"{old}@cifar10:test",
                        "--new-queries", f"{new}@cifar10:batch1", "--new-gallery", f"{new}@cifar10:test"]
        for route in arguments.routes:
            fitted = []
            if route != "own":
                # An orthogonal map of stored vectors ranks them as the bridge of the queries does.
                fitted = ["--kind", "ridge:0.001" if route == "mapped" else "orthogonal",
                          "--fit-from", f"{new}@cifar100:train", "--fit-to", f"{old}@cifar100:train"]
            if route == "dual":
                fitted += ["--weight", str(arguments.weight)]
            perennial(registry, "certify", "--record", "--route", route, *fitted, *measured, "--out", work / f"{route}.json", allowed=(0, 3))
        done.write_text(json.dumps(wanted) + "\n")
    return registry


def drawn():
    """Of the 10,000 images of the test batch those that are stored, of batch 1 those that are asked for and others that are not; and what draws on."""
    random = np.random.default_rng(0)
    stored = random.permutation(10_000)[:ITEMS]
    order = random.permutation(10_000)
    return stored, order[:QUERIES], order[QUERIES : QUERIES + ITEMS], random


def copies_and_originals(registry, work, old, new):
    """Embeds images that nothing else here looks at, and an altered copy of each; says how to certify on them."""
    labels, images = cifar10(Path(os.environ["PERENNIAL_DATA"]) / "cifar-10-batches-bin/data_batch_1.bin")
    chosen, random = drawn()[2], np.random.default_rng(1)
    arguments = ["--old-space", old, "--new-space", new]
    for role, change in (("gallery", lambda pixels: pixels), ("queries", lambda pixels: altered(pixels, random))):
        folder = work / f"certified-{role}"
        folder.mkdir()
        for i in chosen:
            (folder / f"{i}.png").write_bytes(png(change(images[i])))
        with open(folder / "pictures.csv", "w", newline="") as file:
            csv.writer(file).writerows([("id", "file"), *((i, f"{i}.png") for i in chosen)])
        for version, side in ((old, "old"), (new, "new")):
            out = work / f"{side}-{role}.jsonl"
            perennial(registry, "embed", version, "--table", folder / "pictures.csv", "--path-column", "file", "--id-column", "id", "--out", out)
            arguments += [f"--{side}-{role}", out]
    (work / "labels.txt").write_text("".join(f"{labels[i]}\n" for i in chosen))
    (work / "originals.qrels").write_text("".join(f"{i} 0 {i} 1\n" for i in chosen))
    return [*arguments, "--query-labels", work / "labels.txt", "--gallery-labels", work / "labels.txt", "--relevance", work / "originals.qrels"]


def rows(work, side):
    raw = (work / f"{side}-cifar10-test.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8 : 8 + size])
    start, end = head["embeddings"]["data_offsets"]
    return np.frombuffer(raw[8 + size + start : 8 + size + end], np.float32).reshape(head["embeddings"]["shape"])


def needs(parser, arguments, *names):
    """Ends the program where a measurement, which may take an hour, would miss an option or its data."""
    missing = [f"--{name}" for name in names if not getattr(arguments, name)]
    if missing:
        parser.error(f"needs {', '.join(missing)}")
    data = os.environ.get("PERENNIAL_DATA")
    if not data or not (Path(data) / "cifar-10-batches-bin").is_dir():
        parser.error(f"PERENNIAL_DATA names no folder with cifar-10-batches-bin: {data}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--registry", "--old", "--new", "--work"):
        parser.add_argument(name)
    parser.add_argument("--json")
    parser.add_argument("--table", nargs="+")
    parser.add_argument("--routes", nargs="+", choices=["own", "bridged", "dual", "mapped"], default=["bridged", "dual"],
                        help="routes that are certified; of several, the service takes the one that measured best")
    parser.add_argument("--certified-on", choices=["classes", "both"], default="classes",
                        help="what the routes are certified on: classes, or classes and single items [default: classes]")
    parser.add_argument("--weight", type=float, default=0.5, help="share of the old encoder's query in a dual one, from 0 to 1 [default: 0.5]")
    arguments = parser.parse_args()
    if arguments.table:
        return table([json.loads(Path(file).read_text()) for file in arguments.table])
    needs(parser, arguments, "registry", "old", "new", "work")
    work, data = Path(arguments.work), Path(os.environ["PERENNIAL_DATA"])
    old, new = arguments.old, arguments.new
    registry = certified(arguments)
    labels, images = cifar10(data / "cifar-10-batches-bin/test_batch.bin")
    query_labels, query_images = cifar10(data / "cifar-10-batches-bin/data_batch_1.bin")
    chosen, asked, _, random = drawn()
    sizes = np.bincount(labels[chosen], minlength=10)
    originals = random.permutation(chosen)[:QUERIES]
    copies = [altered(images[i], random) for i in originals]
    embeddings = {old: rows(work, "old"), new: rows(work, "new")}
    half = chosen[: ITEMS // 2]
    galleries = {
        "all old, searched by the old version": (old, {old: chosen}),
        "half old, searched by the new version": (new, {old: half, new: chosen[ITEMS // 2 :]}),
        "all old, searched by the new version": (new, {old: chosen}),
        "all new, searched by the new version": (new, {new: chosen}),
    }
    results = {}
    for name, (live, parts) in galleries.items():
        folder = work / name.replace(" ", "-").replace(",", "")
        shutil.rmtree(folder, ignore_errors=True)
        with Service(registry, folder, live) as service:
            for version, ids in parts.items():
                service.put(version, ids, embeddings[version][ids], labels[ids])
            answer = service.wait_for_encoders(query_images[asked[0]])
            results[name] = {
                "routes": {",".join(part["spaces"]): part["route"] + (f" ({arguments.weight:g})" if part["route"] == "dual" else "")
                           for part in answer["parts"]},
                "merges": {",".join(part["spaces"]): part.get("merge") for part in answer["parts"]},
                "shifts": {",".join(part["spaces"]): part.get("merge_shift") for part in answer["parts"]},
                "not_searched": answer["not_searched"],
                "class": class_like(service, query_images[asked], query_labels[asked], sizes, old),
                "item": item_like(service, copies, originals, half),
            }
        print(json.dumps({name: results[name]}), flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))
    print()
    table([results])


def table(runs):
    """Of several runs, one table; galleries of one version alone are in all of them."""
    print("| gallery | routes | class-like: mAP@1000 / R@1 | old among the first 24 | item-like R@1: all, old answer, new answer | MRR@10 |")
    print("|---|---|---|---|---|---|")
    shown = set()
    for name, found in ((name, found) for results in runs for name, found in results.items()):
        item = [found["item"].get(part) for part in ("all", "old answer", "new answer")]
        values = [" / ".join(f"{one[key]:.3f}" if one else "-" for one in item) for key in ("recall_at_1", "mrr_at_10")]
        routes = ", ".join(f"{space}: {route}" for space, route in found["routes"].items())
        # Of one part alone nothing is merged.
        for space, merge in found.get("merges", {}).items() if len(found["routes"]) > 1 else ():
            shift = found.get("shifts", {}).get(space)
            routes += f"; by {merge}" + (f" {shift:+.3f}" if shift else "") if merge else ""
        known = found["class"]
        line = f"| {name} | {routes} | {known['map_at_1000']:.3f} / {known['recall_at_1']:.3f} | {known['old_share']:.2f} | {values[0]} | {values[1]} |"
        if line not in shown:
            print(line)
        shown.add(line)


if __name__ == "__main__":
    # As Ctrl-C does: the service that is running is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
