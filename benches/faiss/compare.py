#!/usr/bin/env python3
"""Exact and approximate search in Perennial and in faiss, on the same vectors, alternating in one run, one thread each.

    python3 -m venv env && env/bin/pip install faiss-cpu numpy
    env/bin/python benches/faiss/compare.py --perennial target/release/perennial

Recall is the share of the ten best by exact f32 search. Times include everything that a caller waits for; Perennial's also
include reading ids, labels and payloads of the hits from its durable store.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import faiss
import numpy

HITS = 10
SINGLE = 100
BREADTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def vectors(rows, queries, dim, latent, clustered, seed=0):
    """Unit vectors on a sheet of few dimensions, around random centres or anywhere, with noise in all dimensions."""
    random = numpy.random.default_rng(seed)
    sheet = random.standard_normal((latent, dim), dtype=numpy.float32)
    places = random.standard_normal((rows + queries, latent), dtype=numpy.float32)
    if clustered:
        centres = random.standard_normal((max(1, rows // 100), latent), dtype=numpy.float32)
        places = centres[numpy.arange(rows + queries) % len(centres)] + 0.5 * places
    found = places @ sheet + 0.5 * random.standard_normal((rows + queries, dim), dtype=numpy.float32)
    found /= numpy.linalg.norm(found, axis=1, keepdims=True)
    return found[:rows], found[rows:]


def timed(count, work, repeats=5):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append((time.perf_counter() - start) / count)
    return statistics.median(seconds)


def recall(found, truth):
    return float(numpy.mean([len(set(a) & set(b)) / HITS for a, b in zip(found, truth)]))


def rate_at(wanted, found):
    """The rate at which a recall is reached, between the breadths around it; none where no breadth reaches it or all do."""
    found = sorted(found)
    for (low, slow), (high, fast) in zip(found, found[1:]):
        if low < wanted <= high:
            share = (wanted - low) / (high - low)
            return slow ** (1 - share) * fast ** share
    return None


def in_faiss(flat, graph, queries, truth):
    def one_by_one(index):
        return [index.search(query[None], HITS)[1][0] for query in queries]

    yield f"exact, {len(queries)} queries", timed(len(queries), lambda: flat.search(queries, HITS)), 1.0
    queries, all_queries = queries[:SINGLE], queries
    yield "exact, one query", timed(len(queries), lambda: one_by_one(flat), repeats=1), 1.0
    queries = all_queries
    for breadth in BREADTHS:
        graph.hnsw.efSearch = breadth
        yield f"graph, breadth {breadth}", timed(len(queries), lambda: one_by_one(graph)), recall(one_by_one(graph), truth)


def in_perennial(program, folder, samples):
    command = [program, "bench", "search", "--quiet", "--json", "--threads", "1", "--samples", str(samples)]
    command += ["--vectors", str(folder / "gallery.npy"), "--queries", str(folder / "queries.npy")]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    for found in report["measurements"]:
        if found["name"].startswith("search"):
            yield found["name"].removeprefix("search, "), 1 / found["rate"]["per_second"], found.get("recall", 1.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perennial", default="target/release/perennial")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--latent", type=int, default=32, help="dimensions in which generated vectors mainly differ")
    parser.add_argument("--scattered", action="store_true", help="generated vectors have no clusters: hard for graphs")
    parser.add_argument("--vectors", nargs=2, metavar=("GALLERY.npy", "QUERIES.npy"), help="instead of generated ones")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    # Batches go through its matrix products, which are faster than its default for them.
    faiss.cvar.distance_compute_blas_threshold = 20
    if options.vectors:
        gallery, queries = (found / numpy.linalg.norm(found, axis=1, keepdims=True) for found in map(numpy.load, options.vectors))
    else:
        gallery, queries = vectors(options.rows, 1000, options.dim, options.latent, not options.scattered)
    rows, dim = gallery.shape
    flat = faiss.IndexFlatIP(dim)
    flat.add(gallery)
    truth = flat.search(queries, HITS)[1]
    graph = faiss.IndexHNSWFlat(dim, 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 128
    start = time.perf_counter()
    graph.add(gallery)
    print(f"faiss {faiss.__version__}: graph built in {time.perf_counter() - start:.0f} s on one thread")
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        numpy.save(folder / "gallery.npy", gallery)
        numpy.save(folder / "queries.npy", queries)
        for _ in range(options.rounds):
            for what, seconds, share in in_faiss(flat, graph, queries, truth):
                results.setdefault(("faiss", what), []).append((seconds, share))
            for what, seconds, share in in_perennial(options.perennial, folder, 10):
                results.setdefault(("perennial", what), []).append((seconds, share))
    print(f"{rows} x {dim}, {HITS} hits, one thread, medians over {options.rounds} alternating rounds")
    curves = {}
    for (tool, what), found in results.items():
        rate, share = 1 / statistics.median(seconds for seconds, _ in found), statistics.mean(share for _, share in found)
        print(f"{tool:10} {what:42} {rate:8.0f} queries/s  recall {share:.4f}")
        if what.startswith("graph"):
            curves.setdefault(tool, []).append((share, rate))
    for wanted in (0.9, 0.95, 0.98, 0.99, 0.995, 0.999):
        rates = {tool: rate_at(wanted, found) for tool, found in curves.items()}
        if all(rates.values()):
            print(f"graph, recall {wanted}: {rates['perennial']:.0f} and {rates['faiss']:.0f} queries/s, ratio {rates['perennial'] / rates['faiss']:.2f}")


main()
