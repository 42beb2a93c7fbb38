"""Writes the multiply-accumulate layers of a network as a SCALE-Sim topology CSV, one sample each.

Every row has exactly the layer's multiply-accumulates. SCALE-Sim's ifmap includes padding and its last window may hang over
the edge, so the ifmap written is what the windows cover, (out - 1) stride + filter: rows and columns that no window reaches
are left out, and a dilated filter is written with its taps side by side. A convolution that a row cannot say (three axes,
uneven strides, transposed) and products beside convolutions are written as M x 1 ifmaps with 1 x 1 filters over K channels, which
is the same matrix product. Depthwise layers are one row with "DP" in the name, SCALE-Sim's mark for them; other
groups, and the products of a batched product, are a row each; so are the steps of a recurrent layer, which wait for
each other. A network without convolutions is written in GEMM form (M, N, K). What a topology cannot say at all (other
operators, formats, weights, scattered zeros) is named in the notes. Format: see `importers.scalesim_csv`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picojoule.sim.attributes import MAC_OPS, ConvAttributes, DeformConvAttributes, Op
from picojoule.sim.errors import InputError
from picojoule.sim.exporters.written import Written
from picojoule.sim.files import write_atomic
from picojoule.sim.formats import DENSE, Sparsity, Structure
from picojoule.sim.gemm import Gemm, gemm_view
from picojoule.sim.importers.scalesim_csv import LARGEST_ROWS, LARGEST_SIZE
from picojoule.sim.ir import Layer, Network

_CONV_HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"
_GEMM_HEADER = "Layer, M, N, K,"
_DEPTHWISE = "DP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """What a layer becomes: the sizes of its row, how often it is repeated, and the remark it needs (or "")."""

    name: str
    sizes: tuple[int, ...]
    sparsity: str = ""
    count: int = 1
    remark: str = ""


def write_topology(network: Network, path: Path) -> Written:
    """Write `path` and return it with one note for each kind of thing that the rows do not say.

    Raises:
        InputError: if there is no multiply-accumulate layer, a size is beyond 32 bits, or the file cannot be written.

    """
    layers = [layer for layer in network.layers if layer.op in MAC_OPS]
    if not layers:
        raise InputError(f"{network.name} has no multiply-accumulate layer, and a topology CSV holds nothing else")
    conv_form = any(layer.op in (Op.CONV, Op.DEFORM_CONV) for layer in layers)
    lines = [_conv_form(layer) if conv_form else _gemm_form(layer) for layer in layers]
    rows = sum(line.count for line in lines)
    if rows > LARGEST_ROWS:
        raise InputError(
            f"{network.name} needs {rows} rows (a group or step is a row), a topology may have {LARGEST_ROWS}"
        )
    for line in lines:
        if max(line.sizes) > LARGEST_SIZE:
            raise InputError(
                f"layer '{line.name}' has a size of {max(line.sizes)}; a topology CSV holds up to {LARGEST_SIZE}"
            )
    sparse = any(line.sparsity for line in lines)
    header = (_CONV_HEADER if conv_form else _GEMM_HEADER) + (" Sparsity," if sparse else "")
    text = [header]
    for line in lines:
        fields = [line.name, *(str(s) for s in line.sizes), *([line.sparsity or "1:1"] if sparse else [])]
        text += [", ".join(fields) + ","] * line.count
    write_atomic(path, "\n".join(text) + "\n")
    return Written(files=(path,), notes=(*network.notes, *_notes(network, layers, lines)))


def _gemm_of(layer: Layer) -> Gemm:
    view = gemm_view(layer)
    assert view is not None
    return view


def _gemm_form(layer: Layer) -> Lines:
    view = _gemm_of(layer)
    repeats, remark = _repeats(layer, view)
    sizes = (view.m // view.steps, view.n, view.k)
    return Lines(
        name=_name(layer, depthwise=False), sizes=sizes, sparsity=_sparsity(layer), count=repeats, remark=remark
    )


def _conv_form(layer: Layer) -> Lines:
    view, a = _gemm_of(layer), layer.attributes
    sparsity = _sparsity(layer)
    plain = isinstance(a, DeformConvAttributes) or (isinstance(a, ConvAttributes) and not a.transposed)
    if plain and isinstance(a, ConvAttributes | DeformConvAttributes):
        space, kernel = layer.results[0].shape[2:], layer.operands[1].shape[2:]
        strides = {s for s, out in zip(a.stride, space, strict=True) if out > 1}
        if len(space) <= 2 and len(strides) <= 1 and layer.results[0].shape[0] == 1:
            return _window_row(layer, view, (*strides, a.stride[0])[0], space, kernel, sparsity)
    repeats, remark = _repeats(layer, view)
    if layer.op in (Op.CONV, Op.DEFORM_CONV):
        remark = "written as a matrix product"
    sizes = (view.m // view.steps, 1, 1, 1, view.k, view.n, 1)
    return Lines(name=_name(layer, depthwise=False), sizes=sizes, sparsity=sparsity, count=repeats, remark=remark)


def _window_row(
    layer: Layer, view: Gemm, stride: int, space: Sequence[int], kernel: Sequence[int], sparsity: str
) -> Lines:
    a = layer.attributes
    assert isinstance(a, ConvAttributes | DeformConvAttributes)
    channels = layer.operands[1].shape[1]
    ifmap = [(out - 1) * stride + window for out, window in zip(space, kernel, strict=True)]
    both = [(*sides, 1)[:2] for sides in (ifmap, kernel)]  # a 1-D convolution is one column wide
    depthwise = view.groups > 1 and channels == 1
    sizes = (*both[0], *both[1], view.groups if depthwise else channels, view.n, stride)
    remark = ""
    if isinstance(a, DeformConvAttributes):
        remark = "deformable: written with a regular window"
    elif any(d > 1 for d, k in zip(a.dilation, kernel, strict=True) if k > 1):
        remark = "dilated: written as if the taps lay side by side"
    elif view.groups > 1 and not depthwise:
        remark = "a row per group"
    count = 1 if depthwise else view.groups
    return Lines(name=_name(layer, depthwise=depthwise), sizes=sizes, sparsity=sparsity, count=count, remark=remark)


def _repeats(layer: Layer, view: Gemm) -> tuple[int, str]:
    if view.steps > 1:
        return view.steps, "recurrent: a row per step, which must wait for the step before"
    if view.groups > 1:
        return view.groups, "a row per product"
    return 1, ""


def _name(layer: Layer, *, depthwise: bool) -> str:
    """Return the layer's name as a CSV field; "DP" is in it exactly if the layer is depthwise."""
    name = re.sub(r"[,\s]+", "_", layer.name.strip())
    if depthwise:
        return name if _DEPTHWISE in name else f"{name}_{_DEPTHWISE}"
    return name.replace(_DEPTHWISE, "Dp")


def _weight_sparsity(layer: Layer) -> Sparsity:
    return layer.operands[1].sparsity if len(layer.operands) > 1 else DENSE


def _sparsity(layer: Layer) -> str:
    found = _weight_sparsity(layer)
    fits = found.structure is Structure.N_OF_M and found.n and found.m and found.m < 1000
    return f"{found.n}:{found.m}" if fits and found.density == (found.n or 0) / (found.m or 1) else ""


def _notes(network: Network, layers: Sequence[Layer], lines: Sequence[Lines]) -> list[str]:
    notes = []
    others = Counter(layer.op.value for layer in network.layers if layer.op not in MAC_OPS)
    if others:
        listed = ", ".join(f"{n} {op}" for op, n in sorted(others.items()))
        notes.append(f"left out, as a topology holds multiply-accumulates only: {listed}")
    if network.unsupported:
        listed = _few([f"{u.op} at {u.where}" for u in network.unsupported])
        notes.append(f"left out, not understood (their multiply-accumulates are missing): {listed}")
    for remark in dict.fromkeys(line.remark for line in lines if line.remark):
        notes.append(f"{remark}: {_few([line.name for line in lines if line.remark == remark])}")
    named = [(y.name, line.name) for y, line in zip(layers, lines, strict=True) if y.name != line.name]
    depthwise = [new for old, new in named if _DEPTHWISE in new]
    if depthwise:
        notes.append(
            f"depthwise layers carry '{_DEPTHWISE}' in their names, as SCALE-Sim knows them: {_few(depthwise)}"
        )
    renamed = [f"{old} is {new}" for old, new in named if _DEPTHWISE not in new]
    if renamed:
        notes.append(f"renamed: {_few(renamed)}")
    loose = [y.name for y in layers if _weight_sparsity(y) != DENSE and not _sparsity(y)]
    if loose:
        notes.append(f"zeros that are not N:M are not written: {_few(loose)}")
    formats = [y.name for y in layers if any(o.format is not None for o in y.operands[:2])]
    if formats:
        notes.append(f"number formats are not written: {_few(formats)}")
    parts = [y.name for y in layers if y.execution.share != 1]
    if parts:
        notes.append(f"written as if they always ran: {_few(parts)}")
    return notes


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
