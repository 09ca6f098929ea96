#!/usr/bin/env python3
"""Measures, through the running service, what an upgraded gallery can still gain: by a second stage, by a backfill, and with hits that are cut off.

    PERENNIAL_DATA=DIR experiments/served-quality.py --registry DIR --old VERSION --new VERSION --work DIR --json FILE
    PERENNIAL_DATA=DIR experiments/served-quality.py --zipf --registry DIR --old VERSION --new VERSION --work DIR --json FILE
    experiments/served-quality.py --table FILE

The old version embedded 3,000 CIFAR-10 test images, the new one is live; routes are certified as in served-routes.py, on queries of batch 1. What is
measured here has queries of batch 2, and altered copies of gallery images that look for their originals.

- second stage: `rerank` embeds the originals of the first hits by the live version and orders them anew.
- backfill: the gallery at a quarter, half, three quarters and all of its items embedded again, in the order of the ids and in the order `retrieved`
  (what 1,000 earlier searches found most often).
- --zipf: only backfills, in every order, where queries are not drawn evenly: the second of the classes, and of the items, is asked for half as often
  as the first, the third a third as often, and so on. Half of the earlier searches are for classes, half are altered copies of items.
- thresholds: `max_false_accept_rate`, before the upgrade, after it, and with half of the gallery embedded again. Wrong pairs that are accepted, as a
  share of all pairs of a query and an item of another class; right pairs accepted, in the same way.

Requirements: numpy. PERENNIAL names another binary than target/release/perennial. The service listens on loopback and is stopped at the end.
"""

import argparse
import importlib.util
import json
import os
import shutil
import signal
import sys
import time
import urllib.error
from pathlib import Path

import numpy as np

spec = importlib.util.spec_from_file_location("served_routes", Path(__file__).with_name("served-routes.py"))
served = importlib.util.module_from_spec(spec)
spec.loader.exec_module(served)

ITEMS, QUERIES = served.ITEMS, 500
STAGES, SHARES, RATES = (0, 8, 24, 64), (0.25, 0.5, 0.75, 1.0), (0.1, 0.01, 0.001)
ZIPF_SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)


class Bench:
    """A gallery of the old version, and what it is asked."""

    def __init__(self, arguments):
        self.work, self.old, self.new = Path(arguments.work), arguments.old, arguments.new
        self.registry = served.certified(arguments)
        folder = Path(os.environ["PERENNIAL_DATA"]) / "cifar-10-batches-bin"
        self.labels, images = served.cifar10(folder / "test_batch.bin")
        asked_labels, asked_images = served.cifar10(folder / "data_batch_2.bin")
        random = np.random.default_rng(0)
        self.ids = random.permutation(len(self.labels))[:ITEMS]
        order = random.permutation(len(asked_labels))
        self.queries, self.query_labels = asked_images[order[:QUERIES]], asked_labels[order[:QUERIES]]
        self.traffic = asked_images[order[QUERIES : QUERIES + 1000]]
        self.originals = random.permutation(self.ids)[:QUERIES]
        if arguments.zipf:
            zipf = lambda of, count: random.choice(of, count, p=(1 / np.arange(1, len(of) + 1)) / np.sum(1 / np.arange(1, len(of) + 1)))
            classes, items = random.permutation(10), random.permutation(self.ids)
            places = [random.permutation(np.flatnonzero(asked_labels == label)) for label in range(10)]
            chosen = zipf(classes, QUERIES + 500)
            # The same picture is not asked twice.
            taken = np.array([places[label][np.sum(chosen[:at] == label)] for at, label in enumerate(chosen)])
            self.queries, self.query_labels = asked_images[taken[:QUERIES]], asked_labels[taken[:QUERIES]]
            self.originals = zipf(items, QUERIES)
            self.traffic = [*asked_images[taken[QUERIES:]], *(served.altered(images[i], random) for i in zipf(items, 500))]
        self.copies = [served.altered(images[i], random) for i in self.originals]
        self.sizes = np.bincount(self.labels[self.ids], minlength=10)
        self.embeddings = {self.old: served.rows(self.work, "old"), self.new: served.rows(self.work, "new")}
        self.pictures = self.work / "pictures"
        self.pictures.mkdir(exist_ok=True)
        for i in self.ids:
            (self.pictures / f"{i}.png").write_bytes(served.png(images[i]))
        self.settings = self.work / "serve.toml"
        self.settings.write_text(f"originals = {json.dumps(str(self.pictures))}\n")

    def service(self, name, live=None):
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        service = served.Service(self.registry, folder, live or self.new, "--config", str(self.settings))
        service.put(self.old, self.ids, self.embeddings[self.old][self.ids], self.labels[self.ids])
        service.wait_for_encoders(self.queries[0])
        return service

    def measure(self, service, **options):
        found = served.class_like(service, self.queries, self.query_labels, self.sizes, self.old, **options)
        found["item_recall_at_1"] = served.item_like(service, self.copies, self.originals, [], **options)["all"]["recall_at_1"]
        return found

    def stages(self):
        with self.service("stages") as service:
            return {str(count): self.measure(service, **({"rerank": count} if count else {})) for count in STAGES}

    def backfill(self, order, shares=SHARES):
        with self.service(f"backfill-{order}") as service:
            for pixels in self.traffic:
                service.search(pixels, limit=24)
            # Searches as a version that is named are not counted as retrievals: only the earlier ones are to set the order.
            measure = lambda: self.measure(service, as_version=self.new)
            curve = {"0": measure()}
            for share in shares:
                embed_again(service, self.pictures, order, share)
                service.wait_for_encoders(self.queries[0])
                curve[str(share)] = measure()
        return curve

    def accepted(self, service, rate):
        wrong, right, pairs = 0, 0, [0, 0]
        for pixels, label in zip(self.queries, self.query_labels):
            try:
                hits = service.search(pixels, max_false_accept_rate=rate)["hits"]
            except urllib.error.HTTPError as error:
                if error.code == 422:
                    return None
                raise
            of_class = sum(hit["label"] == label for hit in hits)
            right, wrong = right + of_class, wrong + len(hits) - of_class
            pairs[0] += int(self.sizes[label])
            pairs[1] += int(ITEMS - self.sizes[label])
        return {"right": right / pairs[0], "wrong": wrong / pairs[1]}

    def thresholds(self):
        found = {}
        with self.service("thresholds-before", self.old) as service:
            found["before the upgrade"] = {str(rate): self.accepted(service, rate) for rate in RATES}
        with self.service("thresholds-after") as service:
            found["after it"] = {str(rate): self.accepted(service, rate) for rate in RATES}
            embed_again(service, self.pictures, "id", 0.5)
            service.wait_for_encoders(self.queries[0])
            found["half embedded again"] = {str(rate): self.accepted(service, rate) for rate in RATES}
        return found


def embed_again(service, pictures, order, share):
    served.ask("POST", f"{service.url}/backfill", {"originals": {"folder": str(pictures)}, "order": order, "stop": {"share": share}})
    for _ in range(600):
        state = served.ask("GET", f"{service.url}/backfill", None)
        if state["state"] == "finished":
            return
        if state["state"] != "running":
            sys.exit(f"the backfill does not go on: {json.dumps(state)}")
        time.sleep(0.2)
    sys.exit("the backfill takes more than two minutes")


def table(found):
    lines = ["| searched by the new version | class-like: mAP@1000 / R@1 | item-like R@1 | median time of a search (ms) |", "|---|---|---|---|"]

    def row(name, one):
        milliseconds = 1000 * one["median_seconds"]
        lines.append(f"| {name} | {one['map_at_1000']:.3f} / {one['recall_at_1']:.3f} | {one['item_recall_at_1']:.3f} | {milliseconds:.0f} |")

    for count, one in found.get("second stage", {}).items():
        row("nothing embedded again" if count == "0" else f"second stage over {count} hits", one)
    for order, curve in found["backfill"].items():
        for share, one in curve.items():
            if share == "0" and "second stage" not in found and order == "id":
                row("nothing embedded again", one)
            if share != "0":
                row(f"{float(share):.0%} embedded again, order `{order}`", one)
    if "thresholds" not in found:
        return "\n".join(lines)
    lines += ["", "| max_false_accept_rate | " + " | ".join(f"{name}: wrong / right pairs accepted" for name in found["thresholds"]) + " |",
              "|---|" + "---|" * len(found["thresholds"])]
    for rate in map(str, RATES):
        cells = [one[rate] for one in found["thresholds"].values()]
        shown = [f"{cell['wrong']:.4f} / {cell['right']:.3f}" if cell else "no threshold (422)" for cell in cells]
        lines.append(f"| {rate} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--registry", "--old", "--new", "--work", "--json", "--table"):
        parser.add_argument(name)
    parser.add_argument("--zipf", action="store_true")
    parser.add_argument("--routes", nargs="+", choices=["bridged", "dual"], default=["dual"])
    parser.add_argument("--weight", type=float, default=0.5, help="share of the old encoder's query in a dual one, from 0 to 1 [default: 0.5]")
    arguments = parser.parse_args()
    if arguments.table:
        return print(table(json.loads(Path(arguments.table).read_text())))
    served.needs(parser, arguments, "registry", "old", "new", "work", "json")
    bench = Bench(arguments)
    if arguments.zipf:
        found = {"backfill": {order: bench.backfill(order, ZIPF_SHARES) for order in ("id", "retrieved", "worst_served")}}
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")
        return print(table(found))
    found = {"second stage": bench.stages(), "backfill": {order: bench.backfill(order) for order in ("id", "retrieved")},
             "thresholds": bench.thresholds()}
    Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    # As Ctrl-C does: the service that is running is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
