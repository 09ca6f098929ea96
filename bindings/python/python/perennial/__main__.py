"""``python -m perennial``, and the command ``perennial``: the commands of the program ``perennial``.

A release's wheel brings the program. A wheel without it uses the one on PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Set for the program: if it is set here, what was found on PATH was the command of such a package elsewhere.
STARTED = "PERENNIAL_STARTED_FROM_PYTHON"


def program() -> str | None:
    """The program that this package brought, or the one on PATH."""
    brought = Path(__file__).parent / "program" / ("perennial.exe" if os.name == "nt" else "perennial")
    if brought.is_file() and os.access(brought, os.X_OK):
        return str(brought)
    if STARTED in os.environ:
        return None
    # This package's own command is no program.
    own = os.path.realpath(sysconfig.get_path("scripts"))
    places = [place for place in os.get_exec_path() if os.path.realpath(place) != own]
    return shutil.which("perennial", path=os.pathsep.join(places))


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
    environment = {**os.environ, STARTED: "1"}
    if os.name == "posix":
        # No second process, so that signals and the exit code are the program's own.
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(path, command, environment)
    return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main())
