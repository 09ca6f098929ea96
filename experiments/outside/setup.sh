#!/bin/sh
# Installs the encoders and what runs them into a Python environment outside the checkout, and unpacks the emoji beside it.
#
#     experiments/outside/setup.sh VENV
#
# Leaves VENV/bin/python for the export scripts and VENV/emoji/ for export_emoji.py (without npm: no emoji, the rest works). WordNet is
# a package of the system: apt-get install wordnet-base. Takes about 6 GB, most of it the GPU libraries that torch's package brings along.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 VENV" >&2
    exit 2
fi
here=$(dirname "$(realpath "$0")")
mkdir -p "$1"
venv=$(realpath "$1")

python3 -m venv "$venv"
"$venv/bin/pip" install -r "$here/requirements.txt"
"$venv/bin/pip" install --no-deps -r "$here/requirements-files.txt"

if ! command -v npm > /dev/null; then
    echo "npm is missing: no emoji" >&2
    exit 0
fi
mkdir -p "$venv/emoji"
cd "$venv/emoji"
for vendor in google apple; do
    package=emoji-datasource-$vendor
    archive=$(npm pack --silent "$package@16.0.0")
    rm -rf "$package"
    mkdir "$package"
    # The sheets of all emoji in one picture are 70 to 90 MB a vendor and not needed.
    tar -xzf "$archive" -C "$package" --strip-components=1 --wildcards 'package/*.json' 'package/*.md' package/LICENSE 'package/img/*/64/*'
    rm "$archive"
done
