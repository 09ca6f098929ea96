#!/usr/bin/env python3
"""Ways to rank items of several versions together, on the items of a running service (at most 1,000; needs numpy).

    perennial demo --serve &
    experiments/rank-across-versions.py http://127.0.0.1:7700

The thumbnail of every fourth item, embedded by the live version, is a query; the item itself is left out of its results. The logistic
calibration is fitted on the labels of the same items that it ranks, so it is about the best that calibration per version can reach.
"""

import json
import sys
import urllib.request

import numpy

BEST = 24


def answer(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"})) as response:
        return json.load(response)


def logistic(scores, same):
    weights, inputs = numpy.zeros(2), numpy.stack([numpy.ones(scores.size), scores.ravel()], 1)
    for _ in range(30):
        chance = 1 / (1 + numpy.exp(-inputs @ weights))
        hessian = (inputs * (chance * (1 - chance))[:, None]).T @ inputs
        weights += numpy.linalg.solve(hessian, inputs.T @ (same.ravel() - chance))
    return weights[0] + weights[1] * scores


def above_the_best(scores, share):
    best = numpy.sort(scores, 1)[:, -max(2, int(share * scores.shape[1])) :]
    return scores - best.mean(1, keepdims=True)


def main(service):
    service = service.rstrip("/")
    items = answer(f"{service}/gallery/items?limit=1000&embeddings=true")["items"]
    asked = [at for at in range(0, len(items), 4) if "thumbnail" in items[at]["payload"]]
    queries = [answer(f"{service}/embed", {"images": [items[at]["payload"]["thumbnail"]]})["embeddings"][0] for at in asked]
    versions = numpy.array([item["model_version"] for item in items])
    labels = numpy.array([item["label"] for item in items])
    scores = numpy.array(queries) @ numpy.array([item["embedding"] for item in items]).T
    same = (labels[None] == labels[asked][:, None]).astype(float)
    oldest = min(versions)

    def report(name, rank):
        ranks = numpy.empty_like(scores)
        for version in set(versions):
            of_version = versions == version
            ranks[:, of_version] = rank(scores[:, of_version], same[:, of_version])
        ranks[numpy.arange(len(asked)), asked] = -numpy.inf
        order = numpy.argsort(-ranks, 1)[:, :BEST]
        right = numpy.take_along_axis(same, order, 1)
        share = (versions[order] == oldest).mean()
        print(f"{name:34} right at rank 1: {right[:, 0].mean():.3f}  in the first {BEST}: {right.mean():.3f}  of {oldest}: {share:.3f}")

    report("similarity", lambda s, _: s)
    report("standardised per query and version", lambda s, _: (s - s.mean(1, keepdims=True)) / s.std(1, keepdims=True))
    report("above the mean of its best tenth", lambda s, _: above_the_best(s, 0.1))
    report("logistic calibration per version", logistic)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] == "--help":
        sys.exit(__doc__)
    main(sys.argv[1])
