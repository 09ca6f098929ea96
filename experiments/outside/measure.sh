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
source "$root/experiments/outside/chains.sh"

measure() {
  local fit=(--fit-from "$folder/$new/fit.npy" --fit-to "$folder/$old/fit.npy") route
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

each_chain measure
