"""Energy of an engine on an FPGA: an estimate with a wide range, since nothing was published to compare with.

What is counted: operations of DSP slices (a MAC, or a scaling in the requantiser), block RAM accesses, LUTs clocked while
the engine works, DRAM traffic; and, for as long as the run takes, the clock tree, leakage of the device, the processing
system's uncore and its waiting cores. Left out: the board's regulators and peripherals (a KV260
takes 10.1 W at the plug, of which its module has 4.3 to 4.8 W), heat, hits of the last-level cache, and that narrower
operands toggle less. Sources and
ranges: `sim.technology.table_fpga`.
"""

from dataclasses import dataclass
from functools import lru_cache

from picojoule.accel.deform.boards import board_named
from picojoule.accel.deform.resources import resources_of
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim import technology as tech
from picojoule.sim.cost import Energy
from picojoule.sim.errors import InputError

__all__ = ["NOTE", "EngineEvents", "call_energy", "static_energy"]

NOTE = (
    "energy on the FPGA is an estimate: no power of such an accelerator was published, its constants are derived from the "
    "maker's power tool on other designs (a factor of two and more either way), and the board's regulators are not in it"
)
"""Said in every report."""

_PORT_BITS = 36
_TABLE_NM = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEvents:
    """What happens in a call, or in all calls of a layer.

    MACs are slots of the arrays, padding included; each reads its weight from block RAM, as the engines keep none between
    pixels. `line_reads` and `line_writes` count words of the line buffer (a word: the channels of a step of the 3x3 engine),
    `requantized` results that are scaled, `busy_cycles` cycles of the clock in which the engine works, stalls included.
    """

    pointwise_macs: int = 0
    depthwise_macs: int = 0
    full_macs: int = 0
    line_reads: int = 0
    line_writes: int = 0
    requantized: int = 0
    dram_bytes: int = 0
    busy_cycles: int = 0


def call_energy(events: EngineEvents, spec: DeformSpec) -> tuple[Energy, ...]:
    """Return the bill of events, a line per component, without lines of no events; InputError for a negative count."""
    for name in EngineEvents.__slots__:
        if getattr(events, name) < 0:
            raise InputError(f"{name} must not be negative, got {getattr(events, name)}")
    macs = events.pointwise_macs + events.depthwise_macs + events.full_macs
    word_bits = max(spec.depthwise_lanes, spec.full_in) * spec.activation_bits
    ports = -(-word_bits // _PORT_BITS)  # an access of a word takes whole ports
    lines = (
        _logic_line("mac.pointwise", "fpga.dsp48.operation", events.pointwise_macs, spec),
        _logic_line("mac.depthwise", "fpga.dsp48.operation", events.depthwise_macs, spec),
        _logic_line("mac.full", "fpga.dsp48.operation", events.full_macs, spec),
        _logic_line("requantiser", "fpga.dsp48.operation", events.requantized, spec),
        _logic_line("bram.lines", "fpga.bram.port_access", ports * (events.line_reads + events.line_writes), spec),
        _logic_line("bram.filter", "fpga.bram.port_access", macs * spec.weight_bits / _PORT_BITS, spec),
        _logic_line("logic", "fpga.fabric.lut_cycle", events.busy_cycles * _luts(spec), spec),
        _line("dram", tech.dram_key(spec.dram), 8 * events.dram_bytes),
    )
    return tuple(line for line in lines if line.events)


def static_energy(latency_s: float, spec: DeformSpec, *, host_s: float = 0.0) -> tuple[Energy, ...]:
    """Return what flows for as long as a run takes, whatever it does.

    `host_s` is the part of it in which the host works (its busy power is in the layers' bill); the rest it waits. InputError
    for a negative or non-finite time, or a host busy for longer than the run.
    """
    if not (0 <= host_s <= latency_s * (1 + 1e-9) and latency_s < float("inf")):
        raise InputError(
            f"times must be finite and 0 <= host <= run, got host {host_s:g} s of a run of {latency_s:g} s"
        )
    board, nanoseconds = board_named(spec.board), latency_s * 1e9  # mW x ns = pJ
    lines = [
        _logic_line("clock", "fpga.clock.lut_cycle", latency_s * spec.clock_mhz * 1e6 * _luts(spec), spec),
        _line("leakage.device", "fpga.static.device", nanoseconds),
        _line("leakage.logic", "fpga.static.lut", nanoseconds * board.lut),
    ]
    if board.hard_processor:
        lines.append(_line("processor.uncore", "fpga.processor.uncore", nanoseconds))
        lines.append(_line("processor.waiting", f"host.{spec.host}.idle_power", max(0.0, latency_s - host_s) * 1e9))
    return tuple(line for line in lines if line.events)


@lru_cache(maxsize=64)
def _luts(spec: DeformSpec) -> int:
    return resources_of(spec).lut


def _line(component: str, name: str, events: float) -> Energy:
    return Energy(component=component, constant=name, events=float(events), pj_per_event=tech.constant(name).value)


def _logic_line(component: str, name: str, events: float, spec: DeformSpec) -> Energy:
    """Return a line of switching logic, carried from 16 nm to the board's node."""
    key, price = _logic_price(name, board_named(spec.board).node_nm)
    return Energy(component=component, constant=key, events=float(events), pj_per_event=price)


@lru_cache(maxsize=64)
def _logic_price(name: str, node_nm: float) -> tuple[str, float]:
    price = tech.constant(name).value * float(tech.logic_energy_scale(_TABLE_NM, node_nm))
    return tech.product_key(name, tech.logic_scale_key(_TABLE_NM, node_nm)), price
