"""Systolic arrays of multiply-accumulate PEs: output-, weight- and input-stationary."""

from picojoule.accel.systolic.accelerator import SystolicArray
from picojoule.accel.systolic.spec import SystolicSpec

__all__ = ["SystolicArray", "SystolicSpec"]
