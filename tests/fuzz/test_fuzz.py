"""A campaign of hostile files: each ends in a typed error or a valid result, in bounded time and memory, and runs no code.

2,000 cases in the default suite, 200,000 with --all; `scripts/fuzz --reader NAME --case N --seed S` makes one of them again.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fuzz.py"
GROUPS = {  # readers that share a worker process, and their cases in the default suite
    "onnx": (["onnx"], 680),
    "text": (
        ["csv", "network-json", "hardware-yaml", "plan-yaml", "run-json", "points-csv", "idx", "cifar10", "images"],
        980,
    ),
    "torch": (["pt", "safetensors", "pt2"], 340),
}


def fuzz(keep: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "--format", "json", "--keep", str(keep), *words]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode in (0, 1), made.stderr
    document: dict[str, Any] = json.loads(made.stdout)
    return document


def no_problem(document: dict[str, Any], cases: int) -> None:
    shown = [f"{p['reader']} {p['case']} ({p['label']}): {p['problem']}" for p in document["problems"]]
    assert not shown, f"{len(shown)} problems, such as\n" + "\n\n".join(shown[:5])
    tried = document["table"][-1]
    assert abs(tried["tried"] - cases) <= 10
    assert tried["ok"] > cases / 20, "specimens are damaged so much that nothing is read to its end"
    assert tried["InputError"] > cases / 5, "specimens are hardly damaged"


@pytest.mark.parametrize("group", GROUPS)
def test_hostile_files_end_in_one_sentence(group: str, tmp_path: Path) -> None:
    readers, cases = GROUPS[group]
    chosen = [word for reader in readers for word in ("--reader", reader)]
    no_problem(fuzz(tmp_path, "--cases", str(cases), *chosen), cases)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 41))
def test_hostile_files_by_the_thousand(seed: int, tmp_path: Path) -> None:
    no_problem(fuzz(tmp_path, "--cases", "5000", "--seed", str(seed)), 5000)


CAUGHT = {
    "raises": "KeyError escaped: 'a bug'",
    "loops": "more than 2 s of CPU time",
    "eats memory": "MemoryError escaped: ",
    "runs code": "code ran: ",
    "starts a process": "did what no reader may: subprocess.Popen",
    "opens a secret": "did what no reader may: opened ",
    "says nothing": "the message does not name the file (specimen): 'something is wrong'",
    "dies": "the process was killed by SIGABRT",
}


def test_the_harness_notices_what_it_looks_for(tmp_path: Path) -> None:
    document = fuzz(tmp_path, "--reader", "traps", "--cases", "16", "--seed", "2")
    assert document["table"][-1] == document["table"][0] | {"reader": "all", "case": "", "case ": ""}
    assert document["table"][0]["PROBLEM"] == document["table"][0]["tried"] == 16
    firsts = [p["problem"].splitlines()[0] for p in document["problems"]]
    for trap, problem in CAUGHT.items():
        assert any(line.startswith(problem) for line in firsts), trap
    kept = {p.name for p in tmp_path.iterdir()}
    assert kept == {f"traps-2-{i}" for i in range(16)}, "the files of a failing case are kept"


def test_a_case_is_made_again(tmp_path: Path) -> None:
    whole = fuzz(tmp_path / "a", "--reader", "traps", "--cases", "6", "--seed", "3")
    again = fuzz(tmp_path / "b", "--reader", "traps", "--case", "4", "--seed", "3")
    first = [p["problem"].splitlines()[0] for p in whole["problems"] if p["case"] == 4]
    assert [p["problem"].splitlines()[0].partition(":")[0] for p in again["problems"]] == [
        line.partition(":")[0] for line in first
    ]
    assert (tmp_path / "b" / "traps-3-4" / "specimen.txt").read_bytes() == (
        tmp_path / "a" / "traps-3-4" / "specimen.txt"
    ).read_bytes()
