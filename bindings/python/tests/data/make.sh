#!/usr/bin/env bash
# Makes the files of this folder that the program wrote: what the package must read, and figures that it must reproduce.
#
#   bash bindings/python/tests/data/make.sh PROGRAM PYTHON      (a program of this repository, a Python with numpy)
#
# golden/ holds values of independent implementations, runs/ a run of `perennial demo` and a benchmark's record.
set -euo pipefail
program=$(realpath "$1") python=$(command -v "$2")
cd "$(dirname "$0")"
"$python" - <<'PYTHON'
# Two encoders of one latent space with ten classes. Query i is an altered copy of gallery item i.
import numpy as np

random = np.random.default_rng(7)
classes, latent = 10, 12
centres = 1.3 * random.normal(size=(classes, latent))
maps = {"new": random.normal(size=(latent, 24)), "old": random.normal(size=(latent, 16))}
noise = {"new": 0.8, "old": 6.0}
labels = {name: random.integers(0, classes, rows) for name, rows in (("fit", 200), ("gallery", 160))}
inputs = {name: centres[of] + random.normal(size=(len(of), latent)) for name, of in labels.items()}
labels["queries"] = labels["gallery"][:120]
inputs["queries"] = inputs["gallery"][:120] + 0.5 * random.normal(size=(120, latent))
for name, values in inputs.items():
    for encoder, weights in maps.items():
        rows = values @ weights + noise[encoder] * random.normal(size=(len(values), weights.shape[1])) + (2 if encoder == "new" else -1)
        np.save(f"{encoder}-{name}.npy", rows.astype(np.float32))
for name, of in labels.items():
    with open(f"{name}-labels.txt", "w") as file:
        file.writelines(f"class {label}\n" for label in of)
with open("query-ids.txt", "w") as queries, open("gallery-ids.txt", "w") as gallery, open("relevance.csv", "w") as judgements:
    queries.writelines(f"query-{row}\n" for row in range(120))
    gallery.writelines(f"item-{row}\n" for row in range(160))
    judgements.write("query,item,grade\n")
    judgements.writelines(f"query-{row},item-{row},1\n" for row in range(120))
PYTHON
sets=(--old-queries old-queries.npy --old-gallery old-gallery.npy --new-queries new-queries.npy --new-gallery new-gallery.npy)
truth=(--query-labels queries-labels.txt --gallery-labels gallery-labels.txt)
items=(--query-ids query-ids.txt --gallery-ids gallery-ids.txt --relevance relevance.csv)
pairs=(--fit-from new-fit.npy --fit-to old-fit.npy)
rm -rf bridge
"$program" --quiet bridge fit --from new-fit.npy --to old-fit.npy --labels-from fit-labels.txt --out bridge >/dev/null
"$program" --quiet bridge apply bridge new-queries.npy --out bridged-queries.npy >/dev/null
"$program" --quiet bridge apply bridge new-queries.npy --old-queries old-queries.npy --out dual-queries.npy >/dev/null
certify() { "$program" --json --quiet certify "${sets[@]}" "${truth[@]}" "$@" || [[ $? -eq 3 ]]; }
certify --bridge bridge --route dual --resamples 300 "${items[@]}" >certificate-dual.json
certify "${pairs[@]}" --route mapped --seed 3 --resamples 300 >certificate-mapped.json
certify --bridge bridge --index centred --min-margin -0.1 --alpha 0.1 --resamples 300 >certificate-centred.json
"$program" --json --quiet advise "${sets[@]}" "${truth[@]}" "${pairs[@]}" --items 2000000 --items-per-second 300 --resamples 300 >advice.json
