"""A slow simulation of one layer behind the DRAM bus, fold by fold and burst by burst: the check of `pipeline`'s closed form.

Written from the rules in words (`pipeline`'s docstring), in exact fractions, without its classes of folds. Two processes run
in a step: the array, which computes one fold, and the bus, which moves the batch of the step one burst after the other. The
halves of the SRAMs swap, and the next step begins, when both are done.

`strict_cycles` drops the one simplification of the rules: there the array takes a line of operands only when the bus has
brought it, so that a late last line is followed by the flush of the array. A step then takes longer by at most latency + 2
bursts + 1 + flush cycles. Proof: let line t of T arrive at a(t); it enters no earlier than the lines before it, so the last
one enters at max(lead, max over t of a(t) + T - 1 - t). Lines need equal shares of the bytes, so that a(t) is a straight
line rounded up to bursts; a(t) + T - 1 - t is then largest at one of its ends, up to one burst. At t = T - 1 it is the end
of the operands' transfer, at most the batch's time. At t = 0 it is at most T - 1 after the latency and the bursts of one
line, which is the fold's own time if lines come faster than they enter, plus the latency and a burst.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from picojoule.accel.systolic.timing import Dataflow

_NOISE = Fraction(1, 10**6)
"""As `dram_bus.NOISE`: what is not moved apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer on one design: sizes, words that cross the bus in all, their widths in bits, and who stays on chip."""

    dataflow: Dataflow
    rows: int
    cols: int
    m: int
    n: int
    k: int
    groups: int
    together: int
    ifmap_words: int
    filter_words: int
    psum_words: int
    ofmap_words: int
    ifmap_bits: int
    filter_bits: int
    ofmap_bits: int
    accumulator_bits: int
    other_bytes: int
    row_operand_stays: bool
    col_operand_stays: bool
    overlap: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fold: its time and the bytes that it streams in (`inward`) and out, drains, and must have before it starts."""

    compute: int
    lead: int
    lines: int
    inward: Fraction
    outward: Fraction
    drained: Fraction
    tile: Fraction
    first_words: Fraction
    last_words: Fraction


@dataclass(frozen=True, slots=True)
class TwinBus:
    """Bytes in a cycle, latency in cycles, bytes of a burst."""

    bytes_per_cycle: Fraction
    latency_cycles: Fraction
    burst_bytes: int

    def bursts(self, data: Fraction) -> int:
        """Return the whole bursts of a batch."""
        return max(0, ceil(data / self.burst_bytes - _NOISE))

    @property
    def burst_cycles(self) -> Fraction:
        """Time of one burst."""
        return self.burst_bytes / self.bytes_per_cycle

    def time(self, data: Fraction) -> Fraction:
        """Return when the last burst of a batch has passed."""
        now = Fraction(0)
        for burst in range(self.bursts(data)):
            now += self.burst_cycles + (self.latency_cycles if burst == 0 else 0)
        return now


def folds_of(layer: Layer) -> list[Fold]:
    """Return the folds of a layer in the order in which they run."""
    spans = list(_spans(layer))
    flow, found = layer.dataflow, []
    streamed = {Dataflow.OS: layer.k, Dataflow.WS: layer.m, Dataflow.IS: layer.n}[flow]
    ifmap = Fraction(layer.ifmap_words * layer.ifmap_bits, 8)
    filters = Fraction(layer.filter_words * layer.filter_bits, 8)
    along_rows, row_bits = (filters, layer.filter_bits) if flow is Dataflow.IS else (ifmap, layer.ifmap_bits)
    held = {Dataflow.OS: Fraction(0), Dataflow.WS: filters, Dataflow.IS: ifmap}[flow]
    results = Fraction(layer.ofmap_words * layer.ofmap_bits, 8)
    sums = Fraction(layer.psum_words * layer.accumulator_bits, 8)
    for i, s in enumerate(spans):
        inward = _passing(along_rows, s.row_share, s.col_folds, s.first_col, layer.row_operand_stays) * s.group_share
        ports = Fraction(s.r * row_bits, 8)
        first_words = min(inward, ports)
        if flow is Dataflow.OS:
            more = _passing(filters, s.col_share, s.row_folds, s.first_row, layer.col_operand_stays) * s.group_share
            first_words += min(more, Fraction(s.c * layer.filter_bits, 8))
            inward += more
        if s.first_row:
            inward += layer.other_bytes * s.col_share * s.group_share
        outward = drained = last_words = Fraction(0)
        spilled = sums * s.col_share * s.group_share / max(1, s.row_folds - 1)
        if not s.first_row:
            inward += spilled
        if flow is Dataflow.OS:
            drained = results * s.row_share * s.col_share * s.group_share
        elif s.last_row:
            outward = results * s.col_share * s.group_share
            last_words = min(outward, Fraction(s.c * layer.ofmap_bits, 8))
        else:
            outward = spilled
        found.append(
            Fold(
                compute=_time(layer, spans, i, streamed), lead=0 if flow is Dataflow.OS or layer.overlap else s.r,
                lines=streamed, inward=inward, outward=outward, drained=drained,
                tile=held * s.row_share * s.col_share * s.group_share, first_words=first_words, last_words=last_words,
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """Where a fold lies: its used rows and columns, their shares of the group's, the group's share of the layer."""

    r: int
    c: int
    row_share: Fraction
    col_share: Fraction
    group_share: Fraction
    row_folds: int
    col_folds: int
    first_row: bool
    last_row: bool
    first_col: bool


def _spans(layer: Layer) -> Iterator[_Span]:
    row_size = layer.m if layer.dataflow is Dataflow.OS else layer.k
    col_size = layer.m if layer.dataflow is Dataflow.IS else layer.n
    row_starts, col_starts = range(0, row_size, layer.rows), range(0, col_size, layer.cols)
    for group in range(0, layer.groups, layer.together):
        here = min(layer.together, layer.groups - group)
        for col in col_starts:
            for row in row_starts:
                r, c = min(layer.rows, row_size - row), min(layer.cols, col_size - col)
                yield _Span(
                    r=r * here, c=c * here, row_share=Fraction(r, row_size), col_share=Fraction(c, col_size),
                    group_share=Fraction(here, layer.groups), row_folds=len(row_starts), col_folds=len(col_starts),
                    first_row=row == 0, last_row=row == row_starts[-1], first_col=col == 0,
                )  # fmt: skip


def _passing(total: Fraction, share: Fraction, passes: int, first: bool, stays: bool) -> Fraction:
    """Return the bytes of an operand that is passed over several times, and comes once if it stays."""
    if stays:
        return total * share if first else Fraction(0)
    return total * share / passes


def _time(layer: Layer, spans: Sequence[_Span], i: int, streamed: int) -> int:
    """Return the cycles from the start of fold i to that of the next; a first load or last drain apart where hidden."""
    s = spans[i]
    stream = streamed + s.r + s.c - 2
    if not layer.overlap:
        return stream + s.r
    beside = i - 1 if layer.dataflow is Dataflow.OS else i + 1
    return max(stream, spans[beside].r) if 0 <= beside < len(spans) else stream


def exposed_cycles(folds: Sequence[Fold], layer: Layer) -> int:
    """Return the compute cycles that no step holds: where loads or drains are hidden, the first or last of them."""
    if not layer.overlap:
        return 0
    spans = list(_spans(layer))
    return spans[-1].r if layer.dataflow is Dataflow.OS else spans[0].r


def _batches(folds: Sequence[Fold]) -> Iterator[tuple[Fold, Fraction, Fraction]]:
    """Return each fold with what it streams in during its own step, and what else its step moves."""
    for i, fold in enumerate(folds):
        first, last = i == 0, i == len(folds) - 1
        before = Fraction(0) if first else folds[i - 1].drained
        after = Fraction(0) if last else folds[i + 1].tile
        outward = fold.outward - (fold.last_words if last else 0)
        yield fold, fold.inward - (fold.first_words if first else 0), before + after + outward


def run(folds: Sequence[Fold], bus: TwinBus) -> Fraction:
    """Return the cycles from the first request to the last byte stored."""
    now = bus.time(folds[0].tile + folds[0].first_words)
    for fold, inward, others in _batches(folds):
        array_done, bus_done = now + fold.compute, now + bus.time(inward + others)
        now = max(array_done, bus_done)
    return now + bus.time(folds[-1].drained + folds[-1].last_words)


def strict_cycles(folds: Sequence[Fold], bus: TwinBus) -> Fraction:
    """Return the same where lines enter the array only when they have arrived (see the module)."""
    now = bus.time(folds[0].tile + folds[0].first_words)
    for fold, inward, others in _batches(folds):
        flush = fold.compute - fold.lead - fold.lines
        entered = Fraction(fold.lead - 1)
        for line in range(fold.lines):
            entered = max(entered + 1, bus.time(inward * (line + 1) / fold.lines))
        now += max(entered + 1 + flush, bus.time(inward + others))
    return now + bus.time(folds[-1].drained + folds[-1].last_words)


def strict_excess(folds: Sequence[Fold], bus: TwinBus) -> Fraction:
    """Return the bound of `strict_cycles` beyond `run`."""
    each = bus.latency_cycles + 2 * bus.burst_cycles + 1
    return sum((each + fold.compute - fold.lead - fold.lines for fold in folds), Fraction(0))
