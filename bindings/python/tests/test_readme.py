"""The examples of README.md run as they stand, and their figures are those of the program."""

import re
from pathlib import Path

from conftest import document

FOLDER = Path(__file__).parents[1]


def test_examples_run_and_have_the_figures_of_the_program(monkeypatch, tmp_path):
    monkeypatch.chdir(FOLDER)
    text = (FOLDER / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 3
    names = {"tmp": str(tmp_path)}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    # The document has item-like judgements as well, and a merge is chosen over all tasks that there are.
    without_merge = lambda task: {key: value for key, value in task.items() if key != "merge"}
    wanted = document("certificate-dual")["tasks"][:1]
    found = names["certificate"].to_dict()["tasks"]
    assert [without_merge(task) for task in found] == [without_merge(task) for task in wanted]
    assert names["advice"].to_dict()["tasks"] == document("advice")["tasks"]
