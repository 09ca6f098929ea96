#!/usr/bin/env bash
# Runs the commands of README.md's section "Serving" as they are written there, line by line.
#
#   tests/readme/serving.sh FOLDER     a folder of `perennial demo --keep FOLDER`, which is copied and stays as it is
#
# The line that runs the demo is replaced by a copy of FOLDER, because the demo takes minutes. A line whose comment names an exit
# code must end with it, every other one with 0; one that ends with `&` must answer requests. Wanted: target/release/perennial,
# python3, curl, and port 7700.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() { echo "serving.sh: $*" >&2; exit 1; }
[[ $# -eq 1 && -d $1/registry && -d $1/gallery ]] || fail "name a folder of \`perennial demo --keep FOLDER\`"
export PATH=$PWD/target/release:$PATH
command -v perennial >/dev/null || fail "target/release/perennial is missing"

# The first block of the section. Without it, nothing would be tested.
block=$(awk '/^## Serving/ { section = 1; next } /^## / { section = 0 }
             section && /^```sh/ { inside = 1; next } inside && /^```/ { exit } inside' README.md)
[[ $block == *"perennial demo --keep demo"* && $block == *"perennial serve"* && $block == *"models promote"* ]] \
  || fail "README.md has no block that keeps the demo, serves it and promotes a version"

work=$(mktemp -d)
server=
cleanup() {
  if [[ -n $server ]]; then kill -KILL "$server"; wait "$server"; fi 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
cp -r "$1" "$work/demo"
# Two classes of three pictures each, as somebody's own photos.
python3 - "$work/photos" <<'PYTHON'
import pathlib, struct, sys, zlib

def png(path, side, colour):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes((value + 3 * x + 5 * y) % 256 for x in range(side) for value in colour) for y in range(side))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

for folder, colour in [("cats", (200, 120, 40)), ("dogs", (40, 90, 220))]:
    for number in range(3):
        png(pathlib.Path(sys.argv[1]) / folder / f"{number}.png", 32, [value + 9 * number for value in colour])
PYTHON

cd "$work"
while IFS= read -r line <&3; do
  command=${line%%#*}
  command=${command%"${command##*[![:space:]]}"}
  [[ -n $command ]] || continue
  expected=$(sed -n 's/.*exit code \([0-9]\+\).*/\1/p' <<< "${line#"$command"}")
  # Only the part that trains is left out.
  command=${command/#perennial demo --keep demo/true}
  printf '\n$ %s\n' "$command"
  if [[ $command == *"&" ]]; then
    eval "exec ${command%&}" > "$work/url" 2> "$work/log" 3<&- &
    server=$!
    for _ in $(seq 300); do
      [[ -s $work/url ]] && curl --silent --fail --output /dev/null "$(head -n 1 "$work/url")readyz" && break
      kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; server=; fail "the service ended"; }
      sleep 0.2
    done
    [[ -s $work/url ]] || { cat "$work/log" >&2; fail "the service does not answer"; }
    continue
  fi
  status=0
  eval "$command" 3<&- || status=$?
  [[ $status -eq ${expected:-0} ]] || { cat "$work/log" >&2 || true; fail "\`$command\` ended with $status instead of ${expected:-0}"; }
done 3<<< "$block"
[[ -n $server ]] || fail "nothing was served"
printf '\nEvery command of the section works.\n'
