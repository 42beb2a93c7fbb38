"""What a report says about its design: keys that change nothing, costs that are left out, and SRAMs slower than the clock."""

from functools import lru_cache

from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.sim import technology as tech


def spec_notes(spec: SystolicSpec) -> tuple[str, ...]:
    """Return what is to be said about a design, whatever it runs."""
    return (*_idle_keys(spec), *_left_out(spec), *_slow_srams(spec))


def _idle_keys(spec: SystolicSpec) -> list[str]:
    """Return the keys that were set and change nothing here."""

    def set_(*keys: str) -> list[str]:
        return [key for key in keys if getattr(spec, key) != SystolicSpec.model_fields[key].default]

    notes = []
    if spec.datapath_energy == "average" and (keys := set_("number_code", "weight_order")):
        notes.append(f"{_changes(keys)} nothing with datapath_energy: average; use toggles")
    if spec.pe_format != "float" and (keys := set_("float_format")):
        notes.append(f"float_format changes nothing with pe_format: {spec.pe_format}")
    unused = {"float": ("weight_bits", "activation_bits"), "ternary": ("weight_bits",), "binary": ("weight_bits",)}
    if keys := set_(*unused.get(spec.pe_format, ())):
        notes.append(f"{_changes(keys)} nothing with pe_format: {spec.pe_format}, whose widths are fixed")
    return notes


def _changes(keys: list[str]) -> str:
    return f"{' and '.join(keys)} {'changes' if len(keys) == 1 else 'change'}"


def _left_out(spec: SystolicSpec) -> list[str]:
    if spec.precision != "decomposable":
        return []
    return [
        "decomposable PEs are priced as plain multipliers of their operands' width; the shifters and adders that put parts "
        "together are left out of energy and area (no source)"
    ]


def _slow_srams(spec: SystolicSpec) -> list[str]:
    """Return that an SRAM's access takes longer than a cycle."""
    names = ("sram_kib",) if spec.sram == "shared" else ("ifmap_sram_kib", "filter_sram_kib", "ofmap_sram_kib")
    found = [(_access_ns(getattr(spec, name), spec.node_nm, spec.sram_cell), name) for name in names]
    slowest, name = max(found)
    period = 1e3 / spec.clock_mhz
    if slowest <= period:
        return []
    return [
        f"{name}={getattr(spec, name):g}: an access takes {slowest:.2g} ns, a cycle {period:.2g} ns; at most "
        f"{1e3 / slowest:.0f} MHz unless the SRAM is pipelined (latency of the pipeline is not counted)"
    ]


@lru_cache(maxsize=1024)
def _access_ns(kib: float, node_nm: float, cell: str) -> float:
    return float(tech.sram_access_ns(kib, node_nm, cell))
