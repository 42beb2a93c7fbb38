"""A user's folder with its own sim/, models/ and tests/ keeps them, whatever picojoule calls its rooms."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TRAIN = """
import torch

import models.blocks
import sim
import tests.helper
from models.blocks import Block


def build():
    assert sim.OWNER == tests.helper.OWNER == models.blocks.OWNER == "user"
    return torch.nn.Sequential(Block(), torch.nn.Flatten(), torch.nn.Linear(2 * 6 * 6, 5)), torch.randn(1, 3, 8, 8)


if __name__ == "__main__":
    import picojoule as pj
    from picojoule.models import names
    from picojoule.sim.ir import Network

    module, inputs = build()
    network = pj.trace(module, inputs)
    assert isinstance(network, Network) and "lenet5" in names()
    assert "user" in open(models.blocks.__file__).read() and sim.OWNER == "user"
    print(pj.evaluate(network, "edge-16x16").totals["macs"], pj.evaluate("train.py:build", "isaac").totals["macs"])
"""
BLOCKS = """
import torch

OWNER = "user"


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return torch.relu(self.conv(x))
"""
MACS = 6 * 6 * 2 * 27 + 72 * 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the user's folder; `models` is a package without __init__.py, the others have one."""
    made = tmp_path / "project"
    files = {
        "train.py": TRAIN,
        "models/blocks.py": BLOCKS,
        "sim/__init__.py": "OWNER = 'user'\n",
        "tests/__init__.py": "",
        "tests/helper.py": "OWNER = 'user'\n",
        "accel/__init__.py": "raise RuntimeError('nobody asked for this')\n",
        "reram.py": "raise RuntimeError('nobody asked for this')\n",
        "tests/test_mine.py": "import sim\nimport picojoule.sim.ir\n\n\ndef test_mine():\n    assert sim.OWNER == 'user'\n",
    }
    for name, text in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def call(words: list[str | Path], where: Path, *, code: int = 0) -> str:
    """Run a program in a folder, without the test run's own paths, and return its stdout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    made = subprocess.run(
        words,
        cwd=where,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert made.returncode == code, made.stderr
    return made.stdout


def check_macs(out: str) -> None:
    assert json.loads(out)["totals"]["macs"] == MACS


PRICE = ["--hardware", "edge-16x16", "--format", "json"]


def as_script(folder: Path, programs: Path) -> None:
    assert call([programs / "python", "train.py"], folder).split() == [str(MACS)] * 2


def as_module(folder: Path, programs: Path) -> None:
    check_macs(call([programs / "python", "-m", "picojoule", "evaluate", "train.py:build", *PRICE], folder))


def as_command(folder: Path, programs: Path) -> None:
    check_macs(call([programs / "picojoule", "evaluate", "train.py:build", *PRICE], folder))


def as_command_elsewhere(folder: Path, programs: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    check_macs(call([programs / "picojoule", "evaluate", "../project/train.py:build", *PRICE], elsewhere))


@pytest.mark.parametrize("way", [as_script, as_command_elsewhere])
def test_editable_install(way: Callable[[Path, Path], None], folder: Path) -> None:
    way(folder, Path(sys.executable).parent)


@pytest.mark.full
@pytest.mark.parametrize("way", [as_module, as_command])
def test_editable_install_in_the_folder(way: Callable[[Path, Path], None], folder: Path) -> None:
    way(folder, Path(sys.executable).parent)


def test_users_rooms_are_left_alone(folder: Path) -> None:
    """With -m the user's folder is first on the path, and picojoule still finds its own rooms."""
    (folder / "net.csv").write_text("fc, 4, 5, 6\n")
    out = call([sys.executable, "-m", "picojoule", "evaluate", "net.csv", *PRICE], folder)
    assert json.loads(out)["totals"]["macs"] == 4 * 5 * 6


def test_pytest_in_the_users_folder(folder: Path) -> None:
    call([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], folder)


def test_bare_rooms_are_not_importable(tmp_path: Path) -> None:
    code = "import importlib.util as u; print([m for m in ('sim', 'accel', 'reram', 'models') if u.find_spec(m)])"
    assert call([sys.executable, "-c", code], tmp_path) == "[]\n"


def test_folder_goes_first_even_when_it_is_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from picojoule.networks import load_torch

    names = []
    for owner in ("one", "two"):
        home = tmp_path / owner
        home.mkdir()
        (home / f"entry_{owner}.py").write_text(
            "import sys\nfrom torch import nn, randn\nFIRST = sys.path[0]\n"
            f"def build():\n    assert FIRST == {str(home)!r}\n    return nn.Linear(2, 2), randn(1, 2)\n"
        )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "one")])
    for owner in ("two", "one"):
        names.append(load_torch(f"{tmp_path / owner / f'entry_{owner}.py'}:build").name)
    assert names == ["entry_two.build", "entry_one.build"]


# --- wheel and source archive -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a user's pip does (the build requirement comes from the package index)."""
    folder = tmp_path_factory.mktemp("wheel")
    call([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT], folder)
    (made,) = folder.glob("*.whl")
    return made


def checked_out(room: str) -> set[str]:
    files = (p for p in (ROOT / room).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {f"picojoule/{p.relative_to(ROOT)}" for p in files}


@pytest.mark.full
def test_wheel_holds_the_rooms_inside_picojoule(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        links = [i.filename for i in archive.infolist() if (i.external_attr >> 16) & 0o170000 == 0o120000]
    assert not links
    tops = {name.split("/")[0] for name in names}
    assert tops == {"picojoule", next(t for t in tops if t.endswith(".dist-info"))}
    for room in ("sim", "accel", "reram", "models"):
        assert checked_out(room) <= names
    assert {"picojoule/py.typed", "picojoule/cli.py", "picojoule/reram/presets/isaac.yaml"} <= names
    assert {"picojoule/accel/systolic/presets/edge-16x16.yaml", "picojoule/models/data_files/digits.npz"} <= names
    licences = {n.partition(".dist-info/licenses/")[2] for n in names if ".dist-info/licenses/" in n}
    data = "picojoule/models/data_files"
    assert licences == {"LICENSE", f"{data}/LICENSE.digits", f"{data}/LICENSE.fashion-mnist"}
    assert not [n for n in names if "__pycache__" in n or n.endswith(".pyc") or n.startswith("tests/")]


@pytest.mark.full
def test_wheel_runs_from_an_empty_folder(wheel: Path, folder: Path, tmp_path: Path) -> None:
    """Install it in a new environment that borrows the dependencies, but not picojoule, from this one."""
    home = tmp_path / "venv"
    call([sys.executable, "-m", "venv", home], tmp_path)
    programs = home / "bin"
    call([programs / "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], tmp_path)
    (site,) = home.glob("lib/python*/site-packages")
    borrowed = Path(sysconfig.get_path("purelib"))
    # A plain path entry: unlike addsitedir it does not run the .pth files there, so the editable install stays out.
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    where = call([programs / "python", "-c", "import picojoule, picojoule.sim.ir as i; print(i.__file__)"], empty)
    assert where.startswith(str(site))
    rows = json.loads(call([programs / "picojoule", "presets", "--format", "json"], empty))
    assert {"isaac", "edge-16x16", "edge-32x32", "tpu-v1"} <= {r["name"] for r in rows}
    for hardware in ("isaac", "edge-16x16"):
        out = call([programs / "picojoule", "evaluate", "resnet20", "--hardware", hardware, "--format", "json"], empty)
        assert json.loads(out)["totals"]["macs"] > 40_000_000
    words = ["evaluate", "mlp-784-100-10", "--hardware", "isaac", "--accuracy", "--data", "digits", "--format", "json"]
    assert json.loads(call([programs / "picojoule", *words], empty))["accuracy"]["samples"] == 360
    assert not list(empty.iterdir())
    for way in (as_script, as_module, as_command, as_command_elsewhere):
        way(folder, programs)


@pytest.mark.full
def test_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    call([sys.executable, "-m", "pip", "install", "--quiet", "--target", tmp_path / "tools", "hatchling"], tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "tools")}
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert {p.name for p in source.iterdir()} >= {"LICENSE", "README.md", "pyproject.toml", "picojoule"}
    assert not list(source.rglob("__pycache__")) and not (source / ".venv").exists()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "second")],
        cwd=source,
        env=environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    (second,) = (tmp_path / "second").glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(second) as two:
        assert {i.filename: i.CRC for i in one.infolist()} == {i.filename: i.CRC for i in two.infolist()}
