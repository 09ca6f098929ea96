#!/usr/bin/env bash
# Kills a training with SIGKILL at random moments, resumes it each time, and compares the weights of every version
# with those of an uninterrupted run.
#
#   cargo build --release && experiments/kill-and-resume.sh [KILLS] [SEED]
set -euo pipefail
kills=${1:-10}
RANDOM=${2:-0}
root=$(cd "$(dirname "$0")/.." && pwd)
perennial=$root/target/release/perennial
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/experiment.toml" <<'TOML'
name = "killed"
seed = 3
[data]
set = "generated"
generated = { classes = 20, images_per_class = 80 }
[network]
backbone = "small"
width = 16
[method]
kind = "hoc"
vertices = 128
[scenario]
initial_classes = 5
increment = 5
[training]
epochs = 12
batch_size = 64
learning_rate = 0.02
TOML
at() { "$perennial" --quiet --device cpu --registry "$work/$1/registry" --runs "$work/$1/runs" "${@:2}"; }

started=$(date +%s%N)
at whole train "$work/experiment.toml" >/dev/null
length_ms=$((($(date +%s%N) - started) / 1000000))
echo "uninterrupted: $((length_ms / 1000)).$((length_ms % 1000 / 100)) s"

resume=("$work/experiment.toml")
done_kills=0
while ((done_kills < kills)); do
  (exec "$perennial" --quiet --device cpu --registry "$work/killed/registry" --runs "$work/killed/runs" \
    train "${resume[@]}" >/dev/null) &
  pid=$!
  # Short enough that the run never ends before the last kill.
  delay_ms=$((length_ms / (kills + 2) / 4 + RANDOM % (length_ms / (kills + 2))))
  sleep "$(printf '%d.%03d' $((delay_ms / 1000)) $((delay_ms % 1000)))"
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
  done_kills=$((done_kills + 1))
  if [[ -f $work/killed/runs/killed/checkpoint/latest.safetensors ]]; then resume=(--resume "$work/killed/runs/killed"); fi
  echo "kill $done_kills after $delay_ms ms, $(wc -l <"$work/killed/runs/killed/metrics.jsonl" 2>/dev/null || echo 0) epochs recorded"
done
at killed train "${resume[@]}" >/dev/null

for version in "$work"/whole/registry/v*; do
  name=$(basename "$version")
  cmp "$version/weights.safetensors" "$work/killed/registry/$name/weights.safetensors"
done
[[ $(ls -d "$work"/whole/registry/v* | wc -l) == $(ls -d "$work"/killed/registry/v* | wc -l) ]]
cmp <(sed 's/,"images_per_second.*//' "$work/whole/runs/killed/metrics.jsonl") \
  <(sed 's/,"images_per_second.*//' "$work/killed/runs/killed/metrics.jsonl")
echo "after $kills kills: all $(ls -d "$work"/whole/registry/v* | wc -l) versions and the recorded metrics are identical"
