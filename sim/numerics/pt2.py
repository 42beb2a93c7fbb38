"""Reads `.pt2` archives of `torch.export.save`, after `pt2_checks` has looked at every record."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import fx

from picojoule.sim.errors import InputError, PicojouleError, UnsupportedError
from picojoule.sim.files import read_bounded
from picojoule.sim.ir import Network
from picojoule.sim.numerics.pt2_checks import checked_archive
from picojoule.sim.numerics.torch_importer import from_program

_MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError, RuntimeError)
_LIMIT_BYTES = 4 << 30
_FREE_ELEMENTS = 1 << 24
"""Elements that may be computed from weights however few the file holds: masks, position codes."""
_INTEGERS = (
    torch.bool,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)


def load_pt2(path: Path) -> Network:
    """Return the network in a `.pt2` archive.

    Raises:
        InputError: if the file is missing, torn, no such archive, or holds something that could run code.

    """
    from picojoule.sim.numerics import deform_op  # noqa: F401  (registers the operator that such a file may call)

    data = read_bounded(path, _LIMIT_BYTES, "a torch.export archive (.pt2)")
    try:
        program = torch.export.load(checked_archive(path, data))
    except InputError:
        raise
    except Exception as error:  # torch raises many kinds for a torn archive
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a readable torch.export archive: {first}") from None
    stored = _check_stored(path, program)
    _check_computed(path, program, max(stored, _FREE_ELEMENTS))
    try:
        return from_program(program, name=path.stem)
    except PicojouleError as error:
        if path.stem in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
    except _MALFORMED as error:  # arguments of the wrong kind or number: the loader lets them through
        raise InputError(
            f"{path}: the program is damaged ({type(error).__name__}: {error}); export it again"
        ) from error


def _check_stored(path: Path, program: torch.export.ExportedProgram) -> int:
    """Refuse weights that claim more elements than the archive holds: a stride of zero makes terabytes of four bytes.

    Returns the number of elements of all weights and constants.
    """
    total = 0
    for name, value in (*program.state_dict.items(), *program.constants.items()):
        if isinstance(value, torch.Tensor) and not value.is_meta:
            if value.layout is not torch.strided or not (value.dtype.is_floating_point or value.dtype in _INTEGERS):
                raise UnsupportedError(f"{path}: tensor '{name}' is {value.layout} of {value.dtype}, which is not read")
            held = value.untyped_storage().nbytes() // max(1, value.element_size())
            if math.prod(value.shape) > held:
                raise InputError(f"{path}: tensor '{name}' of {list(value.shape)} has only {held} elements in the file")
            total += held
    return total


@torch.no_grad()
def _check_computed(path: Path, program: torch.export.ExportedProgram, largest: int) -> None:
    """Refuse values that depend on weights only and are far larger: they would be computed when the network is read.

    The calls are made on torch's meta device, which has shapes and no memory; the shapes that the file states may lie.
    """
    meta: dict[fx.Node, Any] = {}
    targets = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    targets |= program.graph_signature.inputs_to_lifted_tensor_constants
    held = program.state_dict | program.constants
    for node in program.graph.nodes:
        if node.op == "placeholder" and isinstance(value := held.get(targets.get(node.name, "")), torch.Tensor):
            meta[node] = value.to("meta")
        if node.op != "call_function" or any(n not in meta for n in node.all_input_nodes):
            continue
        kwargs = {key: "meta" if key == "device" else value for key, value in node.kwargs.items()}
        try:
            with torch.device("meta"):
                made = node.target(*fx.node.map_arg(node.args, meta.get), **fx.node.map_arg(kwargs, meta.get))
        except Exception:  # whatever is wrong with this call is said, or allowed, where the program is read
            continue
        meta[node] = made
        parts = made if isinstance(made, list | tuple) else [made]
        if any(isinstance(part, torch.Tensor) and part.numel() > largest for part in parts):
            raise InputError(
                f"{path}: '{node.name}' makes {parts[0].numel()} elements from weights alone, far more than the file holds; "
                "refused"
            )
