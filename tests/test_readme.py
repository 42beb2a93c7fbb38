"""The README stays true: its example runs, its matrix is the code's, its commands exist."""

import re
import runpy
import shutil
from pathlib import Path

import pytest

from picojoule.cli import app
from picojoule.operators import operators_document, support_matrix
from picojoule.sim.hardware import load_spec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DEFORMABLE = (ROOT / "docs" / "deformable.md").read_text()
CROSSBAR = (ROOT / "docs" / "crossbar.md").read_text()
SYSTOLIC = (ROOT / "docs" / "systolic.md").read_text()


def test_the_five_lines_run_and_say_what_they_say(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "40813184 1\n"
    assert (tmp_path / "run" / "report.json").is_file()


def test_the_support_matrix_is_the_codes():
    (shown,) = re.findall(r"<!-- support matrix:.*?-->\n(.*?)\n<!-- end", README, re.DOTALL)
    assert shown.strip() == support_matrix(), "run scripts/make_docs.py"


def test_the_list_of_operators_is_the_codes():
    assert (ROOT / "docs" / "operators.md").read_text() == operators_document(), "run scripts/make_docs.py"


def test_the_script_writes_what_is_there(tmp_path, monkeypatch):
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "README.md").write_text(README.replace("| conv | crossbar", "| conv | abacus"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "deformable.md").write_text(DEFORMABLE.replace("| full ordinary, no LLC | 43.1", "| full | 1"))
    (tmp_path / "docs" / "crossbar.md").write_text(
        CROSSBAR.replace("| `survey` | energy, pJ | refused", "| `survey` | free")
    )
    (tmp_path / "docs" / "systolic.md").write_text(SYSTOLIC.replace("| all |", "| any |"))
    monkeypatch.setattr("sys.argv", ["make_docs.py", "--root", str(tmp_path)])
    runpy.run_path(str(ROOT / "scripts" / "make_docs.py"), run_name="__main__")
    assert (tmp_path / "README.md").read_text() == README
    assert (tmp_path / "docs" / "operators.md").read_text() == (ROOT / "docs" / "operators.md").read_text()
    assert (tmp_path / "docs" / "deformable.md").read_text() == DEFORMABLE, "run scripts/make_docs.py"
    assert (tmp_path / "docs" / "crossbar.md").read_text() == CROSSBAR, "run scripts/make_docs.py"
    assert (tmp_path / "docs" / "systolic.md").read_text() == SYSTOLIC, "run scripts/make_docs.py"


def test_the_example_of_deformable_convolution_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", DEFORMABLE, re.DOTALL)
    found = {}
    exec(compile(code, "deformable.md", "exec"), found)
    square, free = map(float, capsys.readouterr().out.split())
    assert square < free
    (layer,) = (row for row in found["report"].layers if row.op == "deform_conv")
    assert layer.unit == "engine" and "data" in layer.basis


def test_the_example_of_crossbars_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", CROSSBAR, re.DOTALL)
    exec(compile(code, "crossbar.md", "exec"), {})
    safe, fit = map(float, capsys.readouterr().out.split())
    assert fit < safe


def test_the_hardware_file_of_crossbars_is_read(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", CROSSBAR, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text)
    spec = load_spec(tmp_path / "mine.yaml")
    assert spec.adc_bits == (9, 8, 8, 5) and spec.device.preset == "wan-2022"


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^picojoule (\w+)", README, re.MULTILINE))))
def test_commands_shown_exist(command):
    assert command in {c.name or c.callback.__name__ for c in app.registered_commands}


def test_pictures_are_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).stat().st_size > 10_000
