"""Readers of runs: those of `data/runs`, and what is damaged."""

import json
import shutil

import pytest
from conftest import DATA

from perennial import PerennialError, runs

RUNS = DATA / "runs"


def test_runs_are_dicts_as_the_files_have_them():
    found = runs.read_runs(RUNS)
    assert [run["name"] for run in found] == ["demo-er", "demo-hoc"]
    for run in found:
        folder = RUNS / run["name"]
        assert run["folder"] == str(folder)
        report = json.loads((folder / "compatibility.json").read_text())
        assert run["compatibility"] == report
        assert {key: run[key] for key in ("seed", "status", "tasks")} == {
            key: json.loads((folder / "run.json").read_text())[key] for key in ("seed", "status", "tasks")
        }
    epochs = runs.read_epochs(RUNS)
    assert {epoch["run"] for epoch in epochs} == {"demo-er", "demo-hoc"}
    lines = (RUNS / "demo-er" / "metrics.jsonl").read_text().splitlines()
    assert epochs[0] == {"run": "demo-er", **json.loads(lines[0])}


def test_records_of_a_benchmark_become_a_table():
    pandas = pytest.importorskip("pandas")
    records = runs.read_benchmark(RUNS)
    assert [record["method"] for record in records] == ["hoc"]
    table = runs.to_frame(records)
    assert isinstance(table, pandas.DataFrame) and len(table) == 1
    assert table["values.AC"][0] == records[0]["values"]["AC"] == 2 / 3
    epochs = runs.to_frame(runs.read_epochs(RUNS))
    assert epochs.groupby("run")["loss"].last()["demo-hoc"] > -100
    table = runs.to_frame(runs.read_runs(RUNS)).set_index("name")
    assert table["compatibility.metrics.average_compatibility"]["demo-er"] == 0


def test_the_records_of_this_repository_are_read():
    """What the present program writes, in a folder of records: none is left out, and none is taken from another file."""
    folder = DATA.parents[3] / "experiments" / "bench" / "records"
    for name in ("cpu", "protocols"):
        records = runs.read_benchmark(folder / name)
        assert sorted(record["run"] for record in records) == sorted(path.stem for path in (folder / name).iterdir())
        assert all(0 <= record["values"]["AC"] <= 1 for record in records)
    # Runs of two benchmarks may have one name.
    assert len(runs.read_benchmark(folder)) == sum(1 for _ in folder.rglob("*.json"))


def test_only_records_are_taken_from_a_folder(tmp_path):
    record = json.loads((RUNS / "demo-hoc" / "benchmark.json").read_text())
    (tmp_path / "demo.hoc.0.json").write_text(json.dumps({**record, "run": "demo.hoc.0", "schema_version": 2}))
    (tmp_path / "a.b.c.json").write_text(json.dumps({"run": "another"}))
    (tmp_path / "notes.json").write_text("[")
    assert [found["run"] for found in runs.read_benchmark(tmp_path)] == ["demo.hoc.0"]
    (tmp_path / "demo.hoc.0.json").write_text(json.dumps({**record, "run": "demo.hoc.0", "schema_version": 3}))
    with pytest.raises(PerennialError, match="demo.hoc.0.json: schema_version is 3"):
        runs.read_benchmark(tmp_path)


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    copy = tmp_path / "demo"
    shutil.copytree(RUNS / "demo-er", copy)
    whole, epochs = runs.read_epochs(tmp_path), copy / "metrics.jsonl"
    text = epochs.read_text()
    for torn in ('{"task":', "{", '{"task": 9}'):
        epochs.write_text(text + torn)
        assert runs.read_epochs(tmp_path) == whole


def test_what_is_damaged_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        runs.read_runs(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        runs.read_run(tmp_path)
    assert runs.read_runs(tmp_path) == [] == runs.read_benchmark(tmp_path)
    copy = tmp_path / "demo"
    shutil.copytree(RUNS / "demo-er", copy)
    report = copy / "compatibility.json"
    report.write_text(report.read_text()[:200])
    with pytest.raises(PerennialError, match="compatibility.json: is damaged"):
        runs.read_run(copy)
    report.write_text('{"schema_version": 99}')
    with pytest.raises(PerennialError, match="schema_version is 99"):
        runs.read_run(copy)
    report.write_text("[]")
    with pytest.raises(PerennialError, match="expected an object"):
        runs.read_run(copy)
    report.write_bytes(b"\xff")
    with pytest.raises(PerennialError, match="not UTF-8"):
        runs.read_run(copy)
    epochs = copy / "metrics.jsonl"
    epochs.write_text(epochs.read_text() + '{"task":\n')
    with pytest.raises(PerennialError, match=r"metrics.jsonl, line \d+: is damaged"):
        runs.read_epochs(copy)
