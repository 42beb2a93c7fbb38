"""What each component of an engine takes of an FPGA, from the engine's parameters.

Estimates from the structure: one multiplier per DSP slice, memories by the shapes of a block RAM, adders one LUT per bit, loops,
AXI ports and FIFOs as HLS reports print them. `resources` adds them up, and says how far the sum can be trusted.
"""

import math
from dataclasses import dataclass

from picojoule.accel.deform.boards import Board
from picojoule.accel.deform.spec import DeformSpec

__all__ = ["ENGINES", "Amount", "Part", "parts_of", "spilled_multipliers"]

ENGINES = ("1x1 engine", "depthwise engine", "full engine")
"""Components whose multipliers are narrow enough for LUTs."""

_TAPS = 9
_SCALE_BITS = 16
"""A requantiser multiplies by a 16-bit scale (published)."""
_LOOPS, _LOOP_LUT, _LOOP_FF = 16, 384, 397
"""Two pipelined loops in each of eight processes; a loop's control as a Vitis HLS report of a vector addition prints it."""
_PROCESSES = 8
"""Read, 1x1, requantise, line buffer, window, requantise, write, offsets: the dataflow of the published engine."""
_AXI_PORTS = 4
"""Input, output, weights, offsets."""
_AXI_LUT, _AXI_FF, _AXI_PER_BIT = 540, 450, 2
"""HLS m_axi adapters of 32 bits: 580 to 823 LUTs and 512 to 725 FFs in public reports; 2 more a bit: estimate."""
_AXI_LITE_LUT, _AXI_LITE_FF = 490, 291
"""Control registers (public Vitis HLS report)."""
_INTERCONNECT_LUT, _INTERCONNECT_FF = 1000, 1500
"""Path of a port to the processor's memory port: estimate."""
_CONTROLLER_LUT, _CONTROLLER_FF = 10_000, 8_000
"""DRAM controller in logic, where no hard processor brings one: estimate."""
_FIFO_LUT = 12
"""Control of a FIFO of depth 2 in shift registers, beside a LUT and a register a bit: estimate (a public report has seven
of depth 2 with 68 LUTs and 99 FFs each)."""
_SHALLOW = 512
"""Words of the widest shape of a block RAM: a memory with fewer takes no less for being smaller, only for being narrower."""
_LOGIC_RANGE = (0.55, 1.8)
"""Estimate: what synthesis makes of such counts; HLS estimates alone are off by about as much from what is placed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Counts of DSP slices, 36 Kbit block RAMs, LUTs and flip-flops."""

    dsp: int = 0
    bram36: int = 0
    lut: int = 0
    ff: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        """Return both together."""
        return Amount(
            dsp=self.dsp + other.dsp, bram36=self.bram36 + other.bram36, lut=self.lut + other.lut, ff=self.ff + other.ff
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one component takes: the estimate, its range, and the keys that make it smaller."""

    name: str
    amount: Amount
    low: Amount
    high: Amount
    keys: str


def parts_of(spec: DeformSpec, board: Board) -> list[Part]:
    """Return the components of a design on a board of any size; one that takes nothing (no full engine) has empty amounts."""
    wide = board.multiplier_bits[0]
    parts = [
        *_engines(spec, wide),
        _requantiser(spec, wide),
        _line_buffer(spec),
        *_buffers(spec),
        _offsets(spec),
        _control(spec),
    ]
    if not board.hard_processor:
        parts.append(_memory_controller(spec))
    return parts


def spilled_multipliers(spec: DeformSpec, count: int) -> Part:
    """Return the multipliers that found no DSP slice.

    A product of w x a bits in LUTs takes one per bit of the partial products (4 x 4 by hand: 11, arXiv 2510.21533), and the
    adder that its DSP slice would have held.
    """
    each = spec.weight_bits * spec.activation_bits + spec.weight_bits + spec.activation_bits
    return _logic("multipliers in LUTs", count * each, count * each // 2, "pe_in, pe_out or depthwise_lanes")


def _logic(
    name: str,
    lut: int,
    ff: int,
    keys: str,
    *,
    dsp: tuple[int, int, int] = (0, 0, 0),
    bram: tuple[int, int, int] = (0, 0, 0),
) -> Part:
    """Return a part; `dsp` and `bram` are (low, estimate, high), logic has the common range."""
    low, high = _LOGIC_RANGE
    return Part(
        name=name,
        amount=Amount(dsp=dsp[1], bram36=bram[1], lut=lut, ff=ff),
        low=Amount(dsp=dsp[0], bram36=bram[0], lut=int(low * lut), ff=int(low * ff)),
        high=Amount(dsp=dsp[2], bram36=bram[2], lut=math.ceil(high * lut), ff=math.ceil(high * ff)),
        keys=keys,
    )


def _engines(spec: DeformSpec, wide: int) -> list[Part]:
    """Return the multipliers, adder trees and operand registers of the engines."""
    w, a, acc = spec.weight_bits, spec.activation_bits, spec.accumulator_bits
    # Two products of one activation share a slice if both fit beside each other in its wider operand.
    per_slice = 2 if 2 * w + a <= wide else 1
    out = []
    shapes = (
        ("1x1 engine", spec.pe_in, spec.pe_out, spec.pe_in, "pe_in or pe_out", True),
        ("depthwise engine", _TAPS, spec.depthwise_lanes, _TAPS * spec.depthwise_lanes, "depthwise_lanes", False),
        ("full engine", _TAPS * spec.full_in, spec.full_out, _TAPS * spec.full_in, "full_in or full_out", True),
    )
    for name, terms, sums, operands, keys, shared in shapes:
        macs = terms * sums
        packed = terms * -(-sums // per_slice) if shared else macs
        tree = sums * _tree_bits(terms, w + a)
        registers = macs * w + operands * a + tree + sums * acc
        accumulators = sums * acc if shared else 0
        out.append(_logic(name, tree + accumulators, registers, keys, dsp=(packed, macs, macs)))
    return out


def _tree_bits(terms: int, bits: int) -> int:
    """Bits of the adders of a tree; the first level adds within the DSP slices (multiply-add)."""
    total, width = 0, bits + 1
    terms = -(-terms // 2)
    while terms > 1:
        width += 1
        total += (terms // 2) * width
        terms = -(-terms // 2)
    return total


def _requantiser(spec: DeformSpec, wide: int) -> Part:
    """Return scale, shift, bias, ReLU and clamp of each output lane, and the memories of scales and biases."""
    lanes = spec.pe_out + spec.depthwise_lanes + spec.full_out
    acc, a = spec.accumulator_bits, spec.activation_bits
    each = 1 if acc + 1 <= wide else 2
    groups = [n for n in (spec.pe_out, spec.depthwise_lanes, spec.full_out) if n]
    memories = [_small_memory(n * (_SCALE_BITS + acc), -(-spec.max_pass_channels // n)) for n in groups]
    bram, memory_lut = (sum(counts) for counts in zip(*memories, strict=True))
    lut, ff = lanes * (acc + 2 * a) + memory_lut, lanes * (3 * acc + a)
    # Small memories may become LUTs (lower end), and double between processes (upper end).
    return _logic(
        "requantiser", lut, ff, "pe_out or depthwise_lanes", dsp=(lanes * each,) * 3, bram=(0, bram, 2 * bram)
    )


def _line_buffer(spec: DeformSpec) -> Part:
    """Return the rows of the line buffer, each in blocks of its own, and what selects rows for each port.

    Ports read different rows, so banks by row serve them; more ports than rows need copies.
    """
    word = max(spec.depthwise_lanes, spec.full_in) * spec.activation_bits
    depth = -(-8 * spec.line_buffer_row_bytes // word)
    copies = -(-spec.line_buffer_ports // spec.rows)
    blocks = copies * spec.rows * _blocks36(word, depth, dual=spec.reads_per_port == 2)
    least = -(-spec.rows * spec.line_buffer_row_bytes * 8 // 36_864)
    reads = spec.line_buffer_ports * spec.reads_per_port
    select = -(-(spec.rows - 1) // 3)  # a LUT of six inputs is a multiplexer of four, so k to 1 takes (k - 1) / 3
    address = max(1, (depth - 1).bit_length())
    window = _TAPS * word
    lut = reads * word * select + spec.rows * spec.reads_per_port * address + window
    ff = reads * word + spec.rows * spec.reads_per_port * address + 2 * window
    # A tool that does not see that writing and reading exclude each other makes a copy for the writer (upper end).
    return _logic(
        "line buffer",
        lut,
        ff,
        "line_buffer_rows, max_offset or line_buffer_row_bytes"
        if depth >= _SHALLOW
        else "line_buffer_rows or depthwise_lanes",
        bram=(least, blocks, 2 * blocks),
    )


def _buffers(spec: DeformSpec) -> list[Part]:
    """Return the weight memories: as wide as an engine's weights of one cycle."""
    capacity = int(spec.weight_buffer_kib * 8192)
    pointwise = spec.pe_in * spec.pe_out * spec.weight_bits
    full = _TAPS * spec.full_in * spec.full_out * spec.weight_bits
    window = _TAPS * spec.depthwise_lanes * spec.weight_bits
    blocks = _blocks36(pointwise, -(-capacity // pointwise)) + (_blocks36(full, -(-capacity // full)) if full else 0)
    small, small_lut = _small_memory(window, -(-spec.max_pass_channels // spec.depthwise_lanes))
    fill = (pointwise + full) // 8
    narrower = "full_in or full_out" if full > pointwise else "pe_in or pe_out"
    return [
        # Between two processes of an HLS dataflow an array is a ping-pong pair (UG902): upper end.
        _logic(
            "weight buffer",
            fill,
            fill,
            "weight_buffer_kib" if capacity >= _SHALLOW * max(pointwise, full) else narrower,
            bram=(min(blocks, -(-capacity // 36_864)), blocks, 2 * blocks),
        ),
        _logic(
            "depthwise weights", window // 8 + small_lut, window // 8, "depthwise_lanes", bram=(0, small, 2 * small)
        ),
    ]


def _offsets(spec: DeformSpec) -> Part:
    """Return what turns an offset into addresses: two coordinates a tap, clipped to the map, and a row of the buffer."""
    side = max(1, (spec.max_side - 1).bit_length())
    taps = _TAPS * 2 * (3 * side + spec.offset_bits)  # add, two comparisons, clip
    reads = spec.line_buffer_ports * spec.reads_per_port
    return _logic(
        "offset path", taps, taps, "line_buffer_ports", dsp=(0, reads, 2 * reads)
    )  # column x words of a pixel


def _control(spec: DeformSpec) -> Part:
    """Return the loops, the FIFOs between processes, and the AXI ports."""
    a, acc = spec.activation_bits, spec.accumulator_bits
    word = max(spec.pe_in * a, 32)
    outputs = spec.pe_out + spec.depthwise_lanes + spec.full_out
    words = (
        spec.pe_in * a,
        outputs * acc,
        outputs * a,
        _TAPS * max(spec.depthwise_lanes, spec.full_in) * a,
        spec.offset_bits,
    )
    fifo = sum(words)
    axi_lut, axi_ff = _AXI_LUT + _AXI_PER_BIT * word, _AXI_FF + _AXI_PER_BIT * word
    lut = _LOOPS * _LOOP_LUT + fifo + (_PROCESSES + _TAPS) * _FIFO_LUT + _AXI_LITE_LUT
    ff = _LOOPS * _LOOP_FF + fifo + _AXI_LITE_FF
    lut += _AXI_PORTS * (axi_lut + _INTERCONNECT_LUT)
    ff += _AXI_PORTS * (axi_ff + _INTERCONNECT_FF)
    # A port buffers 16 bursts of 16 words with their strobes, one way (both ways: upper end). Loops multiply their bounds.
    blocks = _AXI_PORTS * _blocks36(word + word // 8, 256)
    return _logic(
        "DMA and control", lut, ff, "pe_in", dsp=(0, _PROCESSES, 3 * _PROCESSES), bram=(0, blocks, 2 * blocks)
    )


def _memory_controller(spec: DeformSpec) -> Part:
    """Return the DRAM controller, and the last-level cache, that a board without a hard processor needs in its logic."""
    tag_bits = 32
    lines = spec.llc_kib * 1024 // spec.llc_line_bytes if spec.llc else 0
    blocks = _blocks36(spec.llc_line_bytes * 8, lines) + _blocks36(tag_bits, lines) if lines else 0
    return _logic("memory controller", _CONTROLLER_LUT, _CONTROLLER_FF, "llc_kib", bram=(blocks, blocks, blocks))


def _small_memory(width: int, depth: int) -> tuple[int, int]:
    """Return (36 Kbit blocks, LUTs) of a memory; one of at most 16 words is LUT RAM, a bit of all words in a LUT (UG574)."""
    return (0, width) if depth <= 16 else (_blocks36(width, depth), 0)


def _blocks36(width: int, depth: int, *, dual: bool = False) -> int:
    """Return the 36 Kbit blocks of a memory, in halves of 18 Kbit: 16K x 1 to 1K x 18, or 512 x 36 with one reading port.

    Source: UG573, table of port widths. `dual`: both ports read and write.
    """
    shapes = [(1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024)] + ([] if dual else [(36, 512)])
    halves = min(-(-width // w) * -(-depth // d) for w, d in shapes)
    return -(-halves // 2)
