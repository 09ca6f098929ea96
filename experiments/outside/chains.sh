# Sourced by measure.sh and pairs.sh: what they share about the exported chains. Expects `root`, `exports` and `results`.
# shellcheck shell=bash

perennial=${PERENNIAL:-$root/target/release/perennial}
mkdir -p "$results"

# each_chain COMMAND: runs it for every chain, with `set`, `old`, `new`, `folder` and `evaluation` (arguments of certify and advise)
each_chain() {
  local set old new truth folder evaluation
  while read -r set old new truth; do
    folder=$exports/$set
    evaluation=(--old-queries "$folder/$old/queries.npy" --old-gallery "$folder/$old/gallery.npy"
      --new-queries "$folder/$new/queries.npy" --new-gallery "$folder/$new/gallery.npy"
      --query-ids "$folder/$old/queries-ids.npy" --gallery-ids "$folder/$old/gallery-ids.npy"
      --old-space "$old" --new-space "$new")
    if [[ $truth == labels ]]; then
      evaluation+=(--query-labels "$folder/$old/queries-labels.npy" --gallery-labels "$folder/$old/gallery-labels.npy")
    else
      evaluation+=(--relevance "$folder/relevance.trec")
    fi
    "$1" < /dev/null
  done <<'CHAINS'
images lite0 lite2 labels
text-class wordllama minilm labels
text-item wordllama minilm relevance
neardup lite0 lite2 relevance
emoji lite0 lite2 relevance
CHAINS
}
