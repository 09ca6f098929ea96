"""Imports the text encoders that export.py wrote, embeds their fixed texts with the program, and compares with their own runtimes.

    compare_imported.py PROGRAM ENCODERS

Prints the largest difference of a value of the unit vectors, and the lowest cosine.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def unit(rows):
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def rows_of(tensors):
    return unit(next(value for value in tensors.values() if value.ndim == 2))


def main():
    program, encoders = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    found = sorted(encoders.glob("*/reference-texts.json"))
    if not found:
        sys.exit(f"{encoders} holds no text encoder of export.py")
    for texts in found:
        encoder = texts.parent
        words = json.loads(texts.read_text())
        with tempfile.TemporaryDirectory() as folder:
            run = lambda *words: subprocess.run([program, "--quiet", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            table = Path(folder) / "texts.jsonl"
            table.write_text("\n".join(json.dumps({"id": str(at), "text": text}) for at, text in enumerate(words)))
            # wordllama's files do not say where a text is cut.
            more = ["--max-tokens", "512"] if not (encoder / "tokenizer_config.json").exists() else []
            run("models", "import", encoder, "--alias", "live", *more)
            run("embed", "live", "--table", table, "--text-column", "text", "--id-column", "id", "--out", "texts.npz")
            with np.load(Path(folder) / "texts.npz") as found:
                ours = rows_of(dict(found))
        reference = rows_of(load_file(encoder / "reference.safetensors"))
        cosines = (ours * reference).sum(axis=1)
        print(f"{encoder.name}: {len(words)} texts, largest difference {np.abs(ours - reference).max():.1e}, lowest cosine {cosines.min():.7f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
