"""Constants of ISAAC-CE (Shafiee et al., ISCA 2016, component table), 32 nm, 1.2 GHz.

ISAAC prints powers of components that are busy all the time. `isaac.X.power` and `isaac.X.area` are those, for **one**
instance, and add up to its totals (329.8 mW and 0.372 mm2 a tile). Energies per event are powers times the time of an
event: a crossbar read takes 100 ns, a conversion 1/1.28 GHz, a digital step 1/1.2 GHz. Price a design either by events
or by powers, never by both.
"""

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["CROSSBAR_CONSTANTS"]

_ISAAC = "ISAAC, ISCA 2016, component table"
_NODE_NM = 32.0
_EVENT, _ACCESS = ConstantClass.PER_EVENT, ConstantClass.PER_ACCESS

# One instance: name, mW, mm2, what it is
_INSTANCES = (
    ("adc", 16 / 8, 0.0096 / 8, "8 bits, 1.28 GS/s"),
    ("dac", 4 / 1024, 0.00017 / 1024, "1 bit, one row"),
    ("sample_hold", 0.01 / 1024, 0.00004 / 1024, "one column"),
    ("crossbar", 2.4 / 8, 0.0002 / 8, "128 x 128 cells of 2 bits"),
    ("shift_add", 0.2 / 4, 0.00024 / 4, "in the IMA and in the tile"),
    ("input_register", 1.24, 0.0021, "2 KB, one per IMA"),
    ("output_register", 0.23, 0.00077, "256 B, one per IMA"),
    ("edram", 20.7, 0.083, "64 KB, 4 banks, one per tile"),
    ("bus", 7.0, 0.090, "384 wires, one per tile"),
    ("router", 42.0, 0.151, "32-bit flits, 8 ports, shared by 4 tiles"),
    ("sigmoid", 0.52 / 2, 0.0006 / 2, "two per tile"),
    ("max_pool", 0.4, 0.00024, "one per tile"),
    ("tile_output_register", 1.68, 0.0032, "3 KB, one per tile"),
)


def _instances() -> tuple[Constant, ...]:
    rows = []
    for name, power_mw, area_mm2, note in _INSTANCES:
        source = f"{_ISAAC}, one instance ({note})"
        rows.append(
            estimated(f"isaac.{name}.power", power_mw, "mW", ConstantClass.OTHER, f"{source}, busy", node_nm=_NODE_NM)
        )
        # The regression over surveyed converters gives an 8-bit ADC 5.4 times ISAAC's area.
        high_mm2 = 0.00647 if name == "adc" else None
        rows.append(
            estimated(
                f"isaac.{name}.area", area_mm2, "mm2", ConstantClass.AREA, source, node_nm=_NODE_NM, high=high_mm2
            )
        )
    return tuple(rows)


def _energy(
    name: str, value_pj: float, kind: ConstantClass, source: str, low: float | None = None, high: float | None = None
) -> Constant:
    return estimated(f"isaac.{name}", value_pj, "pJ", kind, source, node_nm=_NODE_NM, low=low, high=high)


CROSSBAR_CONSTANTS: tuple[Constant, ...] = (
    *_instances(),
    _energy(
        "adc.conversion",
        1.5625,
        _EVENT,
        f"{_ISAAC}: 2 mW at 1.28 GS/s, 8 bits; scaled SAR 1.67, survey regression 1.93, MNSIM's 1.1 GS/s part 3.64",
        low=1.25,
        high=3.64,
    ),
    _energy("dac.drive", 0.39, _EVENT, f"{_ISAAC}: 4 mW / 1024 rows for 100 ns; HWComponents 0.417", high=0.59),
    _energy("sample_hold.sample", 0.000977, _EVENT, f"{_ISAAC}: 0.01 mW / 1024 columns for 100 ns"),
    _energy(
        "crossbar.read",
        30.0,
        _EVENT,
        f"{_ISAAC}: 0.3 mW for 100 ns, a whole 128 x 128 array; follows cell conductance and data",
        low=10.0,
        high=90.0,
    ),
    _energy("shift_add.step", 0.0417, _EVENT, f"{_ISAAC}: 0.05 mW at 1.2 GHz; HWComponents 0.021", low=0.021),
    _energy(
        "input_register.bit",
        0.121,
        _ACCESS,
        f"{_ISAAC}: 1.24 mW for 100 ns over the 1024 input bits of an IMA's eight crossbars",
    ),
    _energy(
        "output_register.bit",
        0.0112,
        _ACCESS,
        f"{_ISAAC}: 0.23 mW for 100 ns over the 2048 bits it holds, all updated in a read cycle",
    ),
    _energy("edram.bit", 20.45 / 256, _ACCESS, "HWComponents library: 20.45 pJ per 256 bits"),
    _energy("bus.bit", 0.054, _ACCESS, "HWComponents library"),
    _energy("router.bit", 20.74 / 256, _ACCESS, "HWComponents library: 20.74 pJ per 256-bit flit and hop"),
    _energy("sigmoid.step", 0.217, _EVENT, f"{_ISAAC}: 0.26 mW at 1.2 GHz"),
    _energy("max_pool.step", 0.333, _EVENT, f"{_ISAAC}: 0.4 mW at 1.2 GHz"),
    estimated(
        "isaac.hypertransport.power",
        10400.0,
        "mW",
        ConstantClass.STATIC,
        f"{_ISAAC}: four links of 6.4 GB/s at 1.6 GHz, always on; range of our estimate",
        node_nm=_NODE_NM,
        low=3000.0,
        high=12500.0,
    ),
    estimated(
        "isaac.hypertransport.area", 22.88, "mm2", ConstantClass.AREA, f"{_ISAAC}, the four links", node_nm=_NODE_NM
    ),
    estimated(
        "isaac.hypertransport.rate", 25.6, "GB/s", ConstantClass.RATE, f"{_ISAAC}: four links of 6.4 GB/s", high=25.6
    ),
    estimated(
        "isaac.crossbar.read_time",
        100.0,
        "ns",
        ConstantClass.RATE,
        "ISAAC, ISCA 2016: 128 columns through one 1.28 GS/s ADC",
        node_nm=_NODE_NM,
        low=100.0,
    ),
    estimated(
        "isaac.idle.share",
        0.1,
        "1",
        ConstantClass.STATIC,
        "estimate: the share of its busy power that a clocked part draws while idle (clock, bias and reference currents); "
        "low: leakage alone (12.6 mW/mm2 of a tile of 329.8 mW); high: nothing is gated",
        low=0.014,
        high=1.0,
    ),
    estimated(
        "reram.write.pulse",
        20.0,
        "pJ",
        _EVENT,
        "derived: (2 V)^2 / 10 kohm for 50 ns (set pulse of the CiMLoop NeuroSim cell, resistance of MNSIM's default cell); "
        "low: CiMLoop's Wan 2022 cell, 1.75 V at 250 kohm; high: CiMLoop's ISAAC cell, 2 V at 1.333 kohm for 40 ns",
        low=0.6,
        high=120.0,
    ),
)
