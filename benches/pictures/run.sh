#!/usr/bin/env bash
# A folder of real pictures of mixed kinds, added twice, one deleted, added again: counts, rates and peak memory.
#
#   PERENNIAL=target/release/perennial benches/pictures/run.sh DATA_FOLDER [COUNT [WORK_FOLDER]]     default: 20000, a new folder
#
# DATA_FOLDER holds cifar-10-batches-bin/ and cifar-100-binary/. Needs GNU time and python3. Everything is made below WORK_FOLDER.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
perennial=$(realpath "${PERENNIAL:?set PERENNIAL to the perennial binary}")
data=$(realpath "${1:?name the data folder}")
count=${2:-20000}
work=${3:-$(mktemp -d)}
mkdir -p "$work"
work=$(realpath "$work")
if [[ ! -d $work/photos ]]; then
  (cd "$here" && cargo run --quiet --release -p perennial-data --example mixed_folder -- \
    "$data" cifar10:test "$work/photos" "$count") | tee "$work/made.json"
fi
cd "$work"
rm -rf gallery
export PERENNIAL_DATA=$data PERENNIAL_REGISTRY=$work/registry PERENNIAL_GALLERY=$work/gallery
if [[ ! -d registry ]]; then
  cat > model.toml <<'TOML'
name = "resnet18"
seed = 1
[data]
set = "cifar100"
split = "train"
classes = [0, 10]
images_per_class = 10
[network]
backbone = "resnet18"
width = 64
[method]
kind = "simplex"
vertices = 128
[training]
epochs = 1
batch_size = 50
TOML
  "$perennial" --quiet pretrain model.toml >/dev/null
  "$perennial" models alias live v0001 >/dev/null
fi

# Runs a command and prints one line: what it did, its seconds, files per second, and peak memory.
measure() {
  local what=$1 files=$2
  shift 2
  /usr/bin/time -f '%e %M' -o time "$@" --quiet --json >answer.json
  python3 - "$what" "$files" <<'PY'
import json, sys
what, files = sys.argv[1], int(sys.argv[2])
seconds, kib = open("time").read().split()[-2:]
a = json.load(open("answer.json"))
keys = ("inserted", "replaced", "unchanged", "pruned", "left_out", "items", "images", "count")
says = ", ".join(f"{k} {a[k]}" for k in keys if isinstance(a.get(k), int))
print(f"{what:34} {float(seconds):8.1f} s {files / float(seconds):8.0f}/s {int(kib) / 1024:8.0f} MiB   {says}", flush=True)
PY
}

total=$(find photos -type f | wc -l)
measure "decoding alone (data show)" "$total" "$perennial" data show folder:photos
measure "embedding alone (cifar10:test)" 10000 "$perennial" embed live --set cifar10:test --out e.safetensors
measure "gallery add" "$total" "$perennial" gallery add photos
measure "again" "$total" "$perennial" gallery add photos
rm "$(find photos -name 'IMG_000012.*')"
measure "one file deleted, --prune" "$((total - 1))" "$perennial" gallery add photos --prune
measure "again" "$((total - 1))" "$perennial" gallery add photos --prune
python3 - <<'PY'
import json
a = json.load(open("answer.json"))
print("left out by reason:", json.dumps(a["folders"][0]["left_out"]["by_reason"]))
PY
mkdir -p few && find photos -type f | awk 'NR <= 1000' | while read -r file; do cp "$file" "few/$(basename "$file")"; done
measure "gallery add, 1000 files" "$(find few -type f | wc -l)" "$perennial" gallery --gallery few-gallery add few
du -h gallery/gallery.redb
