"""The README stays true: its example runs, its matrix is the code's, its commands exist."""

import re
from pathlib import Path

import pytest

from picojoule.cli import app
from picojoule.listing import support_matrix

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_five_lines_run_and_say_what_they_say(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "40813184 1\n"
    assert (tmp_path / "run" / "report.json").is_file()


def test_the_support_matrix_is_the_codes():
    (shown,) = re.findall(r"<!-- support matrix:.*?-->\n(.*?)\n<!-- end", README, re.DOTALL)
    assert shown.strip() == support_matrix(), "paste picojoule.listing.support_matrix() into README.md"


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^picojoule (\w+)", README, re.MULTILINE))))
def test_commands_shown_exist(command):
    assert command in {c.name or c.callback.__name__ for c in app.registered_commands}


def test_pictures_are_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parent.parent / path).stat().st_size > 10_000
