#!/usr/bin/env bash
# Measures with the product how many pairs a bridge needs, and what a fit from class means alone gives: certificates of the bridged and the
# dual route (weight 0.5) of orthogonal bridges fitted on 100, 500, 2,000 and all pairs, and on the class means of two halves of the fit set
# that share no item. Finished files are kept, so that it can be stopped and started again.
#
#   experiments/outside/pairs.sh OUT [RESULTS]         # OUT: the folder of the exports; RESULTS: default OUT/results-pairs
#
# PERENNIAL names another binary than target/release/perennial, PYTHON a Python with numpy.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
exports=$(cd "$1" && pwd)
results=${2:-$exports/results-pairs}
source "$root/experiments/outside/chains.sh"

measure() {
  local amount route bridge certificate
  for amount in 100 500 2000 all means; do
    bridge=$results/$set-$amount
    if [[ ! -d $bridge ]]; then fit "$amount" "$bridge"; fi
    for route in bridged dual; do
      certificate=$results/$set-$amount-$route.json
      if [[ -f $certificate ]]; then continue; fi
      local more=()
      if [[ $route == dual ]]; then more=(--weight 0.5); fi
      "$perennial" --quiet --json certify "${evaluation[@]}" --bridge "$bridge" --index centred --route "$route" "${more[@]}" \
        > "$certificate.part" || [[ $? == 3 ]]
      mv "$certificate.part" "$certificate"
    done
  done
}

# fit AMOUNT BRIDGE
fit() {
  local from=$folder/$new/fit.npy to=$folder/$old/fit.npy how=()
  if [[ $1 == means ]]; then
    local halves=$results/halves
    "${PYTHON:-python3}" "$root/experiments/outside/halves.py" "$folder/$new" "$folder/$old" "$halves"
    from=$halves/from.npy to=$halves/to.npy
    how=(--match label --labels-from "$halves/from-labels.npy" --labels-to "$halves/to-labels.npy")
  elif [[ $1 != all ]]; then
    how=(--match row --pairs "$1")
  else
    how=(--match row)
  fi
  "$perennial" --quiet bridge fit --from "$from" --to "$to" "${how[@]}" --kind orthogonal --from-space "$new" --to-space "$old" --out "$2"
}

each_chain measure
