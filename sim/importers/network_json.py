"""Reads the JSON that `exporters.network_json` writes, and trusts nothing in it: the file may come from anybody.

Sizes, types, keys, names, shapes (inferred again, layer by layer) and the place of the weights are checked here, before
anything is priced; a tensor's hash when its values are first asked for. Weights stay in their file until then.
"""

import json
import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim import attributes as at
from picojoule.sim.dataclass_json import Leaves, check_object, decode, decode_fields, short, shown
from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.exporters.network_json import DTYPES, KIND, SCHEMA, content_hash
from picojoule.sim.files import read_bounded
from picojoule.sim.importers.network_checks import check_layer, check_type
from picojoule.sim.ir import Layer, Network, Result, Unsupported, check_network
from picojoule.sim.weights import Weights

LARGEST_FILE_BYTES = 32 * 1024**2
"""Ten times what the largest published graphs need; parsed JSON takes about thirty bytes for one."""
LARGEST_LAYERS = 100_000
LARGEST_FILL = 2**31
"""Elements of a tensor stated by one value: it costs the file nothing, but whoever computes with it allocates it."""

_KEYS = {
    "schema": int, "kind": str, "name": str, "weights": str, "weights_file": str | None, "original_parameters": int | None,
    "notes": tuple[str, ...], "unsupported": tuple[Unsupported, ...], "inputs": tuple[Result, ...],
    "outputs": tuple[str, ...], "tensors": dict, "layers": list,
}  # fmt: skip
_OPTIONAL = {"weights_file", "original_parameters", "notes", "unsupported", "tensors"}
_TENSOR_KEYS = ("dtype", "shape", "sha256", "fill", "note")


def class_of_op(op: at.Op) -> type[Any]:
    """Return the attributes' class of an operator: they are named alike (`deform_conv`: `DeformConvAttributes`)."""
    name = "".join(part.capitalize() for part in op.value.split("_")) + "Attributes"
    found: type[Any] = getattr(at, name)
    return found


def load_network_json(path: Path) -> Network:
    """Return the network in a JSON file; weights are read from the .safetensors file beside it when asked for.

    Raises:
        InputError: naming the file and the dotted path of what is wrong.

    """
    path = Path(path)
    plain = _parse(path)
    try:
        return _network(plain, path)
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply for a network") from None


def _parse(path: Path) -> dict[str, Any]:
    data = read_bounded(path, LARGEST_FILE_BYTES, f"a network as JSON, made by `picojoule export -o {path.name}`")
    try:
        plain = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; a network as JSON was expected") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply for a network") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}:{error.colno}: not JSON ({error.msg})") from None
    except ValueError as error:  # numbers of thousands of digits, and what the two functions below refuse
        raise InputError(f"{path}: not JSON of a network ({error})") from None
    if not isinstance(plain, dict) or plain.get("kind") != KIND:
        what = f"kind {shown(plain['kind'])}" if isinstance(plain, dict) and "kind" in plain else "no 'kind'"
        raise InputError(f'{path}: is no network: it has {what} where "kind": "{KIND}" is expected')
    return plain


def _no_constant(text: str) -> Any:
    raise ValueError(f'{text} is no JSON number; write it as the text "{text}"')


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the key '{short(next(n for n in names if names.count(n) > 1))}' appears twice in one object")
    return made


def _network(plain: dict[str, Any], path: Path) -> Network:
    where = str(path)
    if plain.get("schema") != SCHEMA:
        came = shown(plain.get("schema"))
        raise InputError(f"{where}: schema must be {SCHEMA}, got {came}; a newer picojoule may have written this file")
    check_object(plain, where, _KEYS, required=[k for k in _KEYS if k not in _OPTIONAL])
    leaves: Leaves = {Weights: lambda value, at_: _handle(value, at_, tensors)}
    tensors: dict[str, Weights] = {}
    values = {
        key: decode(kind, plain[key], f"{where}: {key}", {}) for key, kind in _KEYS.items()
        if kind not in (dict, list) and key in plain
    }  # fmt: skip
    tensors.update(_tensors(plain.get("tensors", {}), path, values.get("weights_file")))
    listed = plain["layers"]
    if not isinstance(listed, list) or len(listed) > LARGEST_LAYERS:
        raise InputError(f"{where}: layers must be a list of at most {LARGEST_LAYERS} layers, got {shown(listed)}")
    for result in values["inputs"]:
        check_type(result.type, result.format, f"{where}: input '{result.name}'")
    layers = tuple(_layer(item, f"{where}: layers[{i}]", leaves) for i, item in enumerate(listed))
    for key in ("schema", "kind", "weights_file"):
        values.pop(key, None)
    count = values.get("original_parameters")
    if count is not None and count < 0:
        raise InputError(f"{where}: original_parameters must not be negative, got {count}")
    if len({r.name for r in values["inputs"]}) < len(values["inputs"]):
        raise InputError(f"{where}: inputs: two inputs have the same name")
    network = Network(**values, layers=layers)
    try:
        check_network(network)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return network


def _layer(plain: Any, where: str, leaves: Leaves) -> Layer:
    if not isinstance(plain, dict) or "op" not in plain:
        raise InputError(f"{where}: must be an object with an 'op', got {shown(plain)}")
    op = decode(at.Op, plain["op"], f"{where}.op", leaves)
    attributes = decode(class_of_op(op), plain.get("attributes", {}), f"{where}.attributes", leaves)
    made: Layer = decode_fields(Layer, plain, where, leaves, {"op": op, "attributes": attributes})
    check_layer(made, f"{where} ('{short(made.name)}')")
    return made


def _handle(plain: Any, where: str, tensors: Mapping[str, Weights]) -> Weights:
    if not isinstance(plain, str):
        raise InputError(f"{where}: must be the name of a tensor, got {shown(plain)}")
    if plain not in tensors:
        raise InputError(f"{where}: {unknown_choice('tensor', short(plain), list(tensors)[:20])}")
    return tensors[plain]


# --- tensors --------------------------------------------------------------------------------------------------------------


def _tensors(plain: Any, path: Path, weights_file: str | None) -> dict[str, Weights]:
    where = f"{path}: tensors"
    if not isinstance(plain, dict):
        raise InputError(f"{where}: must be an object, got {shown(plain)}")
    file = _File(path, weights_file) if any(isinstance(e, dict) and "fill" not in e for e in plain.values()) else None
    return {name: _tensor(name, entry, f"{where}.{short(name)}", file) for name, entry in plain.items()}


def _tensor(name: str, entry: Any, where: str, file: "_File | None") -> Weights:
    check_object(entry, where, dict.fromkeys(_TENSOR_KEYS), required=["dtype", "shape"])
    dtype = decode(str, entry["dtype"], f"{where}.dtype", {})
    if dtype not in DTYPES:
        raise InputError(f"{where}.dtype: {unknown_choice('element type', short(dtype), DTYPES)}")
    shape = decode(tuple[int, ...], entry["shape"], f"{where}.shape", {})
    if any(s < 0 for s in shape) or len(shape) > 32:
        raise InputError(f"{where}.shape: must be at most 32 sizes of at least 0, got {list(shape)[:40]}")
    note = decode(str, entry.get("note", "file"), f"{where}.note", {})
    if "fill" in entry:
        return _filled(entry["fill"], shape, dtype, note, where)
    sha256 = decode(str, entry.get("sha256", ""), f"{where}.sha256", {})
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InputError(f"{where}.sha256: must be 64 hexadecimal digits, got {shown(sha256)}")
    assert file is not None
    return Weights(shape=shape, load=file.loader(name, shape, dtype, sha256, where), note=note)


def _filled(fill: Any, shape: tuple[int, ...], dtype: str, note: str, where: str) -> Weights:
    if prod(shape) > LARGEST_FILL:
        raise InputError(f"{where}: a tensor of one value may have {LARGEST_FILL} elements, got {list(shape)}")
    kind = _numpy_type(dtype)
    value = decode(bool | int | float, fill, f"{where}.fill", {})
    fits = {"b": bool, "i": int, "u": int}.get(kind.kind, float)
    if not isinstance(value, fits):
        raise InputError(f"{where}.fill: must be a value of {dtype}, got {shown(fill)}")
    try:
        with np.errstate(all="ignore"):
            one = np.array(value, dtype=kind)
    except OverflowError:
        raise InputError(f"{where}.fill: {value} does not fit {dtype}") from None
    return Weights(shape=shape, load=lambda: np.broadcast_to(one, shape), note=note)


def _numpy_type(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    made: np.dtype[Any] = np.dtype(name)
    return made


_SAFETENSORS_NAMES = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
}  # fmt: skip


class _File:
    """The safetensors file beside the JSON, mapped into memory; its header is checked when it is opened."""

    def __init__(self, path: Path, name: str | None) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = _beside(path, name)
        try:
            opened: Any = safe_open(self.path, framework="numpy")
            self._open, self._names = opened, set(opened.keys())
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{self.path}: torn, or no safetensors file ({error}); export the network again") from None

    def loader(
        self, name: str, shape: tuple[int, ...], dtype: str, sha256: str, where: str
    ) -> Callable[[], NDArray[np.generic]]:
        """Return what reads one tensor and, the first time, compares its hash."""
        if name not in self._names:
            raise InputError(f"{where}: '{self.path.name}' holds no tensor of that name; export the network again")
        found = self._open.get_slice(name)
        if tuple(found.get_shape()) != shape or found.get_dtype() != _SAFETENSORS_NAMES[dtype]:
            raise InputError(
                f"{where}: is {dtype} {list(shape)} here, but {found.get_dtype()} {found.get_shape()} in "
                f"'{self.path.name}'; the two files do not belong together"
            )
        seen: list[bool] = []

        def load() -> NDArray[np.generic]:
            values: NDArray[np.generic] = self._open.get_tensor(name)
            if not seen:
                if content_hash(values) != sha256:
                    raise InputError(
                        f"{where}: its values in '{self.path.name}' are not those that were exported (their hash differs); "
                        "the two files do not belong together"
                    )
                seen.append(True)
            return values

        return load


def _beside(path: Path, name: str | None) -> Path:
    where = f"{path}: weights_file"
    if name is None:
        raise InputError(f"{where}: is missing, but tensors have values; name the .safetensors file beside this one")
    plain = len(PurePosixPath(name).parts) == 1 and len(PureWindowsPath(name).parts) == 1 and "\0" not in name
    if not plain or name in (".", "..") or not name.endswith(".safetensors"):
        raise InputError(
            f"{where}: must be the plain name of a .safetensors file in the same folder, got '{short(name)}'"
        )
    target = path.parent / name
    if target.resolve().parent != path.parent.resolve():
        raise InputError(
            f"{where}: '{short(name)}' is a link out of the folder of '{path.name}', which is not followed"
        )
    if not target.is_file():
        raise InputError(f"{where}: '{short(name)}' is missing; put it beside '{path.name}'")
    return target
