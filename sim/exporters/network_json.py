"""Writes a network as our own JSON: everything the workload says, one layer a line, the same bytes for the same network.

    {"schema": 1, "kind": "picojoule network", "name": ..., "weights": ..., "weights_file": "net.safetensors",
     "original_parameters": ..., "notes": [...], "unsupported": [...], "inputs": [...], "outputs": [...],
     "tensors": {name: {"dtype", "shape", "sha256", "note"} or {"dtype", "shape", "fill", "note"}},
     "layers": [{"name", "op", "operands": [...], "results": [...], "attributes": {...}, "source", "execution"}]}

Keys below `inputs`, `unsupported` and `layers` are the fields of `ir`, `formats` and `attributes` (see `dataclass_json`);
the attributes' class follows from `op`. An operand's `weights` names an entry of `tensors`. Values lie beside the JSON, in a
safetensors file under the same names, each with the SHA-256 of its bytes (little endian, C order); a tensor of one repeated
value is stated by that value (`fill`) and takes no bytes. Without weights the JSON says what a network is, not what it knows:
operands keep format, step and sparsity. `importers.network_json` reads it. Execution in another precision than the stored one
is no matter of this file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.dataclass_json import encode, float_to_json
from picojoule.sim.errors import InputError
from picojoule.sim.exporters.written import Written
from picojoule.sim.files import replaced, write_atomic
from picojoule.sim.ir import Network
from picojoule.sim.weights import FILL_NOTE, Weights, is_fill

SCHEMA = 1
KIND = "picojoule network"
SAFETENSORS_MARK = {"made_by": KIND}
"""Metadata of the safetensors files written here: one without it is somebody's own and is not overwritten."""
DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "bfloat16", "float32", "float64",
)  # fmt: skip
"""Element types of tensors, by numpy's names: what safetensors holds."""
NO_WEIGHTS = "none"
"""What `Network.weights` says when there are no values."""


def write_network(network: Network, path: Path, *, weights: bool = True) -> Written:
    """Write `path` (.json) and, where there are values, a .safetensors file of the same stem beside it.

    Raises:
        InputError: if a file cannot be written, or the safetensors file exists and was not made here.

    """
    store = _Store(weights)
    layers = [
        encode(layer, {Weights: store.name_of}, f"layer '{layer.name}'") for layer in map(store.named, network.layers)
    ]
    values_path = path.with_suffix(".safetensors")
    files = [path]
    if store.arrays:
        _check_ours(values_path)
        _write_values(values_path, store.arrays)
        files.append(values_path)
    document = {
        "schema": SCHEMA,
        "kind": KIND,
        "name": network.name,
        "weights": network.weights if weights else NO_WEIGHTS,
        "weights_file": values_path.name if store.arrays else None,
        "original_parameters": network.original_parameters,
        "notes": list(network.notes),
        "unsupported": encode(network.unsupported, {}),
        "inputs": encode(network.inputs, {}),
        "outputs": list(network.outputs),
        "tensors": dict(sorted(store.entries.items())),
        "layers": layers,
    }
    write_atomic(path, _text(document))
    return Written(files=tuple(files), notes=() if weights else ("structure only: no weight values were written",))


def _text(document: Mapping[str, Any]) -> str:
    """Return JSON with one line per item of the longer lists, so that two networks can be compared line by line."""
    parts = []
    for key, value in document.items():
        if isinstance(value, list | dict) and value and key != "outputs":
            items = value.items() if isinstance(value, dict) else ((None, v) for v in value)
            lines = [("" if k is None else f"{_line(k)}: ") + _line(v) for k, v in items]
            left, right = "{}" if isinstance(value, dict) else "[]"
            parts.append(f"{_line(key)}: {left}\n  " + ",\n  ".join(lines) + f"\n {right}")
        else:
            parts.append(f"{_line(key)}: {_line(value)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


class _Store:
    """Collects tensors by operand name; operands that hold the same handle, or the same values, share one entry."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.entries: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, NDArray[np.generic]] = {}
        self._names: dict[int, str] = {}
        self._handles: list[Weights] = []  # keeps the handles alive, so that an id() means one of them

    def named(self, layer: Any) -> Any:
        """Return the layer with weights entered under their operands' names (or left out)."""
        operands = []
        for operand in layer.operands:
            if operand.weights is not None and id(operand.weights) not in self._names:
                self._enter(operand.name, operand.weights)
            kept = operand.weights is None or id(operand.weights) in self._names
            operands.append(operand if kept else replace(operand, weights=None))
        return replace(layer, operands=tuple(operands))

    def name_of(self, handle: Weights, where: str) -> str:
        """Return the entry of a handle."""
        return self._names[id(handle)]

    def _enter(self, name: str, handle: Weights) -> None:
        if not self.keep and handle.note != FILL_NOTE and handle.shape:
            return
        values = handle.array()
        fill = is_fill(values)
        if not self.keep and not fill:
            return
        if tuple(values.shape) != handle.shape or values.dtype.name not in DTYPES:
            raise InputError(
                f"'{name}' holds {values.dtype.name} values of shape {list(values.shape)}; a network file takes "
                f"{', '.join(DTYPES)} of the stated shape {list(handle.shape)}"
            )
        entry: dict[str, Any] = {"dtype": values.dtype.name, "shape": list(values.shape)}
        if fill:
            entry["fill"] = _scalar(values)
        else:
            values = np.ascontiguousarray(values)
            entry["sha256"] = content_hash(values)
        entry["note"] = handle.note
        free, count = name, 1
        while free in self.entries and self.entries[free] != entry:
            count += 1
            free = f"{name}#{count}"  # other values under the same name: a weight shared before batch norms were folded
        self.entries[free] = entry
        if not fill:
            self.arrays[free] = values
        self._names[id(handle)] = free
        self._handles.append(handle)


def content_hash(values: NDArray[np.generic]) -> str:
    """Return the SHA-256 of an array's bytes, little endian in C order."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False) if values.dtype.byteorder == ">" else values
    return hashlib.sha256(np.ascontiguousarray(little).view(np.uint8).data if little.size else b"").hexdigest()


def _scalar(values: NDArray[np.generic]) -> Any:
    one = values.reshape(-1)[:1].astype(np.float64 if values.dtype.name == "bfloat16" else values.dtype)[0].item()
    return float_to_json(one) if isinstance(one, float) else one


def _check_ours(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return
    try:
        with safe_open(path, framework="numpy") as file:
            ours = (file.metadata() or {}) == SAFETENSORS_MARK
    except (SafetensorError, OSError):
        ours = False
    if not ours:
        raise InputError(
            f"{path}: exists and was not written by an export, so it is not overwritten; give the network another file name"
        )


def _write_values(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    from safetensors.numpy import save_file

    with replaced(path) as temporary:
        save_file(dict(arrays), temporary, metadata=SAFETENSORS_MARK)
