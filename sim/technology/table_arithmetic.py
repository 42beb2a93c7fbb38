"""Constants of digital logic: arithmetic, registers, leakage, and how far node scaling can be trusted.

Three tables that must never be mixed within one design: Horowitz at 45 nm (the default everywhere), Jouppi et al. at
7 nm, and Aladdin at 40 nm. Aladdin's 32 x 32 multiplier is four times Horowitz's (12.68 against 3.1 pJ, a 1 ns design
against a relaxed one); from Aladdin we therefore use only what Horowitz does not have: registers and leakage per area.
"""

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["ARITHMETIC_CONSTANTS"]

_HOROWITZ = "Horowitz, ISSCC 2014, energy table, 45 nm 0.9 V"
_HOROWITZ_AREA = "Horowitz, ISSCC 2014, area table, 45 nm"
_JOUPPI = "Jouppi et al., ISCA 2021, energy table, 7 nm column"
_ALADDIN = "Aladdin 40 nm table at a 1 ns cycle, as shipped with the Accelergy library plug-in"
_EVENT, _AREA, _OTHER = ConstantClass.PER_EVENT, ConstantClass.AREA, ConstantClass.OTHER

# Aladdin's multiplier over Horowitz's: the upper end of every integer multiplication.
_ALADDIN_OVER_HOROWITZ = 12.68 / 3.1


def _horowitz() -> tuple[Constant, ...]:
    adds = (("int8", 0.03, 36.0), ("int16", 0.05, 67.0), ("int32", 0.1, 137.0))
    floats = (
        ("fp16.add", 0.4, 1360.0),
        ("fp32.add", 0.9, 4184.0),
        ("fp16.multiply", 1.1, 1640.0),
        ("fp32.multiply", 3.7, 7700.0),
    )
    rows = []
    for form, energy_pj, area_um2 in adds:
        source = f"{_HOROWITZ}; upper end: Aladdin's adder is 2.1 times as much"
        rows.append(
            estimated(f"mac.{form}.add.45nm", energy_pj, "pJ", _EVENT, source, node_nm=45, high=energy_pj * 2.1)
        )
        rows.append(estimated(f"mac.{form}.add.area.45nm", area_um2, "um2", _AREA, _HOROWITZ_AREA, node_nm=45))
    for form, energy_pj, area_um2 in (("int8", 0.2, 282.0), ("int32", 3.1, 3495.0)):
        source = f"{_HOROWITZ}; upper end: Aladdin's multiplier is 4.1 times as much"
        rows.append(
            estimated(
                f"mac.{form}.multiply.45nm",
                energy_pj,
                "pJ",
                _EVENT,
                source,
                node_nm=45,
                high=energy_pj * _ALADDIN_OVER_HOROWITZ,
            )
        )
        rows.append(estimated(f"mac.{form}.multiply.area.45nm", area_um2, "um2", _AREA, _HOROWITZ_AREA, node_nm=45))
    for form, energy_pj, area_um2 in floats:
        rows.append(estimated(f"mac.{form}.45nm", energy_pj, "pJ", _EVENT, _HOROWITZ, node_nm=45))
        rows.append(estimated(f"mac.{form}.area.45nm", area_um2, "um2", _AREA, _HOROWITZ_AREA, node_nm=45))
    return tuple(rows)


def _jouppi() -> tuple[Constant, ...]:
    energies_pj = {
        "int8.add": 0.007,
        "int32.add": 0.03,
        "bf16.add": 0.11,
        "fp16.add": 0.16,
        "fp32.add": 0.38,
        "int8.multiply": 0.07,
        "int32.multiply": 1.48,
        "bf16.multiply": 0.21,
        "fp16.multiply": 0.34,
        "fp32.multiply": 1.31,
    }
    return tuple(
        estimated(f"mac.{operation}.7nm", energy_pj, "pJ", _EVENT, _JOUPPI, node_nm=7)
        for operation, energy_pj in energies_pj.items()
    )


ARITHMETIC_CONSTANTS: tuple[Constant, ...] = (
    *_horowitz(),
    *_jouppi(),
    estimated(
        "mac.int.multiply.below_8bit",
        1.0,
        "1",
        _OTHER,
        "our estimate: the 8-to-32-bit power law continued below 8 bits leaves out fixed cost (clock, drivers)",
        low=0.7,
        high=2.0,
    ),
    estimated(
        "mac.float.below_fp16",
        1.0,
        "1",
        _OTHER,
        "our estimate: the law through fp16 and fp32 continued to fewer significand bits; it gives 0.61 and 0.72 of fp16 for "
        "multiplying and adding in bf16, Jouppi's 7 nm column 0.62 and 0.69; exponent logic, which does not shrink, weighs more "
        "in 8-bit floats",
        low=0.8,
        high=2.5,
    ),
    estimated(
        "mac.select.share",
        1 / 3,
        "1",
        _OTHER,
        "our estimate: a bit of a 2:1 multiplexer, or of a conditional negation (XOR, AND), is 2 gates against the 6 of a full "
        "adder",
        low=0.15,
        high=1.0,
    ),
    estimated(
        "vector.transcendental.steps",
        6.0,
        "1",
        _OTHER,
        "our estimate: exp, tanh, reciprocal or root as 6 multiply-adds (range reduction and a degree-5 polynomial)",
        low=2.0,
        high=20.0,
    ),
    # Aladdin: registers are used; adder, multiplier, comparator and counter stand here for comparison and leakage only.
    estimated("register.bit.40nm", 0.009, "pJ", ConstantClass.PER_ACCESS, _ALADDIN, node_nm=40),
    estimated("register.bit.area.40nm", 5.98, "um2", _AREA, _ALADDIN, node_nm=40),
    estimated("aladdin.adder32.40nm", 0.21, "pJ", _EVENT, _ALADDIN, node_nm=40),
    estimated("aladdin.adder32.area.40nm", 278.0, "um2", _AREA, _ALADDIN, node_nm=40),
    estimated("aladdin.adder32.leakage.40nm", 0.0024, "mW", ConstantClass.STATIC, _ALADDIN, node_nm=40),
    estimated("aladdin.multiplier32.40nm", 12.68, "pJ", _EVENT, _ALADDIN, node_nm=40),
    estimated("aladdin.multiplier32.area.40nm", 6350.0, "um2", _AREA, _ALADDIN, node_nm=40),
    estimated("aladdin.multiplier32.leakage.40nm", 0.08, "mW", ConstantClass.STATIC, _ALADDIN, node_nm=40),
    estimated("aladdin.comparator32.40nm", 0.029, "pJ", _EVENT, _ALADDIN, node_nm=40),
    estimated("aladdin.comparator32.area.40nm", 71.0, "um2", _AREA, _ALADDIN, node_nm=40),
    estimated("aladdin.counter32.40nm", 0.251, "pJ", _EVENT, _ALADDIN, node_nm=40),
    estimated("aladdin.counter32.area.40nm", 495.5, "um2", _AREA, _ALADDIN, node_nm=40),
    estimated(
        "logic.leakage.40nm",
        12.6,
        "mW/mm2",
        ConstantClass.STATIC,
        f"{_ALADDIN}: multiplier 0.08 mW on 6350 um2 (adder: 8.6 mW/mm2); lower end: low-power cells, our estimate",
        node_nm=40,
        low=0.5,
        high=40.0,
    ),
    # How far Stillmaker's curves may be off; factors on the scaled part of an energy or area.
    estimated(
        "scaling.logic.near",
        1.0,
        "1",
        _OTHER,
        "nodes within a factor 2.1: the device families of Stillmaker and Baas 2017 differ by 0.83 (45 to 65 nm) and "
        "0.64 (45 to 20 nm); upper end our estimate",
        low=0.65,
        high=1.5,
    ),
    estimated(
        "scaling.logic.far",
        1.0,
        "1",
        _OTHER,
        "nodes further apart: the low-power family gives 0.63 of the high-performance one from 45 to 7 nm; Jouppi's "
        "7 nm column is 1.9 to 3.9 times Horowitz scaled to 7 nm",
        low=0.6,
        high=4.0,
    ),
    estimated(
        "scaling.area",
        1.0,
        "1",
        _OTHER,
        "area table of Stillmaker and Baas 2017 has two digits and one density per node; our estimate of the spread",
        low=0.7,
        high=1.5,
    ),
)
