"""Constants of memories outside the array: DRAM energy per bit, and the link between chips (SRAM: `table_sram.py`).

Row hits and misses are averaged away in every DRAM figure; a caller who counts row activations adds them apart.
"""

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["MEMORY_CONSTANTS"]

_ACCESS = ConstantClass.PER_ACCESS


def _dram(kind: str, value: float, low: float, high: float, source: str) -> Constant:
    return estimated(f"dram.{kind}.bit", value, "pJ", _ACCESS, f"pJ per bit: {source}", low=low, high=high)


MEMORY_CONSTANTS: tuple[Constant, ...] = (
    # DRAM: where a value is itself the end of the published span, that end is widened by 1.2.
    _dram("lpddr", 40.0, 26.7, 60.0, "Malladi et al., ISCA 2012, via Accelergy"),
    _dram("lpddr4", 8.0, 4.0, 9.6, "Accelergy CACTI plug-in and HWComponents; vendors state 4-6 for LPDDR4X"),
    _dram("ddr3", 70.0, 20.0, 84.0, "Chatterjee et al., MICRO 2017, via Accelergy; Jouppi et al., ISCA 2021, give 20"),
    _dram("ddr4", 20.3, 15.0, 24.4, "Jouppi et al., ISCA 2021 (1300 pJ per 64 bits); others 15-20"),
    _dram("gddr5", 14.0, 11.7, 16.8, "O'Connor et al., MICRO 2017, via Accelergy"),
    _dram("gddr6", 6.5, 5.5, 7.5, "Jouppi et al., ISCA 2021 (350-480 pJ per 64 bits)"),
    _dram("hbm2", 3.9, 3.25, 7.0, "O'Connor et al., MICRO 2017; HWComponents 6.25; Jouppi et al. 3.9-7.0"),
    _dram("hbm3", 4.05, 2.7, 6.1, "HWComponents, collected from the web"),
    _dram("hbm4", 3.2, 2.1, 4.8, "HWComponents, collected from the web"),
    _dram("hmc", 4.2, 2.8, 6.3, "Accelergy"),
    estimated(
        "link.chip.128bit",
        26.0,
        "pJ",
        _ACCESS,
        "HWComponents library, ISAAC chip-to-chip link, per 128 bits; upper end: ISAAC's own table (10.4 W for four "
        "links of 6.4 GB/s) works out at 6500 pJ per 128 bits",
        low=20.0,
        high=6500.0,
    ),
)
