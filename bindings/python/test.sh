#!/usr/bin/env bash
# Builds the wheel, installs it into a clean virtual environment, and runs the tests and the examples of README.md there.
#
#   bash bindings/python/test.sh [PYTEST OPTION...]
#
# Wanted: Rust, Python 3.10 or later with venv, PyPI.
#   PERENNIAL_PROGRAM   a program `perennial` that the wheel is to bring (see README.md, "The command line")
#   PERENNIAL_PROFILE   Cargo's profile, release by default
#   PERENNIAL_WHEELS    folder that keeps the wheel
set -euo pipefail
cd "$(dirname "$0")"
step() { printf '\n== %s\n' "$*"; "$@"; }

work=$(mktemp -d)
program=python/perennial/program
if [[ -e $program ]]; then
  echo "test.sh: bindings/python/$program is there, which a wheel's program is put into; remove it first" >&2
  exit 1
fi
cleanup() { rm -rf "$work" "$program"; }
trap cleanup EXIT
if [[ -n ${PERENNIAL_PROGRAM:-} ]]; then
  mkdir "$program"
  cp "$PERENNIAL_PROGRAM" "$program/perennial"
  strip "$program/perennial" 2>/dev/null || true
  chmod 755 "$program/perennial"
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/build"
step "$work/build/bin/pip" install --quiet "maturin>=1.16,<2"
step "$work/build/bin/maturin" build --locked --profile "${PERENNIAL_PROFILE:-release}" --out "$work/wheels" --interpreter "$(command -v python3)"
wheel=$(echo "$work"/wheels/perennial-*.whl)
python3 -m venv "$work/clean"
step "$work/clean/bin/pip" install --quiet "$wheel[test]"
# From elsewhere, so that the sources do not take the installed package's place.
step "$work/clean/bin/python" -I -c 'import perennial; print(perennial.__version__, perennial.__file__)'
# With a program, the tests that are skipped without one must not be.
step "$work/clean/bin/python" -m pytest -q -p no:cacheprovider "$@"
# Types: the package's own, and that the stubs are what there is.
step "$work/clean/bin/pip" install --quiet "mypy>=2.4,<3" pandas-stubs
step "$work/clean/bin/python" -m mypy --strict --cache-dir "$work/types" -p perennial
(cd "$work" && step "$work/clean/bin/python" -m mypy.stubtest perennial)
if [[ -n ${PERENNIAL_PROGRAM:-} ]]; then
  [[ -x $("$work/clean/bin/python" -Ic 'import perennial; print(perennial.__path__[0])')/program/perennial ]] \
    || { echo "test.sh: the wheel did not bring the program" >&2; exit 1; }
  step "$work/clean/bin/perennial" --version
fi
python3 - "$work" README.md <<'PYTHON'
import pathlib, re, sys
work, readme = map(pathlib.Path, sys.argv[1:])
(work / "readme.py").write_text(f"tmp = {str(work)!r}\n" + "\n".join(re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)))
PYTHON
step "$work/clean/bin/python" "$work/readme.py"
if [[ -n ${PERENNIAL_WHEELS:-} ]]; then
  mkdir -p "$PERENNIAL_WHEELS"
  cp "$wheel" "$PERENNIAL_WHEELS/"
fi
ls -l "$wheel"
