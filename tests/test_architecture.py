"""The house: who may import whom, what the light paths never load, and what no file may do. Read from the source."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"sim": 0, "accel": 1, "reram": 1, "models": 2, "picojoule": 3, "scripts": 4}
ROOMS = ("sim", "accel", "reram", "models")
LIGHT_FACE = {
    "__init__",
    "__main__",
    "cli",
    "api",
    "networks",
    "checkpoints",
    "inspecting",
    "evaluating",
    "listing",
    "tables",
    "pareto",
    "comparison",
    "dominance",
    "fronts",
    "hypervolumes",
    "searching",
}
"""Files of picojoule/ that are loaded before anybody knows whether torch is needed."""


def sources(folder: str) -> list[Path]:
    """Return the Python files of a room; picojoule/ without the rooms linked into it, scripts without a suffix too."""
    found = [p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts]
    if folder == "picojoule":
        found = [p for p in found if p.relative_to(ROOT / folder).parts[0] not in ROOMS]
    return sorted(found)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def in_type_checking(module: ast.Module) -> set[ast.AST]:
    """Return the nodes that only type checkers see."""
    guarded: set[ast.AST] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            guarded.update(n for statement in node.body for n in ast.walk(statement))
    return guarded


def in_functions(module: ast.Module) -> set[ast.AST]:
    functions = [n for n in ast.walk(module) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    return {inner for function in functions for inner in ast.walk(function)}


def imported(module: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Return every import, wherever it stands, as (node, dotted name); `from a import b` gives `a.b`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the whole name"
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def texts(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def room_of(name: str) -> str | None:
    """Return the room a dotted name lies in, None outside the project."""
    parts = name.split(".")
    if parts[0] != "picojoule":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "picojoule"


EVERY_SOURCE = [(room, path) for room in FLOORS for path in sources(room)]
IDS = [str(path.relative_to(ROOT)) for _, path in EVERY_SOURCE]


def test_there_is_something_to_check() -> None:
    assert len(EVERY_SOURCE) > 60
    assert {room for room, _ in EVERY_SOURCE} == set(FLOORS)


@pytest.mark.parametrize(("room", "path"), EVERY_SOURCE, ids=IDS)
def test_imports_go_down(room: str, path: Path) -> None:
    for node, name in imported(tree(path)):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        assert name.split(".")[0] not in (*ROOMS, "scripts", "tests"), f"{where}: import {name} as picojoule.{name}"
        target = room_of(name)
        if target is None or target == room:
            continue
        assert FLOORS[target] < FLOORS[room], f"{where}: {room} may not import {target} ({name})"


@pytest.mark.parametrize(("room", "path"), EVERY_SOURCE, ids=IDS)
def test_torch_stays_out_of_cost_paths(room: str, path: Path) -> None:
    if room in ("models", "scripts") or "numerics" in path.relative_to(ROOT).parts:
        return
    if room == "picojoule" and path.parent == ROOT / "picojoule" and path.stem not in LIGHT_FACE:
        return
    if room == "picojoule" and path.parent != ROOT / "picojoule" and path.name != "__init__.py":
        return
    module = tree(path)
    late = in_functions(module) | in_type_checking(module)
    heavy = ("torch", "matplotlib", "pandas", "scipy.sparse", "picojoule.sim.numerics")
    for node, name in imported(module):
        if node not in late:
            bad = next((h for h in heavy if f"{name}.".startswith(f"{h}.")), None)
            assert bad is None, f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name} is loaded at import"


FORBIDDEN_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torchvision")
FORBIDDEN_CALLS = (
    "eval",
    "exec",
    "compile",
    "__import__",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "os.popen",
)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize(("room", "path"), EVERY_SOURCE, ids=IDS)
def test_nothing_runs_what_a_file_says(room: str, path: Path) -> None:
    module = tree(path)
    for node, name in imported(module):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for bad in FORBIDDEN_MODULES:
            allowed = name == "pickle.UnpicklingError"  # the error alone, to refuse what holds more than tensors
            assert allowed or not f"{name}.".startswith(f"{bad}."), f"{where}: {name}"
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        where, name = f"{path.relative_to(ROOT)}:{node.lineno}", dotted(node.func)
        given = {k.arg: k.value for k in node.keywords}
        assert name not in FORBIDDEN_CALLS, f"{where}: {name}"
        if name == "torch.load":
            value = given.get("weights_only")
            assert isinstance(value, ast.Constant) and value.value is True, (
                f"{where}: torch.load without weights_only=True"
            )
        if name in ("yaml.load", "yaml.load_all"):
            loader = dotted(given.get("Loader", ast.Constant(None)))
            assert loader in ("_Loader", "yaml.SafeLoader", "yaml.CSafeLoader"), (
                f"{where}: {name} with {loader or 'no loader'}"
            )
        if name in ("np.load", "numpy.load"):
            value = given.get("allow_pickle", ast.Constant(False))
            assert isinstance(value, ast.Constant) and value.value is False, f"{where}: np.load may unpickle"
        if "shell" in given:
            raise AssertionError(f"{where}: a shell takes text apart; pass a list of words")


def test_safe_loader_is_safe() -> None:
    import yaml

    from picojoule.sim import specs

    assert issubclass(specs._Loader, yaml.SafeLoader)
    assert not issubclass(specs._Loader, yaml.FullLoader | yaml.UnsafeLoader)


MACHINE_PATHS = ("../" + "shared", "/" + "work/", "/" + "home/", "/" + "root/", "/" + "tmp/")


def test_no_file_names_a_machine() -> None:
    """Nothing refers to a folder outside the project: a clone elsewhere would miss it."""
    kept = [p for room in (*FLOORS, "tests") for p in (ROOT / room).rglob("*") if p.is_file() and not p.is_symlink()]
    kept += [p for p in ROOT.iterdir() if p.is_file()]
    suffixes = {".py", ".md", ".yaml", ".yml", ".toml", ".csv", ".json", ""}
    for path in kept:
        if path.suffix not in suffixes or "__pycache__" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        for bad in MACHINE_PATHS:
            assert bad not in text, f"{path.relative_to(ROOT)} names {bad}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_relative_links(room: str) -> None:
    link = ROOT / "picojoule" / room
    assert link.is_symlink() and str(link.readlink()) == f"../{room}"
    assert (ROOT / room).is_dir() and not (ROOT / room).is_symlink()
    assert (ROOT / room / "__init__.py").is_file()


@pytest.mark.parametrize("room", ["picojoule", *ROOMS])
def test_packages_have_an_init(room: str) -> None:
    """A folder without one would be left out of checks and might merge with somebody else's."""
    for path in sources(room):
        assert (path.parent / "__init__.py").is_file(), path.parent


def test_no_module_has_the_name_of_a_public_function() -> None:
    """Importing `picojoule.x` makes `picojoule.x` that module: a function of this name would be gone."""
    import picojoule

    modules = {p.stem for p in (ROOT / "picojoule").iterdir()}
    assert not modules & set(picojoule.__all__)


def test_light_face_exists() -> None:
    assert {p.stem for p in (ROOT / "picojoule").glob("*.py")} >= LIGHT_FACE


def test_scripts_can_be_run() -> None:
    launchers = [
        p for p in (ROOT / "scripts").iterdir() if p.is_file() and not p.suffix and p.stem != "setup_environment"
    ]
    assert {p.name for p in launchers} >= {"bench", "demo", "logit_snr", "network_table", "test"}
    for path in launchers:
        assert os.access(path, os.X_OK), path.name
        subprocess.run(["bash", "-n", path], check=True)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# --- what the light paths load ----------------------------------------------------------------------------------------

HEAVY = ("torch", "matplotlib", "pandas", "scipy.sparse", "numba", "onnxruntime", "optuna", "plotly")
"""numba and scipy belong to the core, but nothing of pricing may wait for a compiler."""

LIGHT = {
    "import": "import picojoule; dir(picojoule); picojoule.__version__; picojoule.InputError",
    "help": "from picojoule.cli import _run; assert _run(['--help'], False) == 0",
    "presets": "from picojoule.cli import _run; assert _run(['presets'], False) == 0",
    "csv and onnx": """
import onnx
from onnx import TensorProto, helper
nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
value = helper.make_tensor_value_info
graph = helper.make_graph(
    nodes, "g", [value("x", TensorProto.FLOAT, [1, 3, 8, 8])], [value("z", TensorProto.FLOAT, [1, 2, 6, 6])],
    [helper.make_tensor("w", TensorProto.FLOAT, [2, 3, 3, 3], [0.5] * 54)],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")
open("net.csv", "w").write("conv1, 8, 8, 3, 3, 4, 8, 1\\n")
from picojoule.cli import _run
for network in ("net.onnx", "net.csv"):
    for hardware in ("edge-16x16", "isaac"):
        for form in ("json", "table"):
            assert _run(["evaluate", network, "--hardware", hardware, "--format", form], False) == 0
    assert _run(["coverage", network], False) == 0
assert _run(["inspect", "net.onnx"], False) == 0
import picojoule as pj
assert pj.evaluate(pj.load("net.onnx"), "edge-16x16").totals["macs"] == 36 * 27 * 2
""",
}


@pytest.mark.parametrize("case", LIGHT)
def test_light_paths_load_nothing_heavy(case: str, tmp_path: Path) -> None:
    check = f"\nimport sys; loaded = [m for m in {HEAVY!r} if m in sys.modules]; assert not loaded, loaded"
    made = subprocess.run(
        [sys.executable, "-c", LIGHT[case] + check],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
