"""`python -m perennial`, and the stubs."""

import ast
import inspect
import json
import os
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import perennial
import perennial._perennial as native
import pytest
from conftest import DATA
from perennial.__main__ import program

PACKAGE = Path(perennial.__file__).parent
BROUGHT = program() is not None and PACKAGE in Path(program()).parents


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "perennial", *arguments], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_program_gets_arguments_and_gives_its_exit_code(tmp_path):
    if not BROUGHT:
        # This wheel did not bring the program: one on PATH takes its place.
        fake = tmp_path / "perennial"
        fake.write_text('#!/bin/sh\necho "$#" "$2"\nexit 3\n')
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        found = run("certify", "a b", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        assert (found.returncode, found.stdout) == (3, "2 a b\n")
        missing = run("--version", PATH=str(tmp_path / "empty"))
        assert missing.returncode == 1 and "cargo install" in missing.stderr
        # The package's own command is no program, where a search of PATH finds it first and where it is all that there is.
        command = Path(sysconfig.get_path("scripts")) / "perennial"
        assert command.exists()
        found = run("certify", "a b", PATH=f"{command.parent}{os.pathsep}{tmp_path}{os.pathsep}{os.environ['PATH']}")
        assert (found.returncode, found.stdout) == (3, "2 a b\n")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "perennial").symlink_to(command)
        for places in (command.parent, tmp_path / "other"):
            circle = run("--version", PATH=str(places))
            assert circle.returncode == 1 and "cargo install" in circle.stderr
    else:
        found = run("--version")
        assert found.returncode == 0 and found.stdout.split()[0] == "perennial"
        assert run("no-such-command").returncode == 2


@pytest.mark.skipif(not BROUGHT, reason="this wheel did not bring the program")
def test_the_program_that_the_wheel_brought_has_the_figures_of_the_package(evaluation, tmp_path):
    bridge = tmp_path / "bridge"
    made = run("--quiet", "bridge", "fit", "--from", DATA / "new-fit.npy", "--to", DATA / "old-fit.npy", "--out", bridge)
    assert made.returncode == 0, made.stderr
    sets = [f"{side}-{part}" for side in ("old", "new") for part in ("queries", "gallery")]
    files = [word for name in sets for word in (f"--{name}", DATA / f"{name}.npy")]
    labels = ["--query-labels", DATA / "queries-labels.txt", "--gallery-labels", DATA / "gallery-labels.txt"]
    found = run("--quiet", "--json", "certify", "--bridge", bridge, "--route", "dual", "--resamples", "300", *files, *labels)
    assert found.returncode == 0, found.stderr
    certificate = perennial.certify(**evaluation, bridge=perennial.Bridge.load(bridge), route="dual", resamples=300)
    assert json.loads(found.stdout)["tasks"] == certificate.to_dict()["tasks"]


def test_the_stubs_name_what_there_is():
    tree = ast.parse((PACKAGE / "_perennial.pyi").read_text())
    assert (PACKAGE / "py.typed").exists()
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert sorted(functions + list(classes)) == sorted(name for name in dir(native) if not name.startswith("_"))
    for name, node in classes.items():
        stubs = {item.name for item in node.body if isinstance(item, ast.FunctionDef)} - {"__new__"}
        # What it has beside an exception, which has no methods of its own.
        present = {item for item in dir(getattr(native, name)) if not item.startswith("_")} - set(dir(Exception))
        assert stubs == present, name
    for name in functions:
        stub = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        parameters = [argument.arg for argument in stub.args.args + stub.args.kwonlyargs]
        assert parameters == list(inspect.signature(getattr(native, name)).parameters), name


def test_everything_public_is_described():
    assert perennial.__version__ == native.__version__
    for name in perennial.__all__:
        assert inspect.getdoc(getattr(perennial, name)), name
    for part in (perennial.metrics, perennial.runs):
        for name, value in vars(part).items():
            if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == part.__name__:
                assert inspect.getdoc(value), name
