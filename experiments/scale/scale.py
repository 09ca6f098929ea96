#!/usr/bin/env python3
"""Computes the tables of docs/scale.md, on paper and by simulation, and writes them between the marks of a document.

    python3 experiments/scale/scale.py [DOCUMENT]

Nothing is measured here. What was measured elsewhere is typed in once, with its place; what is assumed is in the same table. Change a value to
compute your own case. It needs Python 3.10 and takes seconds; the simulation has a fixed seed.
"""

import math
import random
import re
import struct
import sys
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist

NORMAL = NormalDist()
HOUR, DAY = 3600.0, 86400.0

# name: value, unit, where it is from.
FACTS = {
    "points": (1e9, "points", "the case"),
    "rows": (1e8, "rows", "the case"),
    "dim": (768, "dimensions, old and new", "the case"),
    "gflops": (2 * 20_000 * 1536**2 / 2.48 / 1e9, "GFLOP/s of a bridge on two threads", "measured: performance.md, Bridges (20,000 rows of 1,536 dimensions in 2.48 s)"),
    "query": (43e-6, "s to map one query of 768 dimensions", "measured: performance.md, Bridges"),
    "run_384": (81_000, "rows/s of a mapped run into pgvector, 384 dimensions, one core for client and server", "measured: migrate.md, Measured"),
    "copy_384": (138_000, "rows/s of a bare COPY, the same machine", "measured: migrate.md, Measured"),
    "graph": (1400, "s for a graph of a million vectors of 512 dimensions, one thread", "assumed: three times what the gallery's own graph takes (454 s, performance.md, A million vectors), since Qdrant's and pgvector's are others"),
    "row_bytes": (4221, "bytes of a table's row of 768 dimensions, its vector kept outside of the row", "measured: experiments/scale/pgvector-size.sh"),
    "index_bytes": (4098, "bytes of an HNSW entry of 768 dimensions in pgvector", "measured: experiments/scale/pgvector-size.sh"),
    "links": (160, "bytes of a point's links in a graph with m = 16, and its id", "assumed: 32 links of 4 bytes on the lowest level, 8 bytes above it, an id and its index"),
    "payload": (200, "bytes of payload and of the wire's frame a point", "assumed"),
    "nodes": (12, "nodes of the cluster, 16 threads each", "assumed"),
    "replicas": (2, "replicas of each shard", "assumed"),
    "shards": (24, "shards", "assumed"),
    "network": (10e9 / 8 * 0.5, "bytes/s between the mapping machines and the cluster", "assumed: half of 10 Gbit/s"),
    "rate": (20_000, "points/s that the owner allows (`--rate`), Qdrant", "assumed"),
    "rate_rows": (2_000, "rows/s that the owner allows (`--rate`), pgvector", "assumed"),
    "encoder": (1000, "items/s of one accelerator with the new encoder", "assumed; use your own, it decides everything about a backfill"),
    "writes": (50, "rows or points/s that programs write meanwhile", "assumed"),
    "mtbf": (60 * DAY, "s between failures of one node, 60 days", "assumed"),
    "repair": (2 * HOUR, "s, 2 hours, until a failed node is back with its data", "assumed"),
}


def fact(name):
    return FACTS[name][0]


def number(value, digits=3):
    """With so many digits that count, and separators."""
    if value == 0:
        return "0"
    shown = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits - 1 - math.floor(math.log10(abs(value)))):,.{shown}f}"


def written(value):
    """A fact as it was typed in."""
    if value >= 1e6:
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def duration(seconds):
    for unit, name in ((DAY, "d"), (HOUR, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{number(seconds / unit, 2)} {name}"
    return f"{number(seconds, 2)} s" if seconds >= 1 else "0 s"


def size(count):
    for unit, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{number(count / unit, 2)} {name}"
    return f"{number(count, 2)} B"


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in rows]) + "\n"


# --- How many queries a certificate needs.


def ln_binomial(n, k, p):
    if p in (0.0, 1.0):
        return 0.0 if k == n * p else -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log(1 - p)


@lru_cache(maxsize=None)
def gains_needed(changed, alpha):
    """The fewest gains among so many changed queries with which McNemar's exact one-sided test passes; none if all would not do."""
    tail, needed = 0.0, None
    for gains in range(changed, -1, -1):
        tail += math.exp(ln_binomial(changed, gains, 0.5))
        if tail > alpha:
            break
        needed = gains
    return needed


# Up to so many changed queries the exact test is summed term by term; of more, the sums are those of the normal distribution.
SUMMED = 300


def exact_power(queries, share, margin, alpha):
    """The probability that the exact test passes, for a share of changed queries and a true margin."""
    if queries * share > SUMMED:
        # One gain more or less is a difference of two between gains and losses.
        needed = NORMAL.inv_cdf(1 - alpha) * math.sqrt(queries * share) + 1
        return NORMAL.cdf((queries * margin - needed) / math.sqrt(queries * (share - margin**2)))
    gain = (share + margin) / 2 / share
    spread = 6 * math.sqrt(queries * share * (1 - share)) + 6
    power = 0.0
    for changed in range(max(0, int(queries * share - spread)), min(queries, int(queries * share + spread)) + 1):
        needed = gains_needed(changed, alpha)
        if needed is not None:
            tail = sum(math.exp(ln_binomial(changed, gains, gain)) for gains in range(needed, changed + 1))
            power += math.exp(ln_binomial(queries, changed, share)) * min(tail, 1.0)
    return power


def interval_power(queries, deviation, margin, least, confidence=0.95):
    """The probability that the interval of the mean lies at or above `least`: the bootstrap's interval of many queries is that of the normal
    distribution."""
    error = deviation / math.sqrt(queries)
    return NORMAL.cdf((margin - least) / error - NORMAL.inv_cdf(0.5 + confidence / 2))


# A certificate needs so many queries in any case.
LEAST = 30


def fewest(power, wanted=0.9, most=1 << 20):
    """The fewest queries with which `power` is reached, to two digits."""
    low, high = 29, LEAST
    while power(high) < wanted:
        low, high = high, high * 2
        if high > most:
            return None
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return high


def rounded_up(queries):
    if queries is None:
        return "more than a million"
    step = 10 ** max(0, len(str(queries)) - 2)
    return f"{-(-queries // step) * step:,}"


def deviation_of_flips(share, margin):
    """Of a query's difference, which is 1, -1 or 0."""
    return math.sqrt(share - margin**2)


def certificates():
    rows = []
    for share in (0.05, 0.10, 0.20, 0.40):
        cells = []
        for margin in (0.005, 0.01, 0.02, 0.05):
            if margin >= share:
                cells.append("-")
                continue
            both = lambda n: min(exact_power(n, share, margin, 0.025), interval_power(n, deviation_of_flips(share, margin), margin, 0.0))
            cells.append(rounded_up(fewest(both)))
        rows.append([f"{share:.2f}", *cells])
    text = "Right or wrong (recall@k, nearest class mean): queries needed to certify no loss (smallest margin 0) with a probability of 0.9, at 95 %\n"
    text += "confidence, by interval and McNemar's exact test. *Changed*: the share of queries whose answer becomes right or wrong.\n\n"
    text += table(["changed", "true margin +0.005", "+0.01", "+0.02", "+0.05"], rows)
    rows = []
    for share in (0.05, 0.10, 0.20, 0.40):
        allowed = lambda least: rounded_up(fewest(lambda n: interval_power(n, deviation_of_flips(share, 0), 0.0, -least)))
        rows.append([f"{share:.2f}", *(allowed(least) for least in (0.005, 0.01, 0.02, 0.05))])
    text += "\nThe same for an upgrade that changes nothing on average (true margin 0), where a small loss is allowed (a negative smallest margin; the\ninterval alone decides):\n\n"
    text += table(["changed", "allowed loss 0.005", "0.01", "0.02", "0.05"], rows)
    rows = []
    for deviation in (0.02, 0.05, 0.10, 0.20):
        queries = lambda margin: rounded_up(fewest(lambda n: interval_power(n, deviation, margin, 0.0)))
        rows.append([f"{deviation:.2f}", *(queries(margin) for margin in (0.002, 0.005, 0.01, 0.02))])
    text += "\nMeasures of degree (mAP, MRR): by the standard deviation of a query's difference and the true margin. Of the certificates in\n[results](results/encoders.md#encoders-that-were-not-trained-here), mAP of dual queries has a deviation of "
    text += "about 0.04 (3,000 queries, an interval of 0.003).\n\n"
    text += table(["deviation", "true margin +0.002", "+0.005", "+0.01", "+0.02"], rows)
    return text


# What `cargo run --release -p perennial-eval --example false_pass` found at margin 0 (docs/results/certificates.md): queries, share, exact test passes.
SIMULATED = [(300, 0.05, 0.008), (300, 0.20, 0.022), (1000, 0.05, 0.024), (1000, 0.20, 0.013), (3000, 0.05, 0.027), (3000, 0.20, 0.024)]


def check():
    rows = []
    for queries, share, found in SIMULATED:
        error = math.sqrt(found * (1 - found) / 1000)
        rows.append([f"{queries:,}", f"{share:.2f}", f"{exact_power(queries, share, 0.0, 0.025):.3f}", f"{found:.3f} ± {2 * error:.3f}"])
    return table(["queries", "changed", "computed: the exact test passes at margin 0", "simulated by the product's code"], rows)


# --- A sample of the gallery.


def recall_at_1(gallery, distance):
    """The right item's similarity is that of the others plus `distance` standard deviations; the best of all must be the right one."""
    steps, total = 4000, 0.0
    for step in range(steps):
        place = distance - 8 + 16 * (step + 0.5) / steps
        others = math.exp((gallery - 1) * math.log(max(NORMAL.cdf(place), 1e-300)))
        total += NORMAL.pdf(place - distance) * others * 16 / steps
    return total


def distance_for(gallery, recall):
    low, high = 0.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if recall_at_1(gallery, middle) < recall else (low, middle)
    return low


def sampled_gallery():
    old, new = distance_for(10_000, 0.60), distance_for(10_000, 0.62)
    rows = []
    for gallery in (10_000, 100_000, 1_000_000, 100_000_000, 1_000_000_000):
        before, after = recall_at_1(gallery, old), recall_at_1(gallery, new)
        rows.append([f"{gallery:,}", f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"])
    return table(["items in the gallery", "before", "after", "margin"], rows)


# --- Time, traffic, disk.


def json_bytes(dim, values=5_000):
    """Bytes of a value of a unit vector in JSON, with its comma: the fewest digits that read back as the same 32-bit value. The values are normally
    distributed, which those of a unit vector of many dimensions nearly are."""
    rng, total = random.Random(11), 0
    for _ in range(values):
        value = struct.unpack("f", struct.pack("f", rng.gauss(0, dim**-0.5)))[0]
        texts = (f"{value:.{digits}e}" for digits in range(9))
        mantissa, exponent = next(text for text in texts if struct.unpack("f", struct.pack("f", float(text)))[0] == value).split("e")
        digits = len(mantissa.lstrip("-").replace(".", "").rstrip("0"))
        # Written out from 0.00001 on: a sign, `0.`, zeros and digits; with an exponent below.
        zeros = -int(exponent) - 1
        length = digits + 2 + zeros if 0 <= zeros < 5 else digits + 4
        total += length + (value < 0) + 1
    return total / values


def work():
    vector = 4 * fact("dim")
    point = vector + fact("payload")
    flops = 2 * fact("dim") ** 2
    mapping = fact("gflops") * 1e9 / flops
    both = []

    def add(step, qdrant, pgvector):
        both.append([step, qdrant, pgvector])

    points, rows = fact("points"), fact("rows")
    add("vectors that are there", size(points * vector), size(rows * vector))
    add("dual queries, without a write: a query more", f"one pass of the old encoder and {fact('query') * 1e6:.0f} µs", "the same")
    add(f"mapping alone, two threads ({number(mapping, 2)} vectors/s)", duration(points / mapping), duration(rows / mapping))
    add("reading and writing at the allowed rate", duration(points / fact("rate")), duration(rows / fact("rate_rows")))
    add("threads that map at that rate", number(max(2 * fact("rate") / mapping, 1), 2), "less than 1")
    value = json_bytes(fact("dim"))
    text = value * fact("dim") + fact("payload")
    add("a vector on the wire", f"{size(value * fact('dim'))}: JSON, {number(value)} bytes a value", f"{size(vector)}: binary, 4 bytes a value")
    wire, binary = points * text * 2, rows * (vector + 100) * 2
    add("traffic with the migrating machine: read once, written once", size(wire), size(binary))
    add("the same on the network alone", duration(wire / fact("network")), duration(binary / fact("network")))
    add("traffic between nodes, binary, at most: every replica is read and written", size(points * point * fact("replicas") * 2), "")
    half = fact("run_384") / (fact("dim") / 384)
    copy = fact("copy_384") / (fact("dim") / 384)
    add("at the measured rate of a run, one core", "not measured", f"{duration(rows / half)} ({number(half, 2)} rows/s)")
    add("at the measured rate of a bare COPY", "", f"{duration(rows / copy)} ({number(copy, 2)} rows/s)")
    shard = points / fact("shards")
    build = lambda n: fact("graph") * (n / 1e6) * math.log(n) / math.log(1e6) * fact("dim") / 512
    threads = fact("nodes") * 16
    add("building the graph, in threads", f"{duration(build(shard) * fact('shards') * fact('replicas'))} of one thread", f"{duration(build(rows))} of one thread")
    add("the same by all threads of the cluster, or by 16", duration(build(shard) * fact("shards") * fact("replicas") / threads), f"{duration(build(rows) / 16)}")
    add("disk for the new vectors and their index", size(points * (vector + fact("links") + fact("payload")) * fact("replicas")), size(rows * (fact("row_bytes") + fact("index_bytes"))))
    add("memory, all new vectors and the graph", size(points * (vector + fact("links")) * fact("replicas")), f"{size(rows * fact('index_bytes'))}, the whole index")
    add("memory, 8-bit codes and the graph", size(points * (fact("dim") + fact("links")) * fact("replicas")), "")
    return table(["", f"Qdrant, {points:.0e} points".replace("e+0", "e"), f"pgvector, {rows:.0e} rows".replace("e+0", "e")], both)


def backfill():
    rows = []
    for share in (0.05, 0.25, 1.0):
        cells = [duration(share * fact("points") / (fact("encoder") * workers)) for workers in (1, 8, 64)]
        hours = share * fact("points") / fact("encoder") / HOUR
        rows.append([f"{share:.2f}", *cells, number(hours, 2)])
    return table(["share embedded again", "1 accelerator", "8", "64", "hours of an accelerator"], rows)


def sampling_cost():
    vector = 4 * fact("dim")
    rows = []
    for pairs, queries in ((2_000, 3_000), (30_000, 10_000)):
        inputs = pairs + queries
        rows.append(
            [
                f"{pairs:,}",
                f"{queries:,}",
                size(pairs * vector),
                f"{2 * queries:,}",
                duration(2 * inputs / fact("encoder")),
                duration(2 * queries / 50),
            ]
        )
    return table(["pairs to fit on", "queries", "read from the index", "searches of the index", "encoding, one accelerator", "searching at 50/s"], rows)


# --- Writes meanwhile, and failures.


def late_writes():
    rows = []
    # A later pass in Qdrant reads all points again at the rate, since nothing tells which of them changed; in PostgreSQL only what is late.
    for name, count, rate, reads_all in (("Qdrant", fact("points"), fact("rate"), True), ("pgvector", fact("rows"), fact("rate_rows"), False)):
        time, cells = count / rate, []
        for _ in range(4):
            late = fact("writes") * time
            cells.append(number(late, 2))
            time = count / rate if reads_all else late / rate
        rows.append([name, duration(count / rate), *cells])
    return table(["", "first pass", "late after it", "after the second", "third", "fourth"], rows)


def failures(rng, replicas, writes, days, rounds=1000):
    """The share of the time in which some shard lacks the replicas that a write needs, and the failures of a migration."""
    nodes, shards = fact("nodes"), fact("shards")
    stalled = failed = 0.0
    span = days * DAY
    for _ in range(rounds):
        places = [rng.sample(range(nodes), replicas) for _ in range(shards)]
        down = []
        for node in range(nodes):
            time = rng.expovariate(1 / fact("mtbf"))
            while time < span:
                down.append((time, time + fact("repair"), node))
                time += fact("repair") + rng.expovariate(1 / fact("mtbf"))
        failed += len(down)
        events = sorted({edge for start, end, _ in down for edge in (start, min(end, span))})
        for start, end in zip(events, events[1:]):
            middle = (start + end) / 2
            off = {node for begin, stop, node in down if begin <= middle < stop}
            if any(sum(node not in off for node in place) < writes for place in places):
                stalled += end - start
    return stalled / rounds / span, failed / rounds


def failing_nodes():
    days = fact("points") / fact("rate") / DAY
    rows = []
    for replicas, writes in ((1, 1), (2, 1), (2, 2), (3, 2)):
        share, failed = failures(random.Random(7), replicas, writes, days)
        rows.append([replicas, writes, number(failed, 2), f"{share:.2%}", duration(share * days * DAY)])
    return table(["replicas", "of which a write needs", "failures of nodes in the first pass", "time without writes", "longer by"], rows)


PARTS = {
    "assumptions": lambda: table(["value", "what", "from"], [[written(value), unit, source] for value, unit, source in FACTS.values()]),
    "certificates": certificates,
    "check": check,
    "gallery": sampled_gallery,
    "sampling": sampling_cost,
    "work": work,
    "backfill": backfill,
    "late": late_writes,
    "failures": failing_nodes,
}


def main():
    if len(sys.argv) > 2 or sys.argv[1:] == ["--help"]:
        sys.exit(__doc__)
    parts = {name: part() for name, part in PARTS.items()}
    if len(sys.argv) < 2:
        for name, text in parts.items():
            print(f"## {name}\n\n{text}")
        return
    document = Path(sys.argv[1])
    text = document.read_text()
    for name, part in parts.items():
        begin, end = f"<!-- scale.py {name}: begin -->", f"<!-- scale.py {name}: end -->"
        if begin not in text or end not in text:
            sys.exit(f"{document} has no marks for {name}")
        text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{part}\n{end}", text, flags=re.DOTALL)
    part = document.with_name(f"{document.name}.part")
    part.write_text(text)
    part.replace(document)


main()
