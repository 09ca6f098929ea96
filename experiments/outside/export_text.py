#!/usr/bin/env python3
"""Retrieval of texts: wordllama (256 dimensions) replaced by MiniLM-L6 (384), on definitions of WordNet's nouns.

    export_text.py WORDNET_DIR OUT

WORDNET_DIR holds `data.noun` (Debian's package wordnet-base: /usr/share/wordnet). Writes

- OUT/text-class: labels are WordNet's noun categories. `fit`: 5,000 definitions of 15 categories; `queries` and `gallery`:
  3,000 each, 300 of each of the 10 largest categories, of which the fit set holds nothing.
- OUT/text-item: `queries`: 1,500 words; `gallery`: 5,000 definitions, among them the one right one for each word (the word
  names nothing else in the gallery); `fit`: 3,000 other definitions. Labels are categories; what is right is said by
  relevance.trec and qrels/test.tsv. queries.jsonl and corpus.jsonl hold the texts.

Each has a folder per encoder, `wordllama` and `minilm`. Ids of definitions are WordNet's synset offsets; a query's id is that of its
definition plus 1,000,000,000.
"""

import sys
from pathlib import Path

import numpy as np
from text_encoders import ENCODERS
from vector_files import write_relevance, write_set, write_texts

SEED = 14
# noun.Tops: the fifty most general nouns, no category of meaning.
NO_CATEGORY = 3
CLASS_FIT, HELD_OUT, PER_CATEGORY = 5000, 10, 300
ITEM_FIT, ITEMS, WORDS = 3000, 5000, 1500
QUERY_IDS = 1_000_000_000


def read_nouns(path):
    """Returns (id, category, words, definition) of each synset, without the examples in quotes; of equal definitions the first."""
    nouns, seen = [], set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields, gloss = line.split(" | ", 1)
        fields = fields.split(" ")
        words = [fields[4 + 2 * number].replace("_", " ") for number in range(int(fields[3], 16))]
        definition = gloss.split('; "', 1)[0].strip()
        if definition and definition not in seen:
            seen.add(definition)
            nouns.append((int(fields[0]), int(fields[1]), words, definition))
    return nouns


def write_definitions(folder, encoder, name, nouns):
    rows = encoder.embed([noun[3] for noun in nouns])
    write_set(folder / encoder.name, name, rows, [noun[1] for noun in nouns], [noun[0] for noun in nouns])


def export_classes(nouns, encoders, out, rng):
    members = {}
    for number, noun in enumerate(nouns):
        members.setdefault(noun[1], []).append(number)
    held_out = sorted(sorted(members, key=lambda category: -len(members[category]))[:HELD_OUT])
    evaluated = [[], []]
    for category in held_out:
        chosen = rng.choice(members[category], 2 * PER_CATEGORY, replace=False)
        evaluated[0] += list(chosen[:PER_CATEGORY])
        evaluated[1] += list(chosen[PER_CATEGORY:])
    others = [number for number, noun in enumerate(nouns) if noun[1] not in held_out and noun[1] != NO_CATEGORY]
    sets = {"fit": rng.choice(others, CLASS_FIT, replace=False)}
    sets |= {"queries": rng.permutation(evaluated[0]), "gallery": rng.permutation(evaluated[1])}
    for encoder in encoders:
        for name, numbers in sets.items():
            write_definitions(out, encoder, name, [nouns[number] for number in numbers])


def export_items(nouns, encoders, out, rng):
    chosen = rng.choice(len(nouns), ITEMS + ITEM_FIT, replace=False)
    gallery = [nouns[number] for number in chosen[:ITEMS]]
    fit = [nouns[number] for number in chosen[ITEMS:]]
    meanings = {}
    for noun in gallery:
        for word in {word.lower() for word in noun[2]}:
            meanings[word] = meanings.get(word, 0) + 1
    clear = [noun for noun in gallery if meanings[noun[2][0].lower()] == 1]
    sought = [clear[number] for number in rng.choice(len(clear), WORDS, replace=False)]
    words, query_ids = [noun[2][0] for noun in sought], [QUERY_IDS + noun[0] for noun in sought]
    for encoder in encoders:
        write_definitions(out, encoder, "fit", fit)
        write_set(out / encoder.name, "queries", encoder.embed(words), [noun[1] for noun in sought], query_ids)
        write_definitions(out, encoder, "gallery", gallery)
    write_relevance(out, query_ids, [noun[0] for noun in sought])
    write_texts(out / "queries.jsonl", query_ids, words)
    write_texts(out / "corpus.jsonl", [noun[0] for noun in gallery], [noun[3] for noun in gallery])


def main(wordnet, out):
    nouns = read_nouns(Path(wordnet) / "data.noun")
    encoders = [encoder() for encoder in ENCODERS]
    export_classes(nouns, encoders, Path(out) / "text-class", np.random.default_rng(SEED))
    export_items(nouns, encoders, Path(out) / "text-item", np.random.default_rng(SEED + 1))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
