#!/usr/bin/env python3
"""Exact and approximate search in Perennial and in faiss, on the same vectors, alternating in one run, one thread each.

    python3 -m venv env && env/bin/pip install faiss-cpu numpy
    env/bin/python benches/faiss/compare.py --perennial target/release/perennial

Recall is the share of the ten best by exact f32 search. Times include everything that a caller waits for; Perennial's also
include reading ids, labels and payloads of the hits from its durable store.

faiss hands batches to OpenBLAS, which may not know a newer processor and then does without its instructions: `--instructions` sets what
both sides use, and the first line says what faiss and its OpenBLAS took.
"""

import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

# What faiss, its OpenBLAS and Perennial are told. faiss and OpenBLAS read it when they are loaded.
INSTRUCTIONS = {
    "avx512": {"FAISS_SIMD_LEVEL": "AVX512", "OPENBLAS_CORETYPE": "SkylakeX", "PERENNIAL_INSTRUCTIONS": "avx512"},
    "avx-vnni": {"FAISS_SIMD_LEVEL": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "PERENNIAL_INSTRUCTIONS": "avx-vnni"},
    "avx2": {"FAISS_SIMD_LEVEL": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "PERENNIAL_INSTRUCTIONS": "avx2"},
}

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
    for breadth in BREADTHS if graph else ():
        graph.hnsw.efSearch = breadth
        yield f"graph, breadth {breadth}", timed(len(queries), lambda: one_by_one(graph)), recall(one_by_one(graph), truth)


def instructions_of_faiss():
    """The level of its own code, and the processor for which its OpenBLAS computes."""
    mapped = {line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line}
    cores = []
    for library in map(ctypes.CDLL, mapped):
        # numpy has one of its own, whose functions have other names.
        if hasattr(library, "openblas_get_corename"):
            library.openblas_get_corename.restype = ctypes.c_char_p
            cores.append(library.openblas_get_corename().decode())
    level = faiss.SIMDConfig.get_level_name() if hasattr(faiss, "SIMDConfig") else "its own choice of instructions"
    return f"{level}, OpenBLAS for {', '.join(cores) or 'an unknown processor'}"


def in_perennial(options, folder, samples):
    command = [options.perennial, "bench", "search", "--quiet", "--json", "--threads", "1", "--samples", str(samples)]
    command += ["--vectors", str(folder / "gallery.npy"), "--queries", str(folder / "queries.npy")]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    for found in report["measurements"]:
        # Products in f32 of whole batches choose their instructions by themselves.
        chosen = options.instructions in (None, "avx512") or not found["name"].startswith("search, f32, 1")
        if found["name"].startswith("search") and chosen:
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
    parser.add_argument("--exact", action="store_true", help="only searches of all rows, no graph of faiss")
    parser.add_argument("--instructions", choices=INSTRUCTIONS, help="the most of the processor that both sides use; otherwise each chooses")
    options = parser.parse_args()
    os.environ.update(INSTRUCTIONS.get(options.instructions, {}))
    global faiss, numpy
    import faiss
    import numpy

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
    print(f"faiss {faiss.__version__}, {instructions_of_faiss()}")
    graph = None
    if not options.exact:
        graph = faiss.IndexHNSWFlat(dim, 16, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = 128
        start = time.perf_counter()
        graph.add(gallery)
        print(f"graph of faiss built in {time.perf_counter() - start:.0f} s on one thread")
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        numpy.save(folder / "gallery.npy", gallery)
        numpy.save(folder / "queries.npy", queries)
        for _ in range(options.rounds):
            for what, seconds, share in in_faiss(flat, graph, queries, truth):
                results.setdefault(("faiss", what), []).append((seconds, share))
            for what, seconds, share in in_perennial(options, folder, 10):
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
        if len(rates) == 2 and all(rates.values()):
            print(f"graph, recall {wanted}: {rates['perennial']:.0f} and {rates['faiss']:.0f} queries/s, ratio {rates['perennial'] / rates['faiss']:.2f}")


main()
