"""Shapes learnt by running a file once in ONNX Runtime, where nobody can infer them.

The run is a process of its own with bounds on time and memory, for one sample and for two, with inputs of zeros and of ones;
every value's shape (not the value) is what it returns. Operators of other domains than ONNX's and Microsoft's cannot run.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx

from picojoule.sim.importers.onnx_inputs import GraphInput
from picojoule.sim.importers.onnx_values import grown_axis
from picojoule.sim.ir import TensorType, Unsupported

_LOG = logging.getLogger(__name__)
_LARGEST_FILE_BYTES = 1 << 30
LARGEST_INPUT_ELEMENTS = 1 << 26
LONGEST_S = 60
_DOMAINS = ("", "ai.onnx", "com.microsoft", "ai.onnx.ml")
_NEEDED = "install onnxruntime (pip install 'picojoule[onnx]') so that the file can be run once to learn its shapes"


def may_help(refused: Sequence[Unsupported], model: Any) -> bool:
    """Whether a run could tell the shapes: every operator is one that ONNX Runtime may know, and it would end."""
    if any(
        u.op in ("If", "Loop", "Scan") for u in refused
    ):  # nobody knows which way, and for how long, they would turn
        return False
    if any(n.domain not in _DOMAINS for n in model.graph.node):
        return False
    names = {u.op for u in refused if "." not in u.op}
    return all(onnx.defs.has(name, "") for name in names)


def shapes(
    path: Path, inputs: Mapping[str, TensorType], declared: Sequence[GraphInput]
) -> tuple[dict[str, TensorType], str]:
    """Return the types of all values by name, and (where there are none) what the user can do."""
    if find_spec("onnxruntime") is None:
        return {}, _NEEDED
    if path.stat().st_size > _LARGEST_FILE_BYTES or any(
        t.elements(2) > LARGEST_INPUT_ELEMENTS for t in inputs.values()
    ):
        return {}, ""
    types = {d.name: d.data_type for d in declared}
    found = _run(path, [{n: (types[n], t.at(batch)) for n, t in inputs.items()} for batch in (1, 2)])
    one, two = (found[0], found[1]) if len(found) == 2 else ({}, {})
    made = {}
    for name, shape in one.items():
        if all(s > 0 for s in shape):
            axis = grown_axis(shape, two[name]) if name in two else None
            made[name] = TensorType(shape=tuple(shape), batch_axis=axis)
    return made, ""


def _run(path: Path, feeds: Sequence[Mapping[str, tuple[int, Sequence[int]]]]) -> list[dict[str, tuple[int, ...]]]:
    """Run the file on each of `feeds` (element type and shape by name) and return the shapes; nothing where it failed."""
    command = [sys.executable, "-m", "picojoule.sim.importers.onnx_probe_run", str(path)]
    request = json.dumps([{n: [t, list(s)] for n, (t, s) in feed.items()} for feed in feeds])
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        _LOG.info("%s: ONNX Runtime took longer than %g s", path, LONGEST_S)
        return []
    if done.returncode:
        _LOG.info("%s: ONNX Runtime could not run it: %s", path, done.stderr.strip()[-500:])
        return []
    return [{n: tuple(int(v) for v in s) for n, s in shapes.items()} for shapes in json.loads(done.stdout)]
