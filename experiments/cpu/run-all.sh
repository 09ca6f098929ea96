#!/usr/bin/env bash
# Runs the whole CPU variant: pre-trainings, both methods with two seeds, and the two comparisons of the HOC loss.
# Two chains of one thread each use two cores better than one run of two threads, and give the same weights.
# Safe to stop and start again: finished runs are skipped, unfinished ones resumed.
#
#   PERENNIAL_DATA=DIR experiments/cpu/run-all.sh [WORK_FOLDER]
#
# PERENNIAL names another binary than target/release/perennial.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$root/runs/cpu-all}
perennial=${PERENNIAL:-$root/target/release/perennial}
configurations=$root/experiments/cpu
export RAYON_NUM_THREADS=1
mkdir -p "$work"

# one COMMAND NAME CONFIG [OPTION...]: runs, resumes or skips
one() {
  local command=$1 name=$2 config=$3 run=$work/runs/$2
  shift 3
  local options=(--quiet --device cpu --registry "$work/registry" --runs "$work/runs")
  if [[ -f $work/$name.done ]]; then return; fi
  if [[ -d $run ]]; then
    "$perennial" "${options[@]}" "$command" --resume "$run"
  else
    "$perennial" "${options[@]}" "$command" "$configurations/$config" --name "$name" "$@"
  fi
  if [[ $command == train ]]; then
    "$perennial" "${options[@]}" evaluate "$run" >"$work/$name.txt"
  fi
  touch "$work/$name.done"
}

hoc() {
  for classes in 50 100 200; do one pretrain "cpu-tiny-$classes-simplex" "pretrain-$classes-simplex.toml"; done
  one train hoc-0 iamcl2r-7-hoc.toml --seed 0
  one train hoc-1 iamcl2r-7-hoc.toml --seed 1
  one train hoc-0-initial iamcl2r-7-hoc.toml --seed 0 --set method.reference=initial
  one train hoc-0-zeroed iamcl2r-7-hoc.toml --seed 0 --set method.masking=zeroed
}

er() {
  for classes in 50 100 200; do one pretrain "cpu-tiny-$classes-er" "pretrain-$classes-er.toml"; done
  one train er-0 iamcl2r-7-er.toml --seed 0
  one train er-1 iamcl2r-7-er.toml --seed 1
}

hoc &
chain=$!
er
wait "$chain"
tail -n +1 "$work"/*.txt
