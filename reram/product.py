"""The arithmetic hook: an integer weight matrix in the crossbars of a design, for inputs with or without a sign.

Unsigned inputs stream as they are. Inputs with a sign stream either in two's complement, x = low - 2^(m-1) s with the
sign bit s in a step of its own (ISAAC's way), or as bipolar pulses. What comes decides: a layer after a ReLU never
sends a sign.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.arithmetic import ProgrammedCrossbar, program
from picojoule.reram.spec import ReramSpec, SignedInputs, crossbar_spec


class ReramProduct:
    """Weights [out, in] in the crossbars of a design; each way of streaming is programmed when it is first needed."""

    def __init__(
        self, weights: NDArray[np.int64], spec: ReramSpec, weight_bits: int, input_bits: int, signed: bool
    ) -> None:
        self.weights, self.spec = weights, spec
        self.weight_bits, self.input_bits, self.signed = weight_bits, input_bits, signed
        self._programs: dict[tuple[int, bool], ProgrammedCrossbar] = {}

    @property
    def exact(self) -> bool:
        """Whether no conversion can lose anything, whatever the inputs."""
        # The sign step and the bits below it use pulses no larger than the unsigned stream, on the same cells and ADCs.
        streams = [self._program(self.input_bits, bipolar=False)]
        if (
            self.spec.signed_inputs is SignedInputs.BIPOLAR
        ):  # also for unsigned formats: the caller may find signs in them
            streams.append(self._program(self.input_bits, bipolar=True))
        return all(s.lossless_share == 1.0 for s in streams)

    def matmul(self, inputs: NDArray[Any], *, signed: bool | None = None) -> NDArray[np.float64]:
        """Return [out, batch] for integer inputs [in, batch], in integer product units.

        Bipolar designs stream by the format, `signed`, so that a sample does not depend on those beside it; with a sign step
        a column without negative inputs computes the same either way. True also lets inputs of an unsigned format have signs:
        calibration gives such a format a sign where its values need one.

        Raises:
            InputError: if an input leaves the range of the format.

        """
        negative = bool(inputs.size and inputs.min() < 0)
        has_sign = self.signed or bool(signed)
        by_format = bool(signed) and self.spec.signed_inputs is SignedInputs.BIPOLAR
        if not (negative or by_format):
            return self._program(self.input_bits, bipolar=False).matmul(inputs)
        if not has_sign or self.spec.signed_inputs is SignedInputs.BIPOLAR:
            return self._program(self.input_bits, bipolar=has_sign).matmul(inputs)
        low_bits = self.input_bits - 1
        sign = inputs < 0
        low = inputs + sign * float(1 << low_bits)
        y = self._program(low_bits, bipolar=False).matmul(low)
        return y - float(1 << low_bits) * self._program(1, bipolar=False).matmul(sign)

    def _program(self, bits: int, *, bipolar: bool) -> ProgrammedCrossbar:
        key = (bits, bipolar)
        if key not in self._programs:
            self._programs[key] = program(self.weights, crossbar_spec(self.spec, self.weight_bits, bits, bipolar))
        return self._programs[key]


def programmer(
    spec: ReramSpec, weight_bits: int, input_bits: int, signed: bool
) -> Callable[[NDArray[np.int64]], ReramProduct]:
    """Return what places integer weights of a layer in the crossbars of a design (it pickles)."""
    return partial(ReramProduct, spec=spec, weight_bits=weight_bits, input_bits=input_bits, signed=signed)
