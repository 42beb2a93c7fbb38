"""Technology constants: energy, area, leakage and time of arithmetic, memories, links, crossbar parts, FPGA logic and the host.

Every number is a `Constant` with unit, node, class, source and range (`constants.py` and the tables it gathers). The
functions carry them to other widths, capacities and nodes, all as arrays that broadcast; `sampling.py` turns the ranges
into ranges of totals and into P(A < B). Left out: wires on chip, clock trees, supply scaling of memories, heat.
"""

from picojoule.sim.technology.arithmetic import (
    ArithmeticTable,
    VectorOperation,
    logic_leakage_mw,
    multiply_add_area_um2,
    multiply_add_energy_pj,
    register_area_um2,
    register_energy_pj,
    register_key,
    vector_operation_energy_pj,
)
from picojoule.sim.technology.constants import (
    Constant,
    ConstantClass,
    all_constants,
    constant,
    constants_hash,
    product_key,
)
from picojoule.sim.technology.dram import chip_link_energy_pj, dram_energy_pj, dram_key, dram_types
from picojoule.sim.technology.mac_formats import (
    block_float_area_um2,
    block_float_energy_pj,
    float_law_area_um2,
    float_law_energy_pj,
    shift_add_area_um2,
    shift_add_energy_pj,
    signed_add_area_um2,
    signed_add_energy_pj,
)
from picojoule.sim.technology.operation import OperationEnergy
from picojoule.sim.technology.sampling import (
    deciding_constant,
    probability_less,
    sample_factors,
    sample_totals,
    total_range,
)
from picojoule.sim.technology.scaling import (
    DeviceFamily,
    logic_area_key,
    logic_area_scale,
    logic_energy_scale,
    logic_scale_key,
)
from picojoule.sim.technology.sram import (
    SRAM_LANE_BITS,
    SRAM_WIDEST_BITS,
    SramCell,
    SramPort,
    sram_access_ns,
    sram_area_mm2,
    sram_energy_pj,
    sram_key,
    sram_leakage_mw,
    sram_port,
)
from picojoule.sim.technology.sram_fit import sram_fit_errors, sram_fit_table

__all__ = [
    # constants
    "Constant",
    "ConstantClass",
    "all_constants",
    "constant",
    "constants_hash",
    "product_key",
    # logic
    "ArithmeticTable",
    "OperationEnergy",
    "VectorOperation",
    "block_float_area_um2",
    "block_float_energy_pj",
    "float_law_area_um2",
    "float_law_energy_pj",
    "logic_leakage_mw",
    "multiply_add_area_um2",
    "multiply_add_energy_pj",
    "register_area_um2",
    "register_energy_pj",
    "register_key",
    "shift_add_area_um2",
    "shift_add_energy_pj",
    "signed_add_area_um2",
    "signed_add_energy_pj",
    "vector_operation_energy_pj",
    # node scaling
    "DeviceFamily",
    "logic_area_key",
    "logic_area_scale",
    "logic_energy_scale",
    "logic_scale_key",
    # memories and links
    "SRAM_LANE_BITS",
    "SRAM_WIDEST_BITS",
    "SramCell",
    "SramPort",
    "chip_link_energy_pj",
    "dram_energy_pj",
    "dram_key",
    "dram_types",
    "sram_access_ns",
    "sram_area_mm2",
    "sram_energy_pj",
    "sram_fit_errors",
    "sram_fit_table",
    "sram_key",
    "sram_leakage_mw",
    "sram_port",
    # sampling
    "deciding_constant",
    "probability_less",
    "sample_factors",
    "sample_totals",
    "total_range",
]
