#!/usr/bin/env python3
"""200,000 texts of WordNet, embedded by wordllama (256 dimensions) and by MiniLM-L6 (384): an index and its upgrade.

    export_texts.py WORDNET_DIR OUT [ITEMS]

WORDNET_DIR holds `data.noun`, `data.verb`, `data.adj` and `data.adv` (Debian's package wordnet-base: /usr/share/wordnet). A text is a definition,
the words of a synset, or an example sentence. Of all texts, in seeded order:

- `queries`: 3,000 definitions; what is right for a query is every text of its category (45 of them, WordNet's lexicographer files), and, by
  relevance.trec, the texts of its own synset: its words and examples.
- `fit`: 5,000 other texts, to fit bridges on.
- `gallery`: ITEMS others (200,000), among them the words of every query's synset. `portion-1` and `portion-2` are its halves by the new encoder.

Written as OUT/wordllama/NAME.npz and OUT/minilm/NAME.npz, with ids and labels. The same packages give the same files.
"""

import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "outside"))

from text_encoders import ENCODERS  # noqa: E402

SEED = 21
FILES = ["noun", "verb", "adj", "adv"]
QUERIES, FIT, ITEMS = 3000, 5000, 200_000
DEFINITION, WORDS, FIRST_EXAMPLE, LAST = 0, 1, 2, 9


def read_texts(folder):
    """Returns (id, synset, category, kind, text) of each text; of equal texts the first. The last digit of an id is its kind."""
    texts, seen = [], set()

    def add(synset, category, kind, text):
        if text and text not in seen:
            seen.add(text)
            texts.append((synset * 10 + kind, synset, category, kind, text))

    for number, name in enumerate(FILES):
        for line in (folder / f"data.{name}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence
                continue
            fields, gloss = line.split(" | ", 1)
            fields = fields.split(" ")
            synset, category = (number + 1) * 100_000_000 + int(fields[0]), int(fields[1])
            words = [fields[4 + 2 * place].replace("_", " ") for place in range(int(fields[3], 16))]
            add(synset, category, DEFINITION, gloss.split('; "', 1)[0].strip())
            # Adjectives carry a mark of their place, as in "galore(ip)".
            add(synset, category, WORDS, ", ".join(re.sub(r"\([a-z]+\)$", "", word) for word in words))
            for kind, example in enumerate(re.findall(r'"([^"]+)"', gloss)[: LAST - 1], start=FIRST_EXAMPLE):
                add(synset, category, kind, example.strip())
    return texts


def choose(texts, items):
    """Returns the numbers of the queries, of the fit set and of the gallery."""
    rng = np.random.default_rng(SEED)
    words = {text[1]: number for number, text in enumerate(texts) if text[3] == WORDS}
    order = rng.permutation(len(texts)).tolist()
    queries = [number for number in order if texts[number][3] == DEFINITION and texts[number][1] in words][:QUERIES]
    wanted = [words[texts[number][1]] for number in queries]
    taken = set(queries) | set(wanted)
    others = [number for number in order if number not in taken]
    fit, rest = others[:FIT], others[FIT:]
    # The same rows for any number of items come first, so that a trial needs no other evaluation set.
    gallery = wanted + rest[: items - len(wanted)]
    if len(gallery) < items:
        sys.exit(f"there are {len(gallery)} texts for the gallery, fewer than {items}")
    return queries, fit, rng.permutation(gallery).tolist()


def write(folder, name, texts, numbers, rows):
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.array([texts[number][0] for number in numbers], dtype="<u8")
    labels = np.array([texts[number][2] for number in numbers], dtype="<i8")
    space = np.array(folder.name)
    np.savez(folder / f"{name}.npz", embeddings=np.ascontiguousarray(rows, dtype="<f4"), ids=ids, labels=labels, space=space)
    print(f"{folder / name}.npz: {rows.shape[0]} x {rows.shape[1]}", flush=True)


def main(wordnet, out, items):
    texts = read_texts(wordnet)
    queries, fit, gallery = choose(texts, items)
    print(f"{len(texts)} texts", flush=True)
    for encoder in [encoder() for encoder in ENCODERS]:
        for name, numbers in [("queries", queries), ("fit", fit), ("gallery", gallery)]:
            rows = encoder.embed([texts[number][4] for number in numbers])
            write(out / encoder.name, name, texts, numbers, rows)
            if name == "gallery" and encoder.name == "minilm":
                half = len(numbers) // 2
                write(out / encoder.name, "portion-1", texts, numbers[:half], rows[:half])
                write(out / encoder.name, "portion-2", texts, numbers[half:], rows[half:])
    synsets = {}
    for number in gallery:
        synsets.setdefault(texts[number][1], []).append(texts[number][0])
    lines = [f"{texts[query][0]} 0 {item} 1\n" for query in queries for item in synsets[texts[query][1]]]
    (out / "relevance.trec").write_text("".join(lines))
    print(f"{out / 'relevance.trec'}: {len(lines)} judgements", flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else ITEMS)
