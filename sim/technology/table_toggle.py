"""Constants of the laws that tie the energy of multipliers and registers to the bits that flip (`toggle_law`)."""

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated

__all__ = ["TOGGLE_CONSTANTS"]

_COUNT = (
    "derived: our gate-level count of an 8 x 8 Baugh-Wooley array multiplier (zero delay, every gate output weighs the same, "
    "20,000 random pairs at flip rates 0 to 0.5 in steps of 0.1 but the origin, least squares through the point of random "
    "data; rms error 0.08, worst 0.23 of the random energy, that is up to +84 % of the count where one operand rests: table in "
    "`toggle_law`; `tests/sim/gate_multiplier.py`)"
)

_REGISTER = (
    "Aladdin's 40 nm register at 1 ns: internal 7.94 fJ and switching 1.06 fJ a bit, in sum the 9 fJ of `register.bit.40nm` "
    "(table in the repository ashleyswang/pm-tech-lib); that its activity is random data is our assumption"
)

TOGGLE_CONSTANTS: tuple[Constant, ...] = (
    estimated(
        "mac.toggle.intercept",
        0.44,
        "1",
        ConstantClass.OTHER,
        f"share of a multiplier's energy on random data that is left where the law meets no flips; {_COUNT}; range: one "
        "minus that of the slope",
        low=0.10,
        high=0.71,
    ),
    estimated(
        "mac.toggle.slope",
        0.56,
        "1",
        ConstantClass.OTHER,
        "share of a multiplier's energy on random data that goes with the flips per bit of both inputs, added; energy "
        f"nearly linear in flips: Li et al., arXiv:2002.05293; {_COUNT}; range: the flattest chord to random data on that "
        "grid, and the steepest with one operand at rest and 0.05 flips per bit of the other",
        low=0.29,
        high=0.90,
    ),
    estimated(
        "register.toggle.intercept",
        0.88,
        "1",
        ConstantClass.OTHER,
        f"share of a register's energy on random data that its clock takes whatever the data do; {_REGISTER}; range: one minus "
        "that of the slope",
        low=0.5,
        high=0.925,
    ),
    estimated(
        "register.toggle.slope",
        0.12,
        "1",
        ConstantClass.OTHER,
        f"share of a register's energy on random data that goes with flips; {_REGISTER}; lower end: another release of "
        "Aladdin's table (6.11 and 0.50 fJ), upper end: our estimate, as internal energy too grows with flips",
        low=0.075,
        high=0.5,
    ),
)
