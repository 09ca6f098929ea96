"""Times `perennial fit-head` on generated features.

    measure.py PROGRAM [--rows 100000] [--dim 768] [--classes 1000] [--vertices 1024] [--reference] [--set OPTION=VALUE ...]

PROGRAM is a release build of perennial. The features are noise around a direction of each class, beside one that all of them share, as
embeddings of most encoders are. With --reference a layer trained on another draw of the noise is the older version. Needs numpy; about 1.5 GB
of disk for the default sizes, given back in the end.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import tempfile
import time

import numpy as np


def features(rows, dim, classes, seed):
    centres = np.random.default_rng(99).standard_normal((classes, dim)).astype(np.float32)
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    values = random.standard_normal((rows, dim), dtype=np.float32) * 2.0
    values += centres[labels]
    values += 4.0
    return values, labels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--vertices", type=int, default=1024)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    arguments = parser.parse_args()
    more = [f"--{option}" for option in arguments.set]

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def fit(name, *words):
            command = [arguments.program, "--device", "cpu", "--json", "--registry", folder / "none", "fit-head", folder / f"{name}.npy"]
            command += ["--labels", folder / "labels.txt", "--out", folder / f"{name}-layer", *words]
            begun = time.monotonic()
            answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            return answer, time.monotonic() - begun

        values, labels = features(arguments.rows, arguments.dim, arguments.classes, 1)
        np.save(folder / "new.npy", values)
        (folder / "labels.txt").write_text("\n".join(map(str, labels)))
        options = ["--vertices", str(arguments.vertices)]
        if arguments.reference:
            noise = np.random.default_rng(2).standard_normal(values.shape, dtype=np.float32)
            np.save(folder / "old.npy", values + 2.0 * noise)
            del noise
            fit("old", *options, "--epochs", "3")
            mapped = ["bridge", "apply", folder / "old-layer", folder / "old.npy", "--out", folder / "reference.npy"]
            subprocess.run([arguments.program, *mapped], check=True, stdout=subprocess.DEVNULL)
            (folder / "old.npy").unlink()
            options = ["--reference", folder / "reference.npy"]
        del values
        answer, seconds = fit("new", *options, *more)

    training = answer["training"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{answer['rows']} rows of {arguments.dim}, {answer['classes']} classes, {answer['vertices']} vertices, {training['epochs']} epochs")
    print(f"training {training['seconds']:.0f} s, whole command {seconds:.0f} s, at most {peak:.1f} GB of memory")
    print(json.dumps(answer["figures"], indent=1))


if __name__ == "__main__":
    main()
