#!/usr/bin/env bash
# Measures every exported chain with the product: certificates of each route (2,000 pairs, orthogonal), and advice (all pairs, kinds and
# weights chosen on half of the queries). Finished files are kept, so that it can be stopped and started again.
#
#   experiments/outside/measure.sh OUT [RESULTS]       # OUT: the folder of the exports; RESULTS: default OUT/results
#
# PERENNIAL names another binary than target/release/perennial.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
exports=$(cd "$1" && pwd)
results=${2:-$exports/results}
perennial=${PERENNIAL:-$root/target/release/perennial}
mkdir -p "$results"

# measure SET OLD NEW TRUTH...: the arguments that say what is right
measure() {
  local set=$1 old=$2 new=$3
  shift 3
  local folder=$exports/$set
  local evaluation=(--old-queries "$folder/$old/queries.npy" --old-gallery "$folder/$old/gallery.npy"
    --new-queries "$folder/$new/queries.npy" --new-gallery "$folder/$new/gallery.npy"
    --query-ids "$folder/$old/queries-ids.npy" --gallery-ids "$folder/$old/gallery-ids.npy"
    --old-space "$old" --new-space "$new" "$@")
  local fit=(--fit-from "$folder/$new/fit.npy" --fit-to "$folder/$old/fit.npy")
  for route in own bridged dual mapped; do
    local certificate=$results/$set-$route.json more=(--kind orthogonal)
    if [[ $route == mapped ]]; then more=(--kind ridge:0.001); fi
    if [[ $route == dual ]]; then more+=(--weight 0.5); fi
    if [[ -f $certificate ]]; then continue; fi
    if [[ $route == own ]]; then
      # Encoders of different dimensions cannot meet as they are.
      "$perennial" --quiet certify "${evaluation[@]}" --out "$certificate" || [[ $? == 3 || $? == 2 ]]
      continue
    fi
    "$perennial" --quiet certify "${evaluation[@]}" "${fit[@]}" --fit-pairs 2000 --index centred --route "$route" "${more[@]}" \
      --out "$certificate" --html "$results/$set-$route.html" || [[ $? == 3 ]]
  done
  if [[ ! -f $results/$set-advice.json ]]; then
    "$perennial" --quiet advise "${evaluation[@]}" "${fit[@]}" --out "$results/$set-advice.json" --html "$results/$set-advice.html" \
      | tee "$results/$set-advice.txt"
  fi
}

labels() { echo --query-labels "$exports/$1/$2/queries-labels.npy" --gallery-labels "$exports/$1/$2/gallery-labels.npy"; }

# shellcheck disable=SC2046
{
  measure images lite0 lite2 $(labels images lite0)
  measure text-class wordllama minilm $(labels text-class wordllama)
  measure text-item wordllama minilm --relevance "$exports/text-item/relevance.trec"
  measure neardup lite0 lite2 --relevance "$exports/neardup/relevance.trec"
  measure emoji lite0 lite2 --relevance "$exports/emoji/relevance.trec"
}
