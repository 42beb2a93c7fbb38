"""ONNX's own test cases (onnx.backend.test): every single-operator case that we claim gives the stored results.

Each case runs twice: as it is, and with all inputs but the first stored in the file, since weights, axes and sizes usually are.
A case ends as `right`, `refused` (by name, at import), `left out` (values torch cannot hold, nothing to price) or wrong.
"""

import importlib
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper, version_converter

from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.importers.onnx_graph import load_onnx
from picojoule.sim.numerics.executor import Executor

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
SAMPLE, SEED = 30, 3
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # numpy's, where the cases are made
]


def operators() -> list[str]:
    """Return the names of the modules that make cases, one for each operator."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "case" / "node"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


@cache
def cases(operator: str) -> tuple[Any, ...]:
    """Return the cases of one operator: importing its module adds them to the package's list."""
    from onnx.backend.test.case import node

    before = len(node._NodeTestCases)
    importlib.import_module(f"{node.__name__}.{operator}")
    return tuple(c for c in node._NodeTestCases[before:] if c.model is not None)


def stored(model: Any, inputs: Any) -> Any:
    """Return the model with every input but the first as an initializer, or None where that is none or impossible."""
    if len(model.graph.input) < 2 or not all(isinstance(a, np.ndarray) for a in inputs):
        return None
    made = onnx.ModelProto.FromString(model.SerializeToString())
    for declared, array in list(zip(made.graph.input, inputs, strict=False))[1:]:
        made.graph.initializer.append(numpy_helper.from_array(array, declared.name))
    return made


def flat(values: Any) -> list[Any]:
    return [v for value in values for v in (value if isinstance(value, list) else [value])]


def outcome(path: Path, model: Any, inputs: Any, expected: Any) -> str:
    """Return how a case ends; anything but the words of this file's docstring is a failure."""
    path.write_bytes(model.SerializeToString())
    try:
        net = load_onnx(path, probe=False)
    except (UnsupportedError, InputError) as error:
        nothing = "nothing to price" in str(error)
        return (
            "left out" if nothing else "refused" if path.name in str(error) or path.stem in str(error) else str(error)
        )
    if net.unsupported:
        return "refused" if all(u.reason for u in net.unsupported) else "refused without a reason"
    by_name = dict(zip((i.name for i in model.graph.input), inputs, strict=False))
    arrays = [np.array(by_name[r.name]) for r in net.inputs]
    if any(a.dtype.isbuiltin != 1 or a.dtype.kind in "OUSc" for a in arrays):
        return "left out"
    if any(a.dtype == np.float64 and np.abs(a).max(initial=0) > 3e38 for a in arrays):
        return "left out"
    if any(0 in a.shape for a in arrays) or any("depend on no input" in n for n in net.notes):
        return "left out"
    with torch.no_grad():
        got = Executor(net).run([torch.from_numpy(a) for a in arrays])
    wanted = flat(expected)
    if len(got) != len(wanted):
        return f"{len(got)} results for {len(wanted)}"
    if all(equal(ours.numpy(), theirs) for ours, theirs in zip(got, wanted, strict=True)):
        return "right"
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        feeds = {i.name: np.array(by_name[i.name]) for i in session.get_inputs()}
        judged = session.run(None, feeds)
    except Exception as error:
        return f"wrong ({type(error).__name__})"
    agree = all(equal(ours.numpy(), theirs) for ours, theirs in zip(got, judged, strict=True))
    return "as ONNX Runtime" if agree else "wrong"


def equal(ours: Any, theirs: Any) -> bool:
    a, b = np.asarray(ours, np.float64), np.asarray(theirs).astype(np.float64)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)


def run(chosen: Sequence[str], path: Path) -> tuple[Counter[str], dict[str, str]]:
    counts, failures = Counter[str](), {}
    for case in (c for operator in chosen for c in cases(operator)):
        inputs, expected = case.data_sets[0]
        for form, model in (("as it is", case.model), ("stored", stored(case.model, inputs))):
            if model is None:
                continue
            end = outcome(path, model, inputs, expected)
            counts[form, end] += 1
            if end not in ("right", "refused", "left out", "as ONNX Runtime"):
                failures[f"{case.name}, {form}"] = end
    return counts, failures


def test_a_sample_of_the_operators(tmp_path):
    counts, failures = run(random.Random(SEED).sample(operators(), SAMPLE), tmp_path / "case.onnx")
    assert failures == {}
    assert counts["stored", "right"] > counts["stored", "refused"]


@pytest.mark.full
def test_all_operators(tmp_path):
    counts, failures = run(operators(), tmp_path / "case.onnx")
    assert failures == {}
    assert counts["stored", "right"] >= 950
    assert counts["as it is", "right"] >= 1000
    assert sum(n for (_, end), n in counts.items() if end == "as ONNX Runtime") <= 2  # one Resize rule of the reference


def folders(group: str) -> list[Path]:
    return sorted(p for p in (DATA / group).iterdir() if (p / "model.onnx").is_file())


def read(path: Path, declared: Any) -> Any:
    if declared.type.WhichOneof("value") != "tensor_type":
        return None
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


@pytest.mark.parametrize("opset", [13, *(pytest.param(v, marks=pytest.mark.full) for v in (8, 11, 17, 21))])
@pytest.mark.parametrize("group", ["simple", "pytorch-operator", "pytorch-converted"])
def test_models_of_the_package_in_several_operator_sets(group, opset, tmp_path):
    """Most are written for opset 6; the package's own converter brings them to newer ones."""
    counts, failures = Counter[str](), {}
    for folder in folders(group):
        model = onnx.load(folder / "model.onnx")
        try:
            model = version_converter.convert_version(model, opset)
        except RuntimeError:
            if model.opset_import[0].version < 7:
                counts["no converter"] += 1
                continue
        data, names = folder / "test_data_set_0", {i.name for i in model.graph.initializer}
        declared = [i for i in model.graph.input if i.name not in names]
        inputs = [read(data / f"input_{i}.pb", d) for i, d in enumerate(declared)]
        expected = [read(data / f"output_{i}.pb", d) for i, d in enumerate(model.graph.output)]
        if any(v is None for v in (*inputs, *expected)):
            counts["sequences"] += 1
            continue
        del model.graph.input[:]
        model.graph.input.extend(declared)
        end = outcome(tmp_path / "case.onnx", model, inputs, expected)
        counts[end] += 1
        if end not in ("right", "refused", "left out", "as ONNX Runtime"):
            failures[folder.name] = end
    assert failures == {}
    least = {"simple": 5, "pytorch-operator": 20, "pytorch-converted": 60}[group]
    assert counts["right"] >= least, counts
