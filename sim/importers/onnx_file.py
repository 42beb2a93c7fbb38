"""Reads an ONNX file within bounds: its size, its tensors, and where its external weights may lie.

Nothing of a tensor but its shape is touched here; values are loaded through `Weights` handles when somebody asks.
The format: ONNX IR specification (onnx/docs/IR.md, ExternalData.md).
"""

import importlib
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.weights import Weights

LARGEST_FILE_BYTES = 2 * 1024**3
"""Protobuf's own limit on one message (protobuf.dev, encoding: 2 GiB)."""
LARGEST_NODES = 200_000
"""Nodes of a graph; the largest published ones have tens of thousands. More is a generated or damaged file."""
LARGEST_ELEMENTS = 2**40
"""Elements of one tensor: beyond this no machine could load it."""
OLDEST_OPSET = 7
"""Opset 7 gave element-wise operators numpy's broadcasting; what came before means something else."""
_DECODE_ERROR: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError


def read_model(path: Path) -> Any:
    """Return the parsed `onnx.ModelProto` of `path`, external data left where they are.

    Raises:
        InputError: if the file is missing, empty, too large, torn or not ONNX.
        UnsupportedError: for operator sets before 7.

    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of an ONNX model")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path}: the file is empty; an ONNX model was expected")
    if size > LARGEST_FILE_BYTES:
        raise InputError(
            f"{path}: an ONNX file holds at most 2 GiB, got {size} bytes; store its weights as external data"
        )
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except _DECODE_ERROR:
        raise InputError(
            f"{path}: this is no ONNX model or a torn one (protobuf cannot decode it); export it again"
        ) from None
    if not model.opset_import or not model.graph.node:
        missing = "operators" if model.opset_import else "operator set"
        raise InputError(f"{path}: this is no ONNX model or a torn one (it holds no {missing}); export it again")
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    if len(model.graph.node) > LARGEST_NODES:
        raise InputError(f"{path}: a graph may have {LARGEST_NODES} nodes, got {len(model.graph.node)}")
    if model.graph.sparse_initializer:
        name = model.graph.sparse_initializer[0].values.name
        raise UnsupportedError(f"{path}: initializer '{name}' is stored sparse, which is not read; save it dense")
    opset = default_opset(model)
    if opset < OLDEST_OPSET:
        raise UnsupportedError(
            f"{path}: opset {opset} is older than {OLDEST_OPSET}; convert it with onnx.version_converter"
        )
    return model


def default_opset(model: Any) -> int:
    """Return the version of the standard operator set (the oldest readable one where only others are imported)."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), OLDEST_OPSET)


def numpy_dtype(data_type: int, where: str) -> np.dtype[Any]:
    """Return the numpy type of an ONNX element type.

    Raises:
        InputError: for a number that is no element type.

    """
    try:
        dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except (KeyError, TypeError):
        raise InputError(f"{where}: {data_type} is no ONNX element type; the file is damaged") from None
    return dtype


def tensor_weights(tensor: Any, folder: Path, where: str) -> tuple[Weights, np.dtype[Any]]:
    """Return a handle on a TensorProto's values and their numpy type (floats below 32 bits load as float32).

    Raises:
        InputError: if its sizes do not fit its data, or its external file lies outside `folder` or is too short.

    """
    where = f"{where}: tensor '{tensor.name}'"
    shape = tuple(int(d) for d in tensor.dims)
    if any(d < 0 for d in shape) or prod(shape) > LARGEST_ELEMENTS:
        raise InputError(f"{where} has the impossible shape {list(shape)}; the file is damaged")
    dtype = numpy_dtype(tensor.data_type, where)
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    whole_bytes = dtype.isbuiltin == 1 and dtype.kind in "biuf"
    expected = prod(shape) * dtype.itemsize
    checked = expected if whole_bytes else None
    if external:
        _external_bytes(tensor, folder, where, checked)
    elif whole_bytes:
        _check_inline(tensor, prod(shape), expected, where)

    narrow = dtype.isbuiltin != 1 or (dtype.kind == "f" and dtype.itemsize < 4)
    plain = np.dtype(np.float32) if narrow else dtype

    def load() -> NDArray[np.generic]:
        values = _external_array(tensor, folder, where, checked) if external else numpy_helper.to_array(tensor)
        values = np.asarray(values).reshape(shape)
        return values if values.dtype == plain else values.astype(plain)

    return Weights(shape=shape, load=load), plain


def _check_inline(tensor: Any, elements: int, expected_bytes: int, where: str) -> None:
    if tensor.HasField("raw_data"):
        found, needed, unit = len(tensor.raw_data), expected_bytes, "bytes"
    else:
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        found, needed, unit = max(len(f) for f in fields), elements, "values"
    if found != needed:
        raise InputError(f"{where} of shape {list(tensor.dims)} needs {needed} {unit}, the file holds {found}")


def _external_bytes(tensor: Any, folder: Path, where: str, expected: int | None) -> tuple[Path, int, int]:
    """Return the file, offset and length of external data after checking that they exist inside `folder`."""
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    if (
        not location
        or PurePosixPath(location).is_absolute()
        or PureWindowsPath(location).anchor
        or ".." in PureWindowsPath(location).parts
    ):
        raise InputError(
            f"{where} is stored in '{location}'; external data must be named relative to the model's folder"
        )
    target = (folder / location).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise InputError(f"{where} is stored in '{location}', a link out of the model's folder, which is not followed")
    if not target.is_file():
        raise InputError(f"{where} is stored in '{location}', which is missing; put that file beside the model")
    size = target.stat().st_size
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(size - offset if expected is None else expected)))
    except ValueError:
        raise InputError(f"{where}: offset and length of external data must be whole numbers") from None
    if offset < 0 or length < 0 or offset + length > size or (expected is not None and length != expected):
        needed = length if expected is None else expected
        raise InputError(f"{where} needs {needed} bytes at {offset} of '{location}', which has {size}; it is torn")
    return target, offset, length


def _external_array(tensor: Any, folder: Path, where: str, expected: int | None) -> NDArray[np.generic]:
    target, offset, length = _external_bytes(tensor, folder, where, expected)  # again: files change
    inline = onnx.TensorProto()
    inline.dims.extend(tensor.dims)
    inline.data_type = tensor.data_type
    inline.raw_data = np.fromfile(target, dtype=np.uint8, count=length, offset=offset).tobytes()
    return np.asarray(numpy_helper.to_array(inline))
