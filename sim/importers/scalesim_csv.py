"""SCALE-Sim topology CSV as a workload: independent convolutions or matrix products, with sizes and no values.

Geometry is SCALE-Sim's: the number of windows is rounded up, so that the last one may hang over the edge; that is
padding at the end here. Source: topology files of SCALE-Sim 2.0 and 3.0.0. conv: name, ifmap height and width, filter
height and width, channels, filters, stride[, N:M]; gemm: name, M, N, K[, N:M]. The header line may be missing, and the
comma at the end of a line too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picojoule.sim.attributes import ConvAttributes, LinearAttributes, Op
from picojoule.sim.builder import NetworkBuilder
from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.formats import DENSE, Sparsity, parse_sparsity
from picojoule.sim.ir import Network, Operand, OperandKind, TensorType

LARGEST_FILE_BYTES = 16 * 1024**2
LARGEST_ROWS = 10_000
"""The longest published topology has a few hundred rows; more is a wrong file, and takes seconds to price."""
LARGEST_SIZE = 2**31 - 1
"""One size: what 32-bit counters of accelerators hold."""
LARGEST_MACS = 2**62
"""Multiply-accumulates of one layer: counts are 64-bit integers."""

_FIELDS = {
    "conv": (
        "ifmap height",
        "ifmap width",
        "filter height",
        "filter width",
        "channels",
        "number of filters",
        "stride",
    ),
    "gemm": ("M", "N", "K"),
}
_SPARSITY = re.compile(r"\d{1,3}:\d{1,3}")
_WHOLE = re.compile(r"[+-]?\d{1,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One field: its text and where it stands (`file:line:column`)."""

    text: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One checked layer of either form."""

    name: str
    sizes: tuple[int, ...]
    sparsity: Sparsity
    cells: tuple[Cell, ...]


def load_csv(path: Path, *, form: str = "auto") -> Network:
    """Return the layers of a topology CSV, each with its own network input `<layer>.ifmap`.

    `form` is `conv`, `gemm`, or `auto` (from the header or the number of fields). The network holds no weight values.

    Raises:
        InputError: naming file, line and column of what is wrong, what was read and the rule.

    """
    path = Path(path)
    if form not in ("auto", *_FIELDS):
        raise InputError(unknown_choice("topology form", form, ["auto", *_FIELDS]))
    lines = _lines(path)
    if len(lines) > LARGEST_ROWS:
        raise InputError(f"{path}: a topology may have {LARGEST_ROWS} rows, got {len(lines)}")
    rows = [r for r in (_cells(line, path.name, number) for number, line in lines) if r]
    header = rows[0] if rows and not any(_WHOLE.fullmatch(c.text) for c in rows[0][1:]) else None
    rows = rows[1:] if header else rows
    if not rows:
        raise InputError(f"{path}: the file holds no layer; write one per line as {_usage('conv')} or {_usage('gemm')}")
    chosen = _form(header, rows[0]) if form == "auto" else form
    checked = [_row(cells, chosen) for cells in rows]
    return _network(path.stem, chosen, checked)


def _usage(form: str) -> str:
    return f"'name, {', '.join(_FIELDS[form])}[, N:M]'"


def _lines(path: Path) -> list[tuple[int, str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a topology CSV")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path}: the file is empty; a topology CSV was expected")
    if size > LARGEST_FILE_BYTES:
        raise InputError(f"{path}: a topology CSV may have {LARGEST_FILE_BYTES} bytes, got {size}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; a topology CSV was expected") from None
    return [(i, line) for i, line in enumerate(re.split(r"\r\n|\r|\n", text), 1) if line.strip()]


def _cells(line: str, file: str, number: int) -> list[Cell]:
    """Return the fields of a line without empty ones at its end; none for a blank line."""
    cells, column = [], 1
    for part in line.split(","):
        indent = len(part) - len(part.lstrip())
        cells.append(Cell(text=part.strip(), where=f"{file}:{number}:{column + indent}"))
        column += len(part) + 1
    while cells and not cells[-1].text:
        cells.pop()
    return cells


def _form(header: Sequence[Cell] | None, first: Sequence[Cell]) -> str:
    named = {c.text.lower() for c in header or ()}
    if {"m", "n", "k"} <= named:
        return "gemm"
    sizes = len(first) - 1 - bool(_SPARSITY.fullmatch(first[-1].text))
    return "gemm" if sizes <= len(_FIELDS["gemm"]) else "conv"


def _row(cells: Sequence[Cell], form: str) -> Row:
    fields = _FIELDS[form]
    if not cells[0].text:
        raise InputError(f"{cells[0].where}: a layer needs a name in the first field, got none")
    if len(cells) < len(fields) + 1:
        raise InputError(
            f"{cells[0].where}: a {form} layer has {len(fields) + 1} fields, {_usage(form)}, got {len(cells)}"
        )
    if len(cells) > len(fields) + 2:
        extra = cells[len(fields) + 2]
        raise InputError(f"{extra.where}: a {form} layer ends after N:M, got '{extra.text}' as field {len(fields) + 3}")
    sizes = tuple(_size(c, f) for c, f in zip(cells[1:], fields, strict=False))
    sparsity = _sparsity(cells[len(fields) + 1]) if len(cells) == len(fields) + 2 else DENSE
    row = Row(name=cells[0].text, sizes=sizes, sparsity=sparsity, cells=tuple(cells))
    if form == "conv":
        _check_window(row)
    return row


def _size(cell: Cell, field: str) -> int:
    if not _WHOLE.fullmatch(cell.text):
        raise InputError(f"{cell.where}: {field} must be a whole number, got '{cell.text}'")
    value = int(cell.text)
    if not 1 <= value <= LARGEST_SIZE:
        raise InputError(f"{cell.where}: {field} must be between 1 and {LARGEST_SIZE}, got {value}")
    return value


def _sparsity(cell: Cell) -> Sparsity:
    try:
        found = parse_sparsity(cell.text) if _SPARSITY.fullmatch(cell.text) else None
    except InputError as error:
        raise InputError(f"{cell.where}: {error}") from None
    if found is None:
        raise InputError(f"{cell.where}: the field after the sizes is the sparsity N:M such as 2:4, got '{cell.text}'")
    return DENSE if found.density == 1.0 else found


def _check_window(row: Row) -> None:
    for i, side in ((0, "height"), (1, "width")):
        window, size = row.sizes[i + 2], row.sizes[i]
        if window > size:
            raise InputError(
                f"{row.cells[i + 3].where}: filter {side} {window} is larger than ifmap {side} {size}; "
                "state the padded ifmap, a topology CSV has no padding"
            )


def _network(name: str, form: str, rows: Sequence[Row]) -> Network:
    builder = NetworkBuilder(name)
    hanging: list[str] = []
    depthwise: list[str] = []
    seen: dict[str, int] = {}
    outputs = []
    for row in rows:
        seen[row.name] = seen.get(row.name, 0) + 1
        unique = row.name if seen[row.name] == 1 else f"{row.name}#{seen[row.name]}"
        if form == "gemm":
            outputs.append(_gemm(builder, row, unique))
            continue
        if "DP" in row.name:
            depthwise.append(unique)
        outputs.append(_conv(builder, row, unique, hanging))
    if hanging:
        builder.note(f"windows hang over the edge, counted as padding at the end (SCALE-Sim's rule): {_few(hanging)}")
    if depthwise:
        builder.note(
            "'DP' in the name means depthwise (SCALE-Sim's convention), each channel with all filters: "
            f"{_few(depthwise)}"
        )
    return builder.finish(outputs, weights="none")


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _conv(builder: NetworkBuilder, row: Row, name: str, hanging: list[str]) -> Operand:
    height, width, filter_height, filter_width, channels, filters, stride = row.sizes
    groups = channels if "DP" in row.name else 1
    end = tuple(
        -(-(size - window) // stride) * stride + window - size
        for size, window in ((height, filter_height), (width, filter_width))
    )
    if any(end):
        hanging.append(name)
    weight = (filters * groups, channels // groups, filter_height, filter_width)
    pixels = -(-(height - filter_height + stride) // stride) * -(-(width - filter_width + stride) // stride)
    _check_macs(row, pixels * weight[0] * weight[1] * weight[2] * weight[3])
    attributes = ConvAttributes(
        stride=(stride, stride), padding_begin=(0, 0), padding_end=end, dilation=(1, 1), groups=groups
    )
    x = builder.input(f"{name}.ifmap", TensorType(shape=(1, channels, height, width), batch_axis=0))
    return builder.add(Op.CONV, [x, _filter(row, name, weight)], attributes, name=name, source=row.cells[0].where)[0]


def _gemm(builder: NetworkBuilder, row: Row, name: str) -> Operand:
    m, n, k = row.sizes
    _check_macs(row, m * n * k)
    x = builder.input(f"{name}.ifmap", TensorType(shape=(1, m, k), batch_axis=0))
    return builder.add(
        Op.LINEAR, [x, _filter(row, name, (n, k))], LinearAttributes(), name=name, source=row.cells[0].where
    )[0]


def _check_macs(row: Row, macs: int) -> None:
    if macs > LARGEST_MACS:
        raise InputError(f"{row.cells[0].where}: layer '{row.name}' has {macs} multiply-accumulates, more than 2^62")


def _filter(row: Row, name: str, shape: tuple[int, ...]) -> Operand:
    return Operand(
        kind=OperandKind.PARAMETER, name=f"{name}.filter", type=TensorType(shape=shape), sparsity=row.sparsity
    )
