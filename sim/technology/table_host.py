"""Constants of the host: a quad Cortex-A53 at 1.2 GHz with NEON and LPDDR4, as beside the FPGA of an Ultra96 board.

All of it is estimated from the core's peak figures, not measured by us, hence the wide ranges. A core issues at most
one 128-bit NEON multiply-accumulate a cycle: 8 fp32 or 16 int8-to-int16 operations (a multiply-add counts as two), so
the four cores peak at 38 GFLOP/s and 77 int8 GOP/s; we take a quarter of that for matrix kernels, less for plain code.
"""

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["HOST_CONSTANTS"]

_ESTIMATE = "our estimate for four Cortex-A53 cores at 1.2 GHz (Ultra96 processing system)"

HOST_CONSTANTS: tuple[Constant, ...] = (
    estimated(
        "host.cortex_a53_quad.int8",
        20.0,
        "GOP/s",
        ConstantClass.RATE,
        f"{_ESTIMATE}: a quarter of the 77 GOP/s NEON peak; multiply-add = 2 operations",
        low=6.0,
        high=60.0,
    ),
    estimated(
        "host.cortex_a53_quad.fp32",
        10.0,
        "GOP/s",
        ConstantClass.RATE,
        f"{_ESTIMATE}: a quarter of the 38 GFLOP/s NEON peak; multiply-add = 2 operations",
        low=3.0,
        high=25.0,
    ),
    estimated(
        "host.cortex_a53_quad.elementwise",
        2.0,
        "GOP/s",
        ConstantClass.RATE,
        f"{_ESTIMATE}: pools, norms and the like, hardly vectorized: about 0.4 operations a core cycle",
        low=0.5,
        high=8.0,
    ),
    estimated(
        "host.cortex_a53_quad.bandwidth",
        3.5,
        "GB/s",
        ConstantClass.RATE,
        f"{_ESTIMATE}: 40 % of the 8.5 GB/s of 32-bit LPDDR4-2133",
        low=1.5,
        high=8.5,
    ),
    estimated(
        "host.cortex_a53_quad.power",
        1500.0,
        "mW",
        ConstantClass.OTHER,
        f"{_ESTIMATE}: cores and caches while busy; DRAM is priced by its traffic",
        low=700.0,
        high=3500.0,
    ),
    estimated(
        "host.cortex_a53_quad.idle_power",
        300.0,
        "mW",
        ConstantClass.STATIC,
        f"{_ESTIMATE}: cores waiting",
        low=100.0,
        high=1000.0,
    ),
)
