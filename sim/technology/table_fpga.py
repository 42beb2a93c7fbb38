"""Constants of FPGA logic at 16 nm (Zynq UltraScale+): what an operation, a block RAM access, a clocked LUT and standing by cost.

No maker prints such energies. They are derived from figures of whole designs, most of them vectorless estimates of the
maker's power tool (Vivado `report_power`), which assume activities and are good to a factor of two at best; hence the ranges.
The designs: a 261-tap FIR filter of 131 DSP slices at 347 MHz on an XCZU4EV (filter 0.132 W with the vendor's core, device
static 0.455 W, processing system 2.228 W); a regular-expression matcher on an Alveo U50 (475,034 LUTs at 180 MHz, its shell at
300: clocks 2.464 W, CLB logic 1.894 W, signals 3.132 W, 412.5 block RAMs 1.532 W, device static 2.335 W); a hash unit on an
XCZU7EV (device static 0.694 W). Lower ends come from our ASIC chain (Horowitz scaled to 16 nm, CACTI) for the bare circuit
without programmable wires. Cross-check, not used for any value: Kuon and Rose (TCAD 2007) found FPGA logic at about 14 times
the dynamic power of the same in standard cells.
"""

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["FPGA_CONSTANTS"]

_EVENT, _STATIC = ConstantClass.PER_EVENT, ConstantClass.STATIC
_FIR = "Vivado report_power (vectorless) of a 131-slice FIR core on an XCZU4EV at 347 MHz"
_U50 = (
    "Vivado report_power (vectorless) of a 475,034-LUT design on an Alveo U50 (16 nm), kernels at 180 MHz, shell at 300"
)

FPGA_CONSTANTS: tuple[Constant, ...] = (
    estimated(
        "fpga.dsp48.operation",
        2.0,
        "pJ",
        _EVENT,
        f"derived: 0.132 W / (131 x 347 MHz) = 2.9 pJ with the core's logic around the slices, {_FIR}: upper end; lower end: a "
        "27 x 18 multiply-add with its registers by Horowitz at 16 nm; in between, our estimate for the slice and its operands",
        node_nm=16,
        low=0.7,
        high=2.9,
    ),
    estimated(
        "fpga.bram.port_access",
        3.0,
        "pJ",
        ConstantClass.PER_ACCESS,
        f"derived, per 36-bit access of one port: 1.532 W / 412.5 blocks / 180 to 300 MHz / 2 ports = 6.2 to 10.3 pJ, {_U50}: "
        "upper end; lower end: CACTI at 22 nm, 4.5 KiB, 36 bits (0.87 pJ); value: their geometric mean",
        node_nm=16,
        low=0.87,
        high=10.3,
    ),
    estimated(
        "fpga.fabric.lut_cycle",
        0.059,
        "pJ",
        _EVENT,
        "derived, per LUT in use and cycle at work, flip-flops and wires with it: (1.894 + 3.132) W / 475,034 / 180 MHz = 0.059 "
        f"pJ, {_U50}; at 300 MHz 0.035; toggling of a real design may be half or twice the tool's",
        node_nm=16,
        low=0.018,
        high=0.12,
    ),
    estimated(
        "fpga.clock.lut_cycle",
        0.029,
        "pJ",
        _EVENT,
        f"derived, clock tree per LUT in use and cycle, at work or not: 2.464 W / 475,034 / 180 MHz, {_U50}; at 300 MHz 0.017",
        node_nm=16,
        low=0.012,
        high=0.058,
    ),
    estimated(
        "fpga.static.device",
        310.0,
        "mW",
        _STATIC,
        "derived: line through Vivado's device static power of an XCZU4EV (0.455 W, 87,840 LUTs) and an XCZU7EV (0.694 W, "
        "230,400 LUTs) (the latter at 29 degrees), continued to no LUTs",
        node_nm=16,
        low=100.0,
        high=900.0,
    ),
    estimated(
        "fpga.static.lut",
        0.0017,
        "mW",
        _STATIC,
        "derived: slope of the same line per LUT of the device, used or not; an Alveo U50 (870,016 LUTs) lies 30 % above it",
        node_nm=16,
    ),
    estimated(
        "fpga.processor.uncore",
        730.0,
        "mW",
        _STATIC,
        "derived: memory controller, interconnect and PLLs of a Zynq UltraScale+: Vivado's processing system of 2.228 W less "
        "the 1.5 W we give four busy Cortex-A53; upper end: all of it",
        node_nm=16,
        low=300.0,
        high=2228.0,
    ),
)
