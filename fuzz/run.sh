#!/usr/bin/env bash
# Runs every fuzz target, or those named, for a number of executions and prints a table.
#
#   fuzz/run.sh [EXECUTIONS [TARGET...]]          default: 100000, all targets
#
# Needs `cargo install cargo-fuzz --version 0.13.1 --locked` and a C++ compiler. Builds and corpora lie in target/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

executions=${1:-100000}
shift || true
case $executions in
  '' | *[!0-9]*) echo "usage: fuzz/run.sh [EXECUTIONS [TARGET...]]" >&2; exit 2 ;;
esac
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "cargo-fuzz is missing: cargo install cargo-fuzz --version 0.13.1 --locked" >&2
  exit 1
fi
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  for source in fuzz/targets/*.rs; do
    source=${source##*/}
    targets+=("${source%.rs}")
  done
fi

# The sanitizers are a matter of nightly compilers, or of a stable one that is told to behave like them.
cargo=(cargo)
if command -v rustup >/dev/null && rustup run nightly rustc --version >/dev/null 2>&1; then
  cargo=(cargo +nightly)
else
  export RUSTC_BOOTSTRAP=1
fi
fuzz=("${cargo[@]}" fuzz)
options=(--fuzz-dir fuzz --target-dir target/fuzz)

# Readers that want a path get their files in memory, where the system offers it.
memory=/dev/shm
[[ -d $memory && -w $memory ]] || memory=${TMPDIR:-/tmp}
scratch=$(mktemp -d "$memory/perennial-fuzz.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# Bytes of an input, and MiB that one allocation and the process may take: for readers, little more than what the input holds.
limits() {
  case $1 in
    image) echo 16384 32 1024 ;;
    http) echo 4096 128 2048 ;;
    hub_folder) echo 8192 128 2048 ;;
    token_table | tokenizer | head | canaries) echo 4096 32 1024 ;;
    # A file of any size may take 256 MiB.
    parquet) echo 4096 272 2048 ;;
    labelled_records) echo 10000 16 1024 ;;
    *) echo 4096 16 1024 ;;
  esac
}

failed=0
table=$(printf '%-18s %12s %9s %9s %9s  %s' target executions edges corpus seconds outcome)
for target in "${targets[@]}"; do
  read -r max_len malloc rss <<<"$(limits "$target")"
  corpus=target/fuzz/corpus/$target
  artifacts=target/fuzz/artifacts/$target
  log=target/fuzz/$target.log
  mkdir -p "$corpus" "$artifacts"
  printf '== %s\n' "$target" >&2
  "${fuzz[@]}" build "${options[@]}" "$target" >&2
  start=$SECONDS
  code=0
  TMPDIR=$scratch "${fuzz[@]}" run "${options[@]}" "$target" "$corpus" "fuzz/seeds/$target" -- \
    -runs="$executions" -max_len="$max_len" -malloc_limit_mb="$malloc" -rss_limit_mb="$rss" -timeout=20 \
    -detect_leaks=0 -print_final_stats=1 -artifact_prefix="$artifacts/" >"$log" 2>&1 || code=$?
  done=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2 || true)
  kept=$(find "$corpus" -type f | wc -l)
  outcome=passed
  if [[ $code -ne 0 ]]; then
    outcome="FAILED, see $log"
    failed=1
    tail -n 30 "$log" >&2
  fi
  row=$(printf '%-18s %12s %9s %9s %9s  %s' "$target" "${done:--}" "${edges:--}" "$kept" $((SECONDS - start)) "$outcome")
  table+=$'\n'$row
done
printf '%s\n' "$table"
exit $failed
