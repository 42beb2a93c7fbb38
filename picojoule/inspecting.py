"""What a file of weights, a network or a module holds, tensor by tensor: `picojoule inspect` and `pj.inspect`.

Each tensor's values are read once and dropped. A tensor is taken as [output channels, input channels, ...], as PyTorch
stores weights; in an ONNX file the first operator that reads it says how it lies. Integers packed into wider ones (GPTQ, AWQ,
bitsandbytes) are named where companion tensors tell their width, and not unpacked.

`compact_bytes` is what the values take at the bits of the format found: all elements, or, where that is less, the non-zeros and
one bit an element that says where they are; with four bytes for every step and codebook value.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.checkpoints import StoredTensor, of_tensor, stored_tensors
from picojoule.models.catalog import names as zoo_names
from picojoule.sim.compression_state import WeightState, operand_filters, weight_state
from picojoule.sim.errors import InputError, nearest
from picojoule.sim.formats import FormatKind, Granularity
from picojoule.sim.ir import Network, OperandKind
from picojoule.tables import si

if TYPE_CHECKING:
    import torch

_CHECKPOINTS = (".safetensors", ".pt", ".pth")
_SCALE_ENDINGS = ("_scale", ".scale", "_scales", ".scales", "_scale_inv", ".SCB")
_PACKED_TYPES = {"int32": 32, "uint32": 32, "uint8": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRow:
    """One tensor: what it is stored as, and what its values show (None where they are packed, or cannot be read).

    `format` is None where nothing narrower than the stored type describes the values; `distinct` where they have more than
    256 different ones off an integer grid. `elements` counts packed integers. `scale` names the tensor that whole numbers or
    8-bit floats are multiplied with, where there is one of the usual name.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    elements: int
    density: float | None
    structure: str | None
    format: str | None
    distinct: int | None
    stored_bytes: int
    compact_bytes: int
    scale: str | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The rows of a source, in its order; `notes` say what was left out."""

    name: str
    rows: tuple[TensorRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> dict[str, Any]:
        """Elements, bytes and density (of what could be read) of all tensors."""
        read = [r for r in self.rows if r.density is not None]
        elements = sum(r.elements for r in read)
        return {
            "tensors": len(self.rows),
            "elements": sum(r.elements for r in self.rows),
            "density": sum(r.elements * (r.density or 0.0) for r in read) / elements if elements else None,
            "stored_bytes": sum(r.stored_bytes for r in self.rows),
            "compact_bytes": sum(r.compact_bytes for r in self.rows),
        }

    def table(self) -> list[dict[str, str]]:
        """Return the rows as people read them: those of two axes or more, one for all others, one for the whole."""
        shown = [
            {
                "tensor": r.name,
                "shape": "x".join(str(s) for s in r.shape),
                "type": r.dtype,
                "density": _percent(r.density),
                "structure": r.structure or "-",
                "format": r.format or "-",
                "values": f"{r.distinct:,}" if r.distinct is not None else "-",
                "stored": si(r.stored_bytes, "B"),
                "compact": si(r.compact_bytes, "B"),
            }
            for r in self.rows
            if len(r.shape) > 1
        ]
        flat = replace(self, rows=tuple(r for r in self.rows if len(r.shape) < 2))
        sums = [(flat, f"{len(flat.rows)} of one axis or none")] if flat.rows else []
        sums.append((self, f"all {len(self.rows)}: {self.total['elements']:,} elements"))
        return [*shown, *(_sum_row(part.total, name) for part, name in sums)]

    def remarks(self) -> list[str]:
        """Return what no column says, one line for all tensors that it concerns."""
        names: dict[str, list[str]] = {}
        for row in self.rows:
            if row.remark:
                names.setdefault(row.remark, []).append(row.name)
        listed = [f"{', '.join(n[:3])}{f' and {len(n) - 3} more' if len(n) > 3 else ''}: {r}" for r, n in names.items()]
        return [*listed, *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        tensors = [asdict(r) | {"shape": list(r.shape)} for r in self.rows]
        return {"schema": 1, "name": self.name, "tensors": tensors, "total": self.total, "notes": list(self.notes)}


def _sum_row(total: Mapping[str, Any], name: str) -> dict[str, str]:
    blank = dict.fromkeys(("shape", "type", "density", "structure", "format", "values"), "")
    sizes = {key: si(total[f"{key}_bytes"], "B") for key in ("stored", "compact")}
    return {"tensor": name, **blank, "density": _percent(total["density"]), **sizes}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}" if share < 0.9995 or share == 1 else ">99.9%"


def inspect(source: "str | Path | Network | torch.nn.Module") -> Inspection:
    """Return what every tensor of a source shows: density, structure of its zeros, number format, bytes.

    Args:
        source: a .safetensors, .pt, .pth, .onnx, .pt2 or exported .json file, a zoo name, `file.py:callable`, a network or a
            torch module.

    Raises:
        InputError: if the file is missing, torn, or of another kind.

    """
    if isinstance(source, Network):
        return _of_network(source)
    if not isinstance(source, str | Path):
        return _of_module(source)
    from picojoule.networks import is_torch, load_torch

    text, suffix = str(source), Path(source).suffix.lower()
    if is_torch(text):
        made = load_torch(text)
        return replace(_of_module(made.module), name=made.name)
    if suffix in _CHECKPOINTS:
        held = stored_tensors(Path(text))
        notes = (f"left out: {', '.join(held.left_out)}",) if held.left_out else ()
        return Inspection(name=Path(text).name, rows=tuple(_rows(held.tensors)), notes=notes)
    if suffix == ".onnx":
        return _of_onnx(Path(text))
    if suffix in (".pt2", ".json"):
        from picojoule.networks import load_network

        return replace(_of_network(load_network(text, find=False)), name=Path(text).name)
    hint = nearest(text, list(zoo_names())) or "."
    raise InputError(
        f"'{text}' is no file of weights{hint} Give {', '.join(_CHECKPOINTS)}, .onnx, .pt2 or .json, a zoo name or "
        "file.py:callable"
    )


# --- sources ------------------------------------------------------------------------------------------------------------


def _of_module(module: "torch.nn.Module") -> Inspection:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise InputError(f"pj.inspect takes a path, a network or a torch module, got {type(module).__name__}")
    tensors = [of_tensor(k, v) for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)]
    return Inspection(name=type(module).__name__, rows=tuple(_rows(tensors)))


def _of_network(network: Network) -> Inspection:
    rows: dict[str, TensorRow] = {}
    for layer in network.layers:
        for operand in layer.operands:
            if operand.kind is OperandKind.ACTIVATION or operand.name in rows:
                continue
            values = operand.weights.array() if operand.weights is not None else None
            stored = StoredTensor(
                name=operand.name,
                shape=operand.shape,
                dtype=str(values.dtype) if values is not None else "none",
                stored_bytes=values.nbytes if values is not None else 0,
                load=None,
            )
            if values is None:
                rows[operand.name] = _unread(stored, "no values")
            else:
                rows[operand.name] = _row(stored, weight_state(operand_filters(layer, operand, values)))
    return Inspection(name=network.name, rows=tuple(rows.values()))


def _of_onnx(path: Path) -> Inspection:
    """Return the rows of initialisers and Constant nodes of the main graph."""
    from picojoule.sim.importers.onnx_file import read_model, tensor_weights

    graph = read_model(path).graph
    held = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            held.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    readers: dict[str, tuple[Any, int]] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            readers.setdefault(name, (node, position))
    rows = []
    for name, tensor in held.items():
        handle, dtype = tensor_weights(tensor, path.parent, path.name)
        size = dtype.itemsize * handle.elements if not tensor.HasField("raw_data") else len(tensor.raw_data)
        kind = _onnx_type(tensor.data_type)
        stored = StoredTensor(name=name, shape=handle.shape, dtype=kind, stored_bytes=size, load=handle.array)
        node, position = readers.get(name, (None, 0))
        if dtype.kind in "OUS":
            rows.append(_unread(stored, "text"))
        else:
            rows.append(_row(stored, weight_state(_onnx_filters(handle.array(), node, position))))
    return Inspection(name=path.name, rows=tuple(rows))


def _onnx_type(data_type: int) -> str:
    import onnx

    name = str(onnx.TensorProto.DataType.Name(data_type)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _onnx_filters(values: NDArray[np.generic], node: Any, position: int) -> NDArray[np.generic]:
    """Return a tensor with its output channels first, as the operator that reads it says."""
    if node is None or position != 1 or values.ndim < 2:
        return values
    flags = {a.name: a.i for a in node.attribute}
    if node.op_type in ("MatMul", "MatMulInteger") or (node.op_type == "Gemm" and not flags.get("transB", 0)):
        return np.moveaxis(values, (-1, -2), (0, 1))
    if node.op_type == "ConvTranspose" and flags.get("group", 1) == 1:
        return values.swapaxes(0, 1)
    return values


# --- rows ---------------------------------------------------------------------------------------------------------------


def _rows(tensors: Iterable[StoredTensor]) -> Iterator[TensorRow]:
    known = {t.name: t for t in tensors}
    for tensor in known.values():
        packed = _packed(tensor, known)
        if packed is not None:
            yield packed
        elif tensor.load is None:
            yield _unread(tensor, tensor.unread)
        else:
            companion = _scale_of(tensor, known)
            yield replace(_row(tensor, weight_state(tensor.load())), scale=companion.name if companion else None)


def _scale_of(tensor: StoredTensor, known: Mapping[str, StoredTensor]) -> StoredTensor | None:
    """Return the tensor that holds the scale of whole numbers or 8-bit floats, by its name."""
    if tensor.dtype not in ("int8", "uint8", "int16", "float8_e4m3fn", "float8_e5m2"):
        return None
    stem = tensor.name.rpartition(".")[0]
    return next((known[n] for n in (b + e for b in (tensor.name, stem) for e in _SCALE_ENDINGS) if n in known), None)


def _packed(tensor: StoredTensor, known: Mapping[str, StoredTensor]) -> TensorRow | None:
    """Return the row of integers packed into wider ones, if its companions say that it is one."""
    width = _PACKED_TYPES.get(tensor.dtype)
    if width is None or len(tensor.shape) < 2:
        return None
    stem, _, leaf = tensor.name.rpartition(".")
    marks = [n for n in known if n.startswith(f"{tensor.name}.quant_state.bitsandbytes__")]
    if marks:
        return _packed_row(tensor, width, 4, f"bitsandbytes {marks[0].rpartition('__')[2]}, two a byte")
    scales, zeros = known.get(f"{stem}.scales"), known.get(f"{stem}.qzeros")
    if leaf not in ("qweight", "qzeros", "weight") or scales is None or width != 32 or len(scales.shape) != 2:
        return None
    if zeros is None or len(zeros.shape) != 2 or not scales.shape[1]:
        return _packed_row(tensor, width, None, "packed integers; no companion tells their width")
    bits, rest = divmod(width * zeros.shape[1], scales.shape[1])
    if rest or not 1 <= bits <= 8:
        return _packed_row(tensor, width, None, "packed integers; its companions do not tell their width")
    return replace(_packed_row(tensor, width, bits, f"{bits}-bit integers packed in {tensor.dtype}"), scale=scales.name)


def _packed_row(tensor: StoredTensor, width: int, bits: int | None, remark: str) -> TensorRow:
    elements = prod(tensor.shape) * width // (bits or width)
    return replace(_unread(tensor, remark), elements=elements, format=f"packed {bits}-bit" if bits else "packed")


def _unread(tensor: StoredTensor, remark: str) -> TensorRow:
    return TensorRow(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        elements=prod(tensor.shape),
        density=None,
        structure=None,
        format=None,
        distinct=None,
        stored_bytes=tensor.stored_bytes,
        compact_bytes=tensor.stored_bytes,
        remark=remark,
    )


def _row(tensor: StoredTensor, state: WeightState) -> TensorRow:
    form, shown = state.format, state.evidence
    if form is not None and form == state.integer:  # columns say most of it
        shown = shown.partition(" (")[2].partition(")")[0]
    if form is not None and "float" in tensor.dtype and form.bits * state.elements >= 8 * tensor.stored_bytes:
        form, shown = None, ""  # no narrower than it is stored
    per_channel = form is not None and form.per is Granularity.CHANNEL
    return TensorRow(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        elements=prod(tensor.shape),
        density=state.density,
        structure=str(state.sparsity),
        format=None if form is None else f"{form} per channel" if per_channel else str(form),
        distinct=state.distinct,
        stored_bytes=tensor.stored_bytes,
        compact_bytes=_compact_bytes(tensor, state),
        remark=shown,
    )


def _compact_bytes(tensor: StoredTensor, state: WeightState) -> int:
    elements = state.elements
    if not elements:
        return 0
    bits = state.format.stored_bits if state.format else 8 * tensor.stored_bytes / elements
    dense, sparse = elements * bits, round(elements * state.density) * bits + elements
    table = 0
    if state.format is not None:
        book = state.format.kind is FormatKind.CODEBOOK
        table = state.distinct or 0 if book else len(state.step or ()) if state.format == state.integer else 1
    return min(tensor.stored_bytes, ceil(min(dense, sparse) / 8) + 4 * table)
