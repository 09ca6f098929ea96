#!/usr/bin/env bash
# onnxruntime's shared library for tests, which find it by PERENNIAL_ONNXRUNTIME and skip what needs it without.
#
#   tests/onnxruntime.sh FOLDER   installs the PyPI package onnxruntime below FOLDER, without what it needs in Python, and prints its library
set -euo pipefail

folder=${1:?a folder}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [[ ! -x $folder/venv/bin/python ]]; then
  python3 -m venv "$folder/venv"
fi
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps onnxruntime==1.32.0 >&2
found=("$folder"/venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so*)
[[ -f ${found[0]} ]] || { echo "the package onnxruntime has no libonnxruntime.so for this machine" >&2; exit 1; }
echo "${found[0]}"
