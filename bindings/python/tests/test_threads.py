"""The interpreter's lock is free during work, and results do not depend on the number of threads."""

import hashlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import DATA, load

from perennial import Bridge

RESULTS = """
import hashlib, sys, numpy as np, perennial
random = np.random.default_rng(3)
new, old = random.normal(size=(3000, 80)).astype(np.float32), random.normal(size=(3000, 48)).astype(np.float32)
bridge = perennial.Bridge.fit(new, old, "whitened")
print(bridge.sha256, hashlib.sha256(bridge.transform(new).tobytes()).hexdigest())
"""


def test_results_do_not_depend_on_the_number_of_threads():
    found = {
        subprocess.run(
            [sys.executable, "-c", RESULTS], env={**os.environ, "RAYON_NUM_THREADS": threads}, check=True, capture_output=True, text=True
        ).stdout
        for threads in ("1", "3")
    }
    assert len(found) == 1


def test_python_runs_while_a_bridge_is_fitted():
    random = np.random.default_rng(3)
    new, old = (random.normal(size=(4000, 512)).astype(np.float32) for _ in range(2))
    done = threading.Event()
    work = threading.Thread(target=lambda: (Bridge.fit(new, old, "orthogonal"), done.set()))
    # A thread that held the lock all the time would let this one count once, after its end.
    work.start()
    counted = 0
    while not done.is_set():
        counted += 1
        time.sleep(0)
    work.join()
    assert counted > 10


def test_one_bridge_serves_many_threads():
    bridge, queries = Bridge.load(DATA / "bridge"), load("new-queries")
    wanted = hashlib.sha256(bridge.transform(queries).tobytes()).digest()
    found = []
    work = [
        threading.Thread(target=lambda: found.extend(hashlib.sha256(bridge.transform(queries).tobytes()).digest() for _ in range(50)))
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found == [wanted] * 200


FORKED = """
import multiprocessing, sys, numpy as np, perennial
random = np.random.default_rng(3)
new, old = random.normal(size=(3000, 80)).astype(np.float32), random.normal(size=(3000, 48)).astype(np.float32)
bridge = perennial.Bridge.fit(new, old, "whitened")
labels = random.integers(0, 9, 3000)

def work(seed):
    again = perennial.Bridge.fit(new, old, "whitened", labels=labels)
    recall = perennial.metrics.recall_at_k(bridge.transform(new[:300]), old, query_labels=labels[:300], gallery_labels=labels)
    return again.sha256, perennial.simplex_prototypes(9).tobytes(), recall

wanted = work(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map(work, range(6))
assert all(one == wanted for one in found), (wanted, found)

def nested(results):
    child = multiprocessing.get_context("fork").Process(target=lambda: results.put(work(0)))
    results.put(work(0))
    child.start()
    child.join()

results = multiprocessing.get_context("fork").Queue()
process = multiprocessing.get_context("fork").Process(target=nested, args=(results,))
process.start()
assert [results.get(timeout=60) for _ in range(2)] == [wanted, wanted]
process.join()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_forked_processes_work_with_threads_of_their_own():
    """A fork has the memory of its parent, whose threads have worked already, and none of these threads."""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout) == (0, "done\n"), found.stderr
