"""What the bits of a layer's real words do on an array (`datapath_energy: toggles`), and what a report says about it.

Words are as wide as what is priced: the PE's inputs with `precision: fixed` (a narrow operand's sign fills the rest), else the
operands' own. Own orders of output channels per row fold need a table of accumulator addresses (`ordering.address_table`): a
fold reads the addresses of its segment once, in the order in which channels stream; the tables of all layers stay on chip.
"""

from dataclasses import dataclass, replace

from picojoule.accel.systolic.energy import TABLE_PORT_BITS
from picojoule.accel.systolic.flips import FlipRates, OrderTable
from picojoule.accel.systolic.ordering import address_table, order_of
from picojoule.accel.systolic.recurrence import turn_sizes
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.toggles import expected_flips, layer_flips
from picojoule.accel.systolic.workload import Job
from picojoule.sim.activation_source import ActivationSource
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.integer_weights import integer_weights

LAW_NOTE = (
    "datapath_energy=toggles: its linear law is off by -14 % to +84 % of a multiplier where one operand hardly changes (flips of "
    "0.1 per bit or more in the other), as in ws and is, and by -7 % to +24 % elsewhere"
)
"""From `toggle_law`: what the gate-level count says of its line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipWork:
    """A layer's rates and their basis, the bits of its address table, and half its interval over samples, of the mean."""

    rates: FlipRates
    basis: str
    table_bits: int = 0
    spread: float | None = None


def flip_work(job: Job, spec: SystolicSpec, source: ActivationSource | None) -> FlipWork:
    """Return what the bits of a job do, weights counted exactly.

    Raises:
        InputError: for weights that are not as declared.
        UnsupportedError: for weights that the network does not have, or numbers that are not integers.

    """
    if not (job.weight.is_integer and job.activation.is_integer):
        raise UnsupportedError(
            f"layer '{job.layer.name}': datapath_energy=toggles counts bits of integers, got {job.weight} x {job.activation}; "
            "use datapath_energy: average"
        )
    turns = turn_sizes(job.layer, job.gemm)
    w, a = _widths(job, spec)
    beside = spec.groups == "side_by_side" and job.recurrence is None
    if not job.layer.parameters or job.recurrence is not None:
        flips = expected_flips(
            spec.dataflow, spec.rows, spec.cols, m=turns.m, n=turns.n, k=turns.k, groups=turns.groups,
            weight_bits=w, activation_bits=a, side_by_side=beside,
        )  # fmt: skip
        return FlipWork(rates=FlipRates.of(flips, spec.dataflow, w, a), basis=flips.basis)
    samples = source.of_layer(job.layer.name) if source is not None else ()
    weights = integer_weights(
        job.layer, job.weight, needed_by="datapath_energy=toggles", remedy="use datapath_energy: average"
    )
    order = order_of(weights, spec.dataflow, spec.rows, spec.weight_order, bits=w, code=spec.number_code)
    flips, interval = layer_flips(
        weights, samples, spec.dataflow, spec.rows, spec.cols, m=turns.m, weight_bits=w, activation_bits=a,
        code=spec.number_code, order=order, side_by_side=beside,
    )  # fmt: skip
    rates, table_bits = FlipRates.of(flips, spec.dataflow, w, a), 0
    segments = 1 if order is None else order.shape[1]
    if segments > 1:
        table = address_table(turns.n, segments)
        table_bits = turns.groups * table.bits
        reads = -(-turns.n * table.bits_per_entry // TABLE_PORT_BITS)
        folds = turns.groups * segments * -(-turns.m // spec.cols)
        rates = replace(rates, table=OrderTable(reads=folds * reads, kib=0.0))
    spread = None
    if interval is not None and sum(interval) > 0:
        spread = (interval[1] - interval[0]) / sum(interval)
    return FlipWork(rates=rates, basis=flips.basis, table_bits=table_bits, spread=spread)


def with_tables(works: list[FlipWork]) -> list[FlipRates]:
    """Return the rates of a network's layers, each with the capacity of the one SRAM that holds all address tables."""
    kib = sum(work.table_bits for work in works) / 8192
    return [
        work.rates if work.rates.table is None else replace(work.rates, table=replace(work.rates.table, kib=kib))
        for work in works
    ]


def flip_notes(
    names: list[str], works: list[FlipWork], spec: SystolicSpec, source: ActivationSource | None, random_weights: bool
) -> tuple[str, ...]:
    """Return what is to be said of a network's flips."""
    notes = [LAW_NOTE] if works else []
    if random_weights:
        notes.append("weights are drawn at random: their flips are those of random numbers, not of a trained network")
    if spec.weight_order != "as_is" and spec.dataflow != "is":
        notes.append(
            f"weights do not stream channel after channel in dataflow {spec.dataflow}: weight_order saves nothing"
        )
    guessed = sum(work.basis == "statistics" for work in works)
    if guessed:
        notes.append(
            f"{guessed} of {len(works)} array layers: activations are taken as random words, half of their bits flip"
        )
    spreads = [(work.spread, name) for work, name in zip(works, names, strict=True) if work.spread is not None]
    if spreads and source is not None:
        widest, name = max(spreads)
        notes.append(
            f"activation flips: mean over {source.samples} inputs ({source.origin}), widest 95 % interval +-{widest:.1%} "
            f"(layer '{name}')"
        )
    return tuple(notes)


def _widths(job: Job, spec: SystolicSpec) -> tuple[int, int]:
    """Return the bits of the words that are counted; one bit alone has no sign."""
    if spec.precision == "fixed":
        return spec.weight_bits, spec.activation_bits
    return max(2, job.weight.bits), max(2, job.activation.bits)
