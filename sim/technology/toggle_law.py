"""Energy of multiply-adds and registers from the bits that flip: intercept + slope x flips.

Li et al. (arXiv:2002.05293, ASP-DAC 2021) find the energy of a datapath near linear in the flips of its operands, in
post-layout simulation; the fit itself is not in what could be obtained of the paper. So the anchor is published and the split
is derived:

- On random data (half of the bits of both operands flip from one MAC to the next) a MAC costs what the arithmetic table
  says. `average` and `toggles` therefore agree there.
- The adder is all intercept: it adds a product to a sum that changes in every cycle, whether the product changes or not.
- The multiplier has an intercept and a slope in the flips per bit of both operands, fitted to a gate-level count
  (`table_toggle`). The true curve is concave: the first flips cost most, and with nothing flipping a multiplier takes nothing
  but leakage (counted elsewhere). The ranges of the two constants span its chords from random data down to 0.05 flips per bit of
  one operand. What the gate count says, and the law, as shares of the energy on random data:

| flips per bit (one, other) | count | law | relative error |
| -------------------------- | ----- | ---- | -------------- |
| 0, 0.5                     | 0.833 | 0.72 | -14 %          |
| 0, 0.3                     | 0.611 | 0.61 | 0 %            |
| 0, 0.2                     | 0.461 | 0.55 | +20 %          |
| 0, 0.1                     | 0.269 | 0.50 | +84 %          |
| 0, 0.05                    | 0.145 | 0.47 | +223 %         |
| 0.1, 0.1                   | 0.447 | 0.55 | +24 %          |
| 0.25, 0.25                 | 0.767 | 0.72 | -6 %           |
| 0.5, 0.25                  | 0.922 | 0.86 | -7 %           |

The first five are where weight-stationary and input-stationary arrays run, one operand of which rests: weights with a Laplace
distribution under ReLU activations (0.24 flips per bit, fewest in the high bits) cost 0.40 by the count and 0.57 by the law
there, so that what such arrays save over os is understated for quiet data. The line stays as the paper has
it; nothing is tuned.

A register likewise: its clock takes most of its energy whatever the data do, the rest goes with the flips per bit, and on
random data it costs what the table says.

Left out: glitches, wires between PEs (part of the register's switching), the other structure of a sign-magnitude multiplier.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError
from picojoule.sim.technology.constant import product_key
from picojoule.sim.technology.table_toggle import TOGGLE_CONSTANTS

__all__ = [
    "INTERCEPT",
    "REGISTER_INTERCEPT",
    "REGISTER_SLOPE",
    "SLOPE",
    "toggled_price",
    "toggled_register_price",
]

_BY_NAME = {c.name: c for c in TOGGLE_CONSTANTS}
INTERCEPT, SLOPE = _BY_NAME["mac.toggle.intercept"], _BY_NAME["mac.toggle.slope"]
REGISTER_INTERCEPT, REGISTER_SLOPE = _BY_NAME["register.toggle.intercept"], _BY_NAME["register.toggle.slope"]

Price = dict[str, float]
"""Energy by constant, pJ; a key is a constant or a product of them (`sampling`)."""


def toggled_price(price: Mapping[str, npt.ArrayLike], weight_rate: float, activation_rate: float) -> Price:
    """Return the price of a MAC on data that flip so many bits, from its price on random data.

    Parts priced by a multiplier ("multiply" in the key) follow the law, the rest stays.

    Args:
        price: energy by constant of a MAC on random data, as `multiply_add_energy_pj` itemises it.
        weight_rate: flips per bit of the weight at a multiplier's input from one MAC to the next, 0 to 1; 0.5 is random.
        activation_rate: the same of the activation.

    Raises:
        InputError: for a rate outside 0 to 1.

    """
    for what, rate in (("weight", weight_rate), ("activation", activation_rate)):
        if not 0.0 <= rate <= 1.0:
            raise InputError(f"{what} flips per bit must lie between 0 and 1, got {rate}")
    made: Price = {}
    for key, value in price.items():
        energy_pj = float(np.asarray(value))
        if "multiply" not in key:
            made[key] = energy_pj
            continue
        made[product_key(key, INTERCEPT.name)] = energy_pj * INTERCEPT.value
        made[product_key(key, SLOPE.name)] = energy_pj * SLOPE.value * (weight_rate + activation_rate)
    return made


def toggled_register_price(key: str, bit_pj: float, rate: float) -> Price:
    """Return the price of a clocked register bit that flips at `rate` (0 to 1; 0.5 is random), from that on random data.

    Raises:
        InputError: for a rate outside 0 to 1.

    """
    if not 0.0 <= rate <= 1.0:
        raise InputError(f"register flips per bit must lie between 0 and 1, got {rate}")
    return {
        product_key(key, REGISTER_INTERCEPT.name): bit_pj * REGISTER_INTERCEPT.value,
        product_key(key, REGISTER_SLOPE.name): bit_pj * REGISTER_SLOPE.value * 2.0 * rate,
    }
