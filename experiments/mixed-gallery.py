#!/usr/bin/env python3
"""Searches a running service whose gallery holds items of several versions, with images that are stored there.

    perennial demo --serve &
    experiments/mixed-gallery.py http://127.0.0.1:7700 [EVERY]

The image of every EVERY-th item (default 5) with a thumbnail, embedded by the live version, is a query. Reported per version: its share of
the first 24 hits, the rank at which it first occurs, and how often its best item has the query's label; of the items of each
version, the rank at which the query's own image is found. The item itself counts only for the latter. The service must take searches
for all items at once, so the gallery may hold 1,000.
"""

import json
import statistics
import sys
import urllib.request

BEST = 24


def answer(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"})) as response:
        return json.load(response)


def main(service, every=5):
    service = service.rstrip("/")
    versions = sorted(answer(f"{service}/gallery/stats")["per_version"])
    items = answer(f"{service}/gallery/items?limit=1000")["items"][::every]
    queries, best, right = 0, dict.fromkeys(versions, 0), dict.fromkeys([*versions, "any"], 0)
    first, itself = {version: [] for version in versions}, {version: [] for version in versions}
    for item in items:
        if "thumbnail" not in item["payload"]:
            continue
        queries += 1
        hits = answer(f"{service}/search", {"image": item["payload"]["thumbnail"], "limit": 1000, "exact": True})["hits"]
        itself[item["model_version"]].append(1 + [hit["id"] for hit in hits].index(item["id"]))
        others = [hit for hit in hits if hit["id"] != item["id"]]
        right["any"] += others[0]["label"] == item["label"]
        for version in versions:
            rank = next(rank for rank, hit in enumerate(others) if hit["model_version"] == version)
            first[version].append(1 + rank)
            right[version] += others[rank]["label"] == item["label"]
            best[version] += sum(hit["model_version"] == version for hit in others[:BEST])
    print(f"{queries} queries; best hit of any version has the right label: {right['any'] / queries:.3f}")
    for version in versions:
        same = f"{statistics.median(itself[version]):.0f}" if itself[version] else "-"
        print(f"{version}: share of the first {BEST}: {best[version] / queries / BEST:.3f}; first rank: {min(first[version])} at best, "
              f"{statistics.median(first[version]):.0f} in the median; right label: {right[version] / queries:.3f}; "
              f"the very image: rank {same} in the median")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] == "--help":
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:3]))
