#!/usr/bin/env python3
"""Every script of experiments/ and benches/ says what it is for when it is asked, and does nothing else; every shell script can be read.

    python3 tests/scripts.py

Packages that a script needs and this Python has not are stood in for, since none of them is needed to say so. Needs bash.
"""

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["experiments", "benches", "bindings", "tests", "contrib", "fuzz", ".ci"]
LEFT_OUT = {"node_modules", "__pycache__", "target", "data"}

# Runs a script as `python SCRIPT --help` does.
RUNNER = """
import importlib.abc, importlib.machinery, importlib.util, os, runpy, sys, unittest.mock

class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return unittest.mock.MagicMock(name=spec.name, __name__=spec.name, __spec__=spec, __path__=[], __version__="0")

    def exec_module(self, module):
        pass

sys.dont_write_bytecode = True
sys.meta_path.append(StandIn())
script = sys.argv[1]
sys.argv = [script, "--help"]
sys.path[0] = os.path.dirname(script)
runpy.run_path(script, run_name="__main__")
"""


def files():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and not path.is_symlink() and not LEFT_OUT & set(path.relative_to(ROOT).parts):
                yield path


def is_shell(path):
    if path.suffix == ".sh":
        return True
    with path.open("rb") as file:
        line = file.readline(100)
    return line.startswith(b"#!") and line.rstrip().endswith((b"bash", b"/sh"))


def words(text):
    return " ".join(text.split())


def problem_of_shell(path):
    return subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr.strip()


def problem_of_python(path):
    """None for a module that only others use."""
    text = path.read_text()
    if "sys.argv" not in text and "argparse" not in text:
        return None
    purpose = words((ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].splitlines()[0])
    if not purpose:
        return "does not say what it is for"
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run([sys.executable, "-c", RUNNER, path], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        except subprocess.TimeoutExpired:
            return "--help does not end within a minute"
        if "Traceback" in done.stderr or purpose not in words(done.stdout + done.stderr):
            return f"--help does not print what it is for:\n{(done.stdout + done.stderr).strip()[-2000:]}"
        left = sorted(found.name for found in Path(folder).iterdir())
    return f"--help writes {', '.join(left)}" if left else ""


def main():
    counts, problems = {"shell": 0, "Python": 0}, []
    for path in files():
        name = path.relative_to(ROOT)
        if is_shell(path):
            found, kind = problem_of_shell(path), "shell"
        elif path.suffix == ".py" and name.parts[0] in ("experiments", "benches"):
            found, kind = problem_of_python(path), "Python"
        else:
            continue
        counts[kind] += found is not None
        if found:
            problems.append(f"{name}: {found}")
    print(f"{counts['Python']} Python scripts, {counts['shell']} shell scripts")
    if not all(counts.values()):
        problems.append("no scripts were found")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
