#!/usr/bin/env bash
# Measures every route on the chains of the 7-task experiment: six upgrades, two of them replacements, ordinary (er) and simplex (hoc).
# Bridges are fitted on 500, 2,000 and all images of CIFAR-100's training set. Finished files are kept, so that it can be stopped and
# started again. The runs come from experiments/cpu/run-all.sh, or from the same commands by hand.
#
#   PERENNIAL_DATA=DIR experiments/chain/run.sh WORK_FOLDER [RESULTS]     # default of RESULTS: WORK_FOLDER/chain
#   python3 experiments/chain/table.py RESULTS                            # the tables of docs/results.md
#
# PERENNIAL names another binary than target/release/perennial; RUNS other runs than "er-0 hoc-0"; PAIRS other numbers than "500 2000 all";
# ROUTES some routes instead of all.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(cd "$1" && pwd)
results=${2:-$work/chain}
perennial=${PERENNIAL:-$root/target/release/perennial}
read -ra routes <<<"${ROUTES:-}"
mkdir -p "$results"

for run in ${RUNS:-er-0 hoc-0}; do
  for pairs in ${PAIRS:-500 2000 all}; do
    name=$run-$pairs
    if [[ -f $results/$name.json ]]; then continue; fi
    fit=(--fit-set cifar100:train)
    if [[ $pairs != all ]]; then fit+=(--fit-pairs "$pairs"); fi
    "$perennial" --quiet --device cpu --registry "$work/registry" --runs "$work/runs" \
      evaluate "$work/runs/$run" --routes "${routes[@]}" "${fit[@]}" --seed 0 --out "$results/$name" >"$results/$name.txt"
    # Copied when it is whole, and under a name of its own.
    cp "$results/$name/routes.json" "$results/$name.json.part"
    mv "$results/$name.json.part" "$results/$name.json"
  done
done
