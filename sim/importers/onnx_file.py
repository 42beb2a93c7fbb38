"""Reads an ONNX file within bounds: its size, its tensors, and where its external weights may lie.

Nothing of a tensor but its shape is touched here; values are loaded through `Weights` handles when somebody asks.
The format: ONNX IR specification (onnx/docs/IR.md, ExternalData.md).
"""

from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.formats import NumberFormat, parse_format
from picojoule.sim.importers.onnx_functions import inlined
from picojoule.sim.importers.onnx_wire import DecodeError, parse_model
from picojoule.sim.weights import Weights

LARGEST_FILE_BYTES = 2 * 1024**3
"""Protobuf's own limit on one message (protobuf.dev, encoding: 2 GiB)."""
LARGEST_NODES = 200_000
"""Nodes of a graph; the largest published ones have tens of thousands. More is a generated or damaged file."""
LARGEST_ELEMENTS = 2**40
"""Elements of one tensor: beyond this no machine could load it."""
LARGEST_RANK = 32
"""Axes of one tensor: what every numpy can hold."""
OLDEST_OPSET = 7
"""Opset 7 gave element-wise operators numpy's broadcasting; what came before means something else."""


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
        model = parse_model(path)
    except DecodeError:
        raise InputError(
            f"{path}: this is no ONNX model or a torn one (protobuf cannot decode it); export it again"
        ) from None
    if not model.opset_import or not model.graph.node:
        missing = "operators" if model.opset_import else "operator set"
        raise InputError(f"{path}: this is no ONNX model or a torn one (it holds no {missing}); export it again")
    _check_places(model, path)
    model = inlined(model, path)
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


def _check_places(model: Any, path: Path) -> None:
    """Refuse external data outside the model's folder wherever a tensor stands: others than we may read the file too."""
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        tensors = [*getattr(graph, "initializer", ())]
        for node in graph.node:
            for attribute in node.attribute:
                tensors += [t for t in (attribute.t, *attribute.tensors) if t.data_location]
                graphs += [g for g in (attribute.g, *attribute.graphs) if g.node or g.initializer]
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                _external_bytes(tensor, path.parent, f"{path.name}: tensor '{tensor.name}'", None)


def default_opset(model: Any) -> int:
    """Return the version of the standard operator set (the oldest readable one where only others are imported)."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), OLDEST_OPSET)


def numpy_dtype(data_type: int, where: str) -> np.dtype[Any]:
    """Return the numpy type of an ONNX element type.

    Raises:
        InputError: for a number that is no element type.
        UnsupportedError: for complex numbers.

    """
    try:
        dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type))
    except (KeyError, TypeError):
        raise InputError(f"{where}: {data_type} is no ONNX element type; the file is damaged") from None
    if dtype.kind == "c":
        raise UnsupportedError(f"{where}: complex numbers are not read; store real and imaginary parts apart")
    return dtype


_FORMATS = {
    "INT2": "int2",
    "UINT2": "uint2",
    "INT4": "int4",
    "UINT4": "uint4",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "UINT16": "uint16",
    "FLOAT8E4M3FN": "fp8_e4m3",
    "FLOAT8E4M3FNUZ": "fp8_e4m3",
    "FLOAT8E5M2": "fp8_e5m2",
    "FLOAT8E5M2FNUZ": "fp8_e5m2",
    "FLOAT4E2M1": "fp4_e2m1",
}
"""Element types that only quantisation uses, as number formats."""
_PACKED_BITS = {"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4}


def tensor_format(data_type: int) -> NumberFormat | None:
    """Return the number format of a narrow element type; None for those that say nothing about quantisation."""
    name = _type_name(data_type)
    return parse_format(_FORMATS[name]) if name in _FORMATS else None


def _type_name(data_type: int) -> str:
    try:
        return str(onnx.TensorProto.DataType.Name(data_type))
    except ValueError:
        return ""


def tensor_weights(tensor: Any, folder: Path, where: str) -> tuple[Weights, np.dtype[Any]]:
    """Return a handle on a TensorProto's values and their numpy type.

    Floats below 32 bits load as float32, integers below 8 bits as bytes.

    Raises:
        InputError: if its sizes do not fit its data, or its external file lies outside `folder` or is too short.

    """
    where = f"{where}: tensor '{tensor.name}'"
    shape = tuple(int(d) for d in tensor.dims)
    check_shape(shape, where)
    dtype = numpy_dtype(tensor.data_type, where)
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    packed = _PACKED_BITS.get(_type_name(tensor.data_type), 0) if dtype.isbuiltin != 1 else 0
    whole_bytes = dtype.isbuiltin == 1 and dtype.kind in "biuf"
    expected = prod(shape) * dtype.itemsize
    checked = -(-prod(shape) * packed // 8) if packed else expected if whole_bytes else None
    if external:
        _external_bytes(tensor, folder, where, checked)
    else:
        _check_inline(tensor, prod(shape), expected if checked is None else checked, where)

    plain = _plain(dtype, _type_name(tensor.data_type))

    def load() -> NDArray[np.generic]:
        try:
            values = _external_array(tensor, folder, where, checked) if external else numpy_helper.to_array(tensor)
            values = np.asarray(values).reshape(shape)
            return values if values.dtype == plain else values.astype(plain)
        except InputError:
            raise
        except MemoryError:
            raise InputError(f"{where} of shape {list(shape)} needs more memory than there is") from None
        except (ValueError, TypeError, LookupError) as error:  # rare element types, which only the library unpacks
            raise InputError(f"{where} cannot be read ({error}); the file is damaged") from None

    return Weights(shape=shape, load=load), plain


def _plain(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return the numpy type in which values of an element type are computed."""
    if name in ("INT2", "INT4"):
        return np.dtype(np.int8)
    if name in ("UINT2", "UINT4"):
        return np.dtype(np.uint8)
    narrow = dtype.isbuiltin != 1 or (dtype.kind == "f" and dtype.itemsize < 4)
    return np.dtype(np.float32) if narrow else dtype


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Refuse sizes that no tensor has.

    Raises:
        InputError: if one is negative, there are too many of them, or too many elements.

    """
    if any(d < 0 for d in shape) or len(shape) > LARGEST_RANK or prod(shape) > LARGEST_ELEMENTS:
        raise InputError(f"{where} has the impossible shape {list(shape)}; the file is damaged")


def _check_inline(tensor: Any, elements: int, expected_bytes: int, where: str) -> None:
    """Refuse a tensor whose values in the file are not as many as its shape says, or in another type's field."""
    name = _type_name(tensor.data_type)
    if name.startswith("FLOAT6"):  # how these are packed is the library's matter
        return
    if tensor.HasField("raw_data") and name != "STRING":
        found, needed, unit = len(tensor.raw_data), expected_bytes, "bytes"
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        parts = 2 if name.startswith("COMPLEX") else 1
        needed = -(-elements * parts * _PACKED_BITS.get(name, 8) // 8)
        found, unit = len(getattr(tensor, field)), "values"
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
    try:
        target = (folder / location).resolve()
        inside, size = target.is_relative_to(folder.resolve()), target.stat().st_size if target.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a link to itself, a name too long, a null character in it
        raise InputError(
            f"{where} is stored in '{location}', which is no file; put that file beside the model"
        ) from None
    if not inside:
        raise InputError(f"{where} is stored in '{location}', a link out of the model's folder, which is not followed")
    if size is None:
        raise InputError(f"{where} is stored in '{location}', which is missing; put that file beside the model")
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
