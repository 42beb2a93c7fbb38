"""Deformable convolution on an FPGA: a 1x1 engine, a depthwise 3x3 engine and the line buffer it samples from."""

from picojoule.accel.deform.accelerator import DeformUnit
from picojoule.accel.deform.spec import DeformSpec

__all__ = ["DeformSpec", "DeformUnit"]
