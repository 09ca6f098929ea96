"""``python -m perennial``: the commands of the program ``perennial``.

A release's wheel brings the program. A wheel without it uses the one on PATH.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path


def program() -> str | None:
    """The program that this package brought, or the one on PATH."""
    try:
        files = importlib.metadata.files("perennial") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in ("perennial", "perennial.exe"):
            path = Path(file.locate()).resolve()
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
    return shutil.which("perennial")


def main() -> int:
    """Becomes the program, with the same arguments."""
    path = program()
    if path is None:
        print(
            "perennial: this package was built without the program, and PATH has none; install it with `cargo install --locked --path "
            "crates/perennial`, or use a wheel that brings it",
            file=sys.stderr,
        )
        return 1
    command = [path, *sys.argv[1:]]
    if os.name == "posix":
        # No second process, so that signals and the exit code are the program's own.
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(path, command)
    return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main())
