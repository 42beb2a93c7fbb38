"""Small networks for tests of the engine, and reports of them."""

import numpy as np

from picojoule.accel.deform import DeformSpec, DeformUnit
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import constant_fill

SPEC = DeformSpec(name="board")
RELU = at.ActivationAttributes(kind=at.ActivationKind.RELU)
GRID = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], dtype=np.float32).reshape(1, 18, 1, 1)


class Build:
    """Layers of small networks, one line each."""

    def __init__(self, channels, rows=8, cols=8):
        self.made = NetworkBuilder("net")
        self.x = self.made.input("x", TensorType(shape=(1, channels, rows, cols), batch_axis=0))

    def conv(self, x, outputs, kernel=1, *, groups=1, stride=1, dilation=1, name="conv"):
        w = parameter(f"{name}.w", constant_fill(0.5, (outputs, x.shape[1] // groups, kernel, kernel)))
        pad = dilation * (kernel - 1) // 2
        attributes = at.ConvAttributes(
            stride=(stride, stride), padding_begin=(pad, pad), padding_end=(pad, pad), dilation=(dilation, dilation),
            groups=groups,
        )  # fmt: skip
        return self.made.add(Op.CONV, [x, w], attributes, name=name)[0]

    def depthwise(self, x, kernel=3, **kwargs):
        return self.conv(x, x.shape[1], kernel, groups=x.shape[1], **kwargs)

    def op(self, op, attributes, *operands, name):
        return self.made.add(op, list(operands), attributes, name=name)[0]

    def relu(self, x, name="relu"):
        return self.op(Op.ACTIVATION, RELU, x, name=name)

    def elementwise(self, kind, *operands, name):
        return self.op(Op.ELEMENTWISE, at.ElementwiseAttributes(kind=at.ElementwiseKind(kind)), *operands, name=name)

    def deform(self, x, form, *, low=-6.0, high=6.0, full=False, outputs=None, name="deform"):
        """Add a deformable 3x3 layer of a form; offsets come from a 1x1 layer."""
        channels = x.shape[1]
        if form == "fixed":
            offset = constant("zero", np.zeros((1, 18, 8, 8), dtype=np.float32))
        else:
            offset = self.conv(x, 1 if form == "square" else 18, name="offset")
        if form in ("bound", "square"):
            clip = at.ActivationAttributes(kind=at.ActivationKind.CLIP, alpha=low, beta=high)
            offset = self.op(Op.ACTIVATION, clip, offset, name="clip")
            offset = self.elementwise("round", offset, name="round")
        if form == "square":
            offset = self.elementwise("sub", offset, constant("one", np.ones((), dtype=np.float32)), name="sub")
            offset = self.elementwise("mul", offset, constant("grid", GRID), name="mul")
        groups = 1 if full else channels
        w = parameter(f"{name}.w", constant_fill(0.5, (outputs or channels, channels // groups, 3, 3)))
        attributes = at.DeformConvAttributes(
            stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1), groups=groups
        )
        return self.made.add(Op.DEFORM_CONV, [x, w, offset], attributes, name=name)[0]

    def finish(self, *outputs):
        return self.made.finish(list(outputs))


def evaluate(network, spec=SPEC, **kwargs):
    return DeformUnit(spec).evaluate(network, **kwargs)


def rows(report):
    return {row.name: row for row in report.layers}


def deformable(form, size=32, **kwargs):
    b = Build(32, size, size)
    return b.finish(b.deform(b.x, form, **kwargs))
