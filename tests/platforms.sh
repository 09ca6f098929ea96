#!/usr/bin/env bash
# Compiles for the platforms that the tests do not run on: ARM on Linux, and Windows.
#
#   tests/platforms.sh          the crates with code for single processors and systems, without a C compiler
#   tests/platforms.sh program  the program with all its features; needs gcc-aarch64-linux-gnu and gcc-mingw-w64-x86-64
#   tests/platforms.sh run      runs tests of these crates as ARM code; needs gcc-aarch64-linux-gnu and qemu-user-static
#
# A platform whose standard library cannot be installed is left out, and said so.
set -euo pipefail
cd "$(dirname "$0")/.."

arm=aarch64-unknown-linux-gnu
windows=x86_64-pc-windows-gnu
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CC_x86_64_pc_windows_gnu=x86_64-w64-mingw32-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
crates=(-p perennial-core -p perennial-kernels -p perennial-gallery)

installed() {
  rustup target list --installed 2>/dev/null | grep -qx "$1" || rustup target add "$1" >/dev/null 2>&1 ||
    { echo "$1 is not compiled for: its standard library cannot be installed" >&2; false; }
}

case "${1:-crates}" in
  crates)
    for target in "$arm" "$windows"; do
      if installed "$target"; then RUSTFLAGS="-D warnings" cargo check --quiet --locked --target "$target" "${crates[@]}"; fi
    done
    ;;
  program)
    for target in "$arm" "$windows"; do
      if installed "$target"; then RUSTFLAGS="-D warnings" cargo check --locked --target "$target" -p perennial --features full; fi
    done
    ;;
  run)
    if installed "$arm"; then
      cargo test --profile quick --locked --target "$arm" -p perennial-kernels
      # Left out: a test that starts a second process of itself, which qemu does not run for it, and one that did not end there in half an hour.
      cargo test --profile quick --locked --target "$arm" -p perennial-core -p perennial-gallery --lib -- --skip what_a_killed_process_left_is_removed \
        --skip compactions_on_a_full_disk_fail_beside_a_writer_and_lose_nothing
    fi
    ;;
  *)
    echo "usage: tests/platforms.sh [program|run]" >&2
    exit 2
    ;;
esac
