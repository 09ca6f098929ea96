#!/usr/bin/env bash
# Measures every way of keeping a gallery for two pairs of models that were trained here: an ordinary classifier and one on a simplex, each
# replaced by one with 200 instead of 50 classes of Tiny-ImageNet. Bridges are fitted on CIFAR-100; queries and gallery are CIFAR-10,
# 3,000 images each. Finished files are kept, so that it can be stopped and started again.
#
#   perennial pretrain experiments/cpu/pretrain-50-er.toml --name cpu-tiny-50-er      # and 200-er, 50-simplex, 200-simplex
#   experiments/pairs/measure.sh --registry DIR --data DIR --out DIR [--pair NAME=OLD,NEW]...
#   python experiments/pairs/table.py DIR
#
# PERENNIAL names another binary than target/release/perennial, PYTHON a Python with numpy.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
perennial=${PERENNIAL:-$here/../../target/release/perennial}
python=${PYTHON:-python3}
pairs=()
while (($#)); do
  case $1 in
    --registry) registry=$2 ;;
    --data) data=$2 ;;
    --out) out=$2 ;;
    --pair) pairs+=("$2") ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
: "${registry:?needs --registry DIR}" "${data:?needs --data DIR}" "${out:?needs --out DIR}"
((${#pairs[@]})) || pairs=(er=cpu-tiny-50-er,cpu-tiny-200-er simplex=cpu-tiny-50-simplex,cpu-tiny-200-simplex)
mkdir -p "$out"
out=$(cd "$out" && pwd) data=$(cd "$data" && pwd)

EVALUATED=3000 # images that are queries, and as many in the gallery
PAIRS=2000     # images that bridges are fitted on, unless a row says otherwise
ALTERED=2000   # altered copies that look for their originals among 10,000

run() { "$perennial" --quiet --device cpu --registry "$registry" --runs "$out/runs" "$@"; }

# Parts of the sets, as sets of their own: the first images of CIFAR-10's two files, and both halves of CIFAR-100's training set.
part() { # FOLDER FILE RECORD_BYTES FIRST COUNT
  mkdir -p "$(dirname "$out/data/$1/$2")"
  tail -c +$((1 + $3 * $4)) "$data/$2" 2>/dev/null | head -c $(($3 * $5)) >"$out/data/$1/$2"
}
if [[ ! -f $out/data/done ]]; then
  for file in data_batch_1 test_batch; do part evaluated "cifar-10-batches-bin/$file.bin" 3073 0 $EVALUATED || [[ $? == 141 ]]; done
  images=$(($(wc -c <"$data/cifar-100-binary/train.bin") / 3074))
  part first cifar-100-binary/train.bin 3074 0 $((images / 2)) || [[ $? == 141 ]]
  part second cifar-100-binary/train.bin 3074 $((images / 2)) $((images - images / 2))
  touch "$out/data/done"
fi

# keep FILE COMMAND...: the JSON that a command prints. A certificate that finds a route incompatible ends with 3.
keep() {
  local file=$1
  shift
  [[ -f $file ]] && return
  run --json "$@" >"$file.part" || [[ $? == 3 ]]
  mv "$file.part" "$file"
}

embed() { # FOLDER_OF_DATA SET VERSION NAME
  local file=$folder/$4.safetensors
  [[ -f $file ]] || run --data "$1" embed "$3" --set "$2" --out "$file"
}

fit() { # NAME FROM TO OPTION...
  local bridge=$folder/bridges/$1 from=$2 to=$3
  shift 3
  [[ -d $bridge ]] || run bridge fit --from "$folder/$from.safetensors" --to "$folder/$to.safetensors" "$@" --out "$bridge"
}

certify() { # NAME OPTION...
  local certificate=$folder/$1.json
  shift
  keep "$certificate" certify --old-queries "$folder/old-queries.safetensors" --old-gallery "$folder/old-gallery.safetensors" \
    --new-queries "$folder/new-queries.safetensors" --new-gallery "$folder/new-gallery.safetensors" "$@"
}

# routes NAME OPTION...: the routes of `evaluate`. Embeddings are kept in its folder.
routes() {
  local result=$folder/$1.json
  shift
  [[ -f $result ]] && return
  run evaluate --versions "$old" "$new" --queries cifar10:batch1 --gallery cifar10:test --fit-set cifar100:train --fit-pairs $PAIRS \
    --out "$folder/routes" "$@" >/dev/null
  mv "$folder/routes/routes.json" "$result"
}

apply() { # BRIDGE INPUT OUTPUT OPTION...
  local bridge=$folder/bridges/$1 input=$folder/$2.safetensors output=$folder/half/$3.npy
  shift 3
  [[ -f $output ]] || run bridge apply "$bridge" "$input" --out "$output" "$@"
}

measure() {
  mkdir -p "$folder/bridges" "$folder/half"
  local version name
  for version in old new; do
    name=${!version}
    embed "$out/data/evaluated" cifar10:batch1 "$name" "$version-queries"
    embed "$out/data/evaluated" cifar10:test "$name" "$version-gallery"
    embed "$data" cifar100:train "$name" "$version-fit"
  done
  # Class means of images of which the old model has seen one half and the new model the other.
  embed "$out/data/first" cifar100:train "$new" new-means
  embed "$out/data/second" cifar100:train "$old" old-means

  fit centring new-fit old-fit --kind centring --pairs $PAIRS
  fit centring-back old-fit new-fit --kind centring --pairs $PAIRS
  fit 500 new-fit old-fit --kind orthogonal --pairs 500
  fit 2000 new-fit old-fit --kind orthogonal --pairs $PAIRS
  fit means new-means old-means --kind orthogonal --match label
  fit ridge new-fit old-fit --kind ridge:0.001 --pairs $PAIRS
  fit whitened new-fit old-fit --kind whitened:0.1,0.5 --pairs $PAIRS
  fit mapped old-fit new-fit --kind ridge:0.001 --pairs $PAIRS
  fit all new-fit old-fit --kind orthogonal

  certify own --route own
  for bridge in centring 500 2000 all means ridge whitened; do
    certify "$bridge" --bridge "$folder/bridges/$bridge" --route bridged --index centred
  done
  certify mapped --bridge "$folder/bridges/mapped" --route mapped --index centred
  certify dual --bridge "$folder/bridges/2000" --route dual --weight 0.5 --index centred
  certify raw --bridge "$folder/bridges/2000" --route bridged --index raw
  certify raw-dual --bridge "$folder/bridges/2000" --route dual --weight 0.5 --index raw

  # A gallery of which every other item is the old model's.
  apply centring-back old-gallery old-gallery-centred
  apply centring new-gallery new-gallery-centred
  apply centring new-queries new-queries-centred
  apply 2000 new-queries queries-bridged
  apply 2000 new-queries queries-dual --old-queries "$folder/old-queries.safetensors" --weight 0.5 --index centred
  apply mapped old-gallery old-gallery-mapped
  [[ -f $folder/half/shares.json ]] || "$python" "$here/half.py" "$folder"
  local way
  for way in "$folder"/half/*-gallery-of-two.npy; do
    way=$(basename "$way" -gallery-of-two.npy)
    keep "$folder/half-$way.json" certify --route own --old-space "$old" --new-space "half-$way" \
      --old-queries "$folder/half/$way-old.npy" --new-queries "$folder/half/$way-new.npy" --old-gallery "$folder/half/$way-gallery-of-two.npy" \
      --query-labels "$folder/old-queries.safetensors" --gallery-labels "$folder/old-gallery.safetensors"
  done
  routes routes --data "$out/data/evaluated-and-fit" --routes own centred bridged dual

  # One right item for each query.
  routes altered-0.5 --data "$data" --altered $ALTERED --routes own centred bridged dual
  routes altered-0.25 --data "$data" --altered $ALTERED --routes dual --weight 0.25
  routes altered-0.75 --data "$data" --altered $ALTERED --routes dual --weight 0.75
  keep "$folder/advice.json" advise --old-queries "$folder/old-queries.safetensors" --old-gallery "$folder/old-gallery.safetensors" \
    --new-queries "$folder/new-queries.safetensors" --new-gallery "$folder/new-gallery.safetensors" \
    --fit-from "$folder/new-fit.safetensors" --fit-to "$folder/old-fit.safetensors" --fit-pairs $PAIRS
}

# `evaluate` takes all sets from one folder.
mkdir -p "$out/data/evaluated-and-fit"
ln -sfn "$out/data/evaluated/cifar-10-batches-bin" "$out/data/evaluated-and-fit/cifar-10-batches-bin"
ln -sfn "$data/cifar-100-binary" "$out/data/evaluated-and-fit/cifar-100-binary"

for pair in "${pairs[@]}"; do
  name=${pair%%=*} versions=${pair#*=}
  folder=$out/$name old=${versions%%,*} new=${versions#*,}
  mkdir -p "$folder"
  measure
done
