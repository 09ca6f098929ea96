"""Times ONNX graphs in rten, tract and onnxruntime, and in Perennial with either of its runtimes, in turn, with the same inputs and threads.

    measure_runtimes.py ENCODERS [--threads 1 2] [--rounds 5] [--cases lite0/32...] [--runtimes perennial-onnxruntime...]

ENCODERS is what export.py wrote. First build what is to be timed: the program that runs rten and tract, and the one that runs Perennial's encoders,
preparation left out:

    cargo build --release --manifest-path experiments/encoders/runtimes/Cargo.toml
    cargo build --release -p perennial-encode --features onnxruntime --example encode_speed

Every round runs each runtime once for each case, in an order that changes, so that what else the machine does hits all alike. Printed: the median
processor time of a run (all threads) and the median over rounds of its ratio to onnxruntime's in the same round; then the same by the clock.
onnxruntime is the Python package with its own defaults, in one session; of several threads those that wait for others burn processor time there.
Perennial uses the library of the same package.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CASES = [
    ("lite0", 1), ("lite0", 32), ("minilm", 1), ("minilm", 32), ("minilm-int8", 1), ("minilm-int8", 32), ("minilm-dynamic", 1), ("minilm-dynamic", 32),
]
TOKENS = 64


def graph(folder):
    return next(path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.exists())


def inputs(name, batch):
    generator = np.random.default_rng(7)
    if name.startswith("lite"):
        return {"pixels": generator.standard_normal((batch, 3, 224, 224)).astype(np.float32)}
    ids = generator.integers(1000, 30000, (batch, TOKENS))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def reference(path, values, threads, runs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    times, result = [], None
    for _ in range(runs + 1):
        clock, processor = time.perf_counter(), time.process_time()
        result = session.run(None, values)[0]
        times.append((time.perf_counter() - clock, time.process_time() - processor))
    return times[1:], result


def program(binary, runtime, path, folder, threads, runs):
    output = folder / "output.bin"
    done = subprocess.run([binary, runtime, path, folder, str(threads), str(runs), output], capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1][:160]
    times = [tuple(map(float, word.split("/"))) for word in done.stdout.split()]
    return times[2:], np.fromfile(output, dtype=np.float32)


def perennial(binary, runtime, path, folder, threads, runs):
    if runtime == "perennial-onnxruntime":
        runtime = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    else:
        runtime = "rten"
    output, variables = folder / "output.bin", {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run([binary, runtime, path, folder, str(runs), output], capture_output=True, text=True, env=variables)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1][:160]
    times = [tuple(map(float, word.split("/"))) for word in done.stdout.split()]
    return times[2:], np.fromfile(output, dtype=np.float32)


def embeddings(raw):
    """What Perennial makes of a graph's output for texts of one length, or for pictures."""
    rows = raw.mean(axis=1) if raw.ndim == 3 else raw
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", help="such as lite0/32")
    parser.add_argument("--runtimes", nargs="+", default=["rten", "rten-prepacked", "tract", "perennial", "perennial-onnxruntime"])
    parser.add_argument("--program", default=REPOSITORY / "experiments/encoders/runtimes/target/release/runtimes")
    parser.add_argument("--encode-speed", default=REPOSITORY / "target/release/examples/encode_speed")
    options = parser.parse_args()
    print("| graph | batch | threads | runtime | processor, ms | ratio | clock, ms | ratio | largest difference |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    for name, batch in CASES:
        if options.cases and f"{name}/{batch}" not in options.cases:
            continue
        path, values = graph(options.encoders / name), inputs(name, batch)
        runs = 10 if batch == 1 else 1
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            lines = []
            for key, value in values.items():
                kind = "f32" if value.dtype == np.float32 else "i64"
                value.tofile(folder / f"{key}.bin")
                lines.append(" ".join([key, kind, *map(str, value.shape)]))
            (folder / "inputs.txt").write_text("\n".join(lines) + "\n")
            for threads in options.threads:
                times = {runtime: [] for runtime in ["onnxruntime", *options.runtimes]}
                ratios = {runtime: [] for runtime in times}
                results, failed = {}, {}
                for turn in range(options.rounds):
                    medians = {}
                    order = list(times)
                    random.Random(turn).shuffle(order)
                    for runtime in order:
                        if runtime in failed:
                            continue
                        if runtime == "onnxruntime":
                            measured, results[runtime] = reference(path, values, threads, runs)
                        elif runtime.startswith("perennial"):
                            encoder = options.encoders / name
                            measured, results[runtime] = perennial(options.encode_speed, runtime, encoder, folder, threads, runs)
                        else:
                            measured, results[runtime] = program(options.program, runtime, path, folder, threads, runs)
                        if runtime != "onnxruntime":
                            if measured is None:
                                failed[runtime] = results.pop(runtime)
                                continue
                        medians[runtime] = [statistics.median(kind) for kind in zip(*measured)]
                        times[runtime] += measured
                    for runtime, median in medians.items():
                        ratios[runtime].append([one / other for one, other in zip(median, medians["onnxruntime"])])
                for runtime in times:
                    if runtime in failed:
                        print(f"| {name} | {batch} | {threads} | {runtime} | {failed[runtime]} | | | | |", flush=True)
                        continue
                    expected = results["onnxruntime"]
                    expected = embeddings(expected) if runtime.startswith("perennial") else expected
                    difference = np.abs(results[runtime].ravel() - expected.ravel()).max()
                    clock, processor = (1000 * statistics.median(kind) for kind in zip(*times[runtime]))
                    by_clock, by_processor = (statistics.median(kind) for kind in zip(*ratios[runtime]))
                    shown = f"{processor:.1f} | {by_processor:.2f} | {clock:.1f} | {by_clock:.2f} | {difference:.1e}"
                    print(f"| {name} | {batch} | {threads} | {runtime} | {shown} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
