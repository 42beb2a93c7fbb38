"""What each operator needs besides its operands, enough to execute it. One frozen value per operator."""

from dataclasses import dataclass
from enum import StrEnum

Ints = tuple[int, ...]


class Op(StrEnum):
    """Operators of the workload."""

    CONV = "conv"
    LINEAR = "linear"
    MATMUL = "matmul"
    DEFORM_CONV = "deform_conv"
    POOL = "pool"
    NORM = "norm"
    ACTIVATION = "activation"
    SOFTMAX = "softmax"
    ELEMENTWISE = "elementwise"
    REDUCE = "reduce"
    CONCAT = "concat"
    SPLIT = "split"
    SLICE = "slice"
    PAD = "pad"
    RESHAPE = "reshape"
    TRANSPOSE = "transpose"
    EXPAND = "expand"
    RESIZE = "resize"
    EMBEDDING = "embedding"
    RECURRENT = "recurrent"
    QUANTIZE = "quantize"
    GATHER = "gather"
    SCATTER = "scatter"
    SORT = "sort"
    CUMULATIVE = "cumulative"
    GRID_SAMPLE = "grid_sample"
    OPAQUE = "opaque"


MAC_OPS = frozenset({Op.CONV, Op.LINEAR, Op.MATMUL, Op.DEFORM_CONV, Op.RECURRENT})
"""Operators made of multiply-accumulates."""
VIEW_OPS = frozenset({Op.RESHAPE})
"""Operators that only rename elements in memory order: they move nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvAttributes:
    """Convolution over the last `len(stride)` axes of [batch, channel, *space].

    `padding_begin` and `padding_end` count zeros before and after each axis. Transposed: the filter is
    [in, out / groups, *kernel] and `output_padding` lengthens the result.
    """

    stride: Ints
    padding_begin: Ints
    padding_end: Ints
    dilation: Ints
    groups: int = 1
    transposed: bool = False
    output_padding: Ints = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeformConvAttributes:
    """Deformable 2-D convolution; operands are ifmap, filter, offset[, mask][, bias] as in ONNX DeformConv."""

    stride: Ints
    padding_begin: Ints
    padding_end: Ints
    dilation: Ints
    groups: int = 1
    offset_groups: int = 1
    has_mask: bool = False
    has_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAttributes:
    """y = x W^T + b over the last axis; W is [out, in]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulAttributes:
    """Batched a @ b with broadcasting over the leading axes."""


class PoolKind(StrEnum):
    """What a pooling window returns."""

    MAX = "max"
    AVERAGE = "average"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAttributes:
    """Windows over the last axes; `output_size` set means adaptive pooling and the window fields are empty."""

    kind: PoolKind
    kernel: Ints = ()
    stride: Ints = ()
    padding_begin: Ints = ()
    padding_end: Ints = ()
    dilation: Ints = ()
    ceil_mode: bool = False
    count_include_pad: bool = True
    output_size: Ints = ()


class NormKind(StrEnum):
    """Normalisations; batch norm uses stored statistics (inference)."""

    BATCH = "batch"
    LAYER = "layer"
    GROUP = "group"
    INSTANCE = "instance"
    RMS = "rms"
    LRN = "lrn"


@dataclass(frozen=True, slots=True, kw_only=True)
class NormAttributes:
    """Batch: operands x, scale, bias, mean, variance. Others: x[, scale][, bias].

    `axes` is the number of trailing axes for layer and RMS norm, `groups` belongs to group norm, `size alpha beta bias`
    to local response normalisation.
    """

    kind: NormKind
    epsilon: float = 1e-5
    axes: int = 1
    groups: int = 1
    has_scale: bool = True
    has_bias: bool = True
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0


class ActivationKind(StrEnum):
    """Unary non-linear functions; `alpha` and `beta` carry the parameters a kind has."""

    RELU = "relu"
    CLIP = "clip"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    HARD_SIGMOID = "hard_sigmoid"
    HARD_SWISH = "hard_swish"
    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    LEAKY_RELU = "leaky_relu"
    ELU = "elu"
    SELU = "selu"
    SOFTPLUS = "softplus"
    MISH = "mish"
    ERF = "erf"
    CELU = "celu"
    SOFTSIGN = "softsign"
    LOG_SIGMOID = "log_sigmoid"
    THRESHOLD = "threshold"
    SOFT_SHRINK = "soft_shrink"
    HARD_SHRINK = "hard_shrink"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationAttributes:
    """Clip: alpha = low, beta = high. Hard sigmoid: max(0, min(1, alpha x + beta)). Leaky ReLU, ELU, CELU, softplus: alpha.

    Threshold: x where x > alpha, else beta. Soft and hard shrink: alpha is lambda, half the width of the dead zone.
    """

    kind: ActivationKind
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxAttributes:
    """Softmax (or its logarithm) over `axis`."""

    axis: int
    log: bool = False


class ElementwiseKind(StrEnum):
    """Element-wise arithmetic with numpy broadcasting; operands in order, repeats allowed."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    POW = "pow"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    NEG = "neg"
    ABS = "abs"
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    EXP = "exp"
    LOG = "log"
    RECIPROCAL = "reciprocal"
    SIGN = "sign"
    ROUND = "round"
    FLOOR = "floor"
    CEIL = "ceil"
    SIN = "sin"
    COS = "cos"
    TAN = "tan"
    ASIN = "asin"
    ACOS = "acos"
    ATAN = "atan"
    SINH = "sinh"
    COSH = "cosh"
    ASINH = "asinh"
    ACOSH = "acosh"
    ATANH = "atanh"
    LOG1P = "log1p"
    EXPM1 = "expm1"
    TRUNC = "trunc"
    MOD = "mod"
    FMOD = "fmod"
    FLOOR_DIVIDE = "floor_divide"
    NOT = "not"
    AND = "and"
    OR = "or"
    XOR = "xor"
    IS_NAN = "is_nan"
    IS_INF = "is_inf"
    EQUAL = "equal"
    NOT_EQUAL = "not_equal"
    LESS = "less"
    GREATER = "greater"
    LESS_EQUAL = "less_equal"
    GREATER_EQUAL = "greater_equal"
    WHERE = "where"
    CAST = "cast"
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementwiseAttributes:
    """Kind of the operation; `dtype` is the target type of a cast. `mod` has the divisor's sign, `fmod` the dividend's."""

    kind: ElementwiseKind
    dtype: str | None = None


class ReduceKind(StrEnum):
    """Reductions."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    MIN = "min"
    PROD = "prod"
    ARGMAX = "argmax"
    ARGMIN = "argmin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceAttributes:
    """Reduction over `axes` (non-negative). The arg kinds take one axis and return the index of its first extreme value."""

    kind: ReduceKind
    axes: Ints
    keepdims: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatAttributes:
    """Concatenation along `axis`."""

    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitAttributes:
    """Cut along `axis` into pieces of `sizes`, one result each."""

    axis: int
    sizes: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceAttributes:
    """x[start:stop:step] on `axes`; bounds are already clamped to the axis."""

    axes: Ints
    starts: Ints
    stops: Ints
    steps: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class PadAttributes:
    """Constant, edge, reflect or wrap (circular) padding, one (begin, end) pair per axis."""

    begin: Ints
    end: Ints
    mode: str = "constant"
    value: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshapeAttributes:
    """Same elements, another shape; the target is the result's type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransposeAttributes:
    """Result axis i is operand axis `permutation[i]`."""

    permutation: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandAttributes:
    """Broadcast to the result's type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeAttributes:
    """Spatial resampling to the result's type. `mode`: nearest, linear or cubic (with `cubic_a`).

    `coordinates`: asymmetric, half_pixel or align_corners. `scales`, one per axis, place the samples where the source states
    them; empty means the ratio of the sizes.
    """

    mode: str
    coordinates: str = "half_pixel"
    nearest_rounding: str = "floor"
    scales: tuple[float, ...] = ()
    cubic_a: float = -0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingAttributes:
    """table.take(indices, axis); operands are table, indices."""

    axis: int = 0


class RecurrentKind(StrEnum):
    """Cells of a recurrent layer."""

    LSTM = "lstm"
    GRU = "gru"
    RNN_TANH = "rnn_tanh"
    RNN_RELU = "rnn_relu"


GATES = {RecurrentKind.LSTM: 4, RecurrentKind.GRU: 3, RecurrentKind.RNN_TANH: 1, RecurrentKind.RNN_RELU: 1}
"""Products of the hidden state per cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentAttributes:
    """One direction of one recurrent layer, after its input has been multiplied (which is a linear layer of its own).

    Operands: gates, recurrent weight [gates * hidden, hidden][, recurrent bias [gates * hidden]][, h][, c].
    `gates` holds W x + b for every step, [time, batch, gates * hidden] for `time_axis` 0, [batch, time, ...] for 1. The
    states h and c, [batch, hidden], come with `has_state` (c for LSTM only); they start at zero without it.
    Results: y of every step, last h, and for LSTM last c. Gates in the order of torch: LSTM input, forget, cell, output; GRU
    reset, update, new. `reset_after`: GRU applies its reset gate to the product R h + b (torch, cuDNN), not to h before it.
    `reverse` runs from the last step to the first.
    """

    kind: RecurrentKind
    hidden: int
    time_axis: int = 0
    reverse: bool = False
    has_bias: bool = False
    has_state: bool = False
    reset_after: bool = True


class QuantizeKind(StrEnum):
    """Between real values and integer codes."""

    QUANTIZE = "quantize"
    DEQUANTIZE = "dequantize"
    FAKE = "fake"
    DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeAttributes:
    """Operands: x, scale[, zero point], one number each or one per element of `axis`.

    Quantize: code = clamp(round half even(x / scale) + zero point, low, high). Dequantize: (code - zero point) * scale.
    Fake: both, one after the other. Dynamic (operand x only) takes the scale from the values as ONNX
    DynamicQuantizeLinear does; results: codes, scale, zero point. The first three cost nothing: whoever writes a value writes
    it in the format it is stored in.
    """

    kind: QuantizeKind
    low: int
    high: int
    axis: int | None = None
    has_zero_point: bool = False


class GatherKind(StrEnum):
    """How indices address elements."""

    ELEMENTS = "elements"
    ND = "nd"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherAttributes:
    """Operands: data, indices; as ONNX GatherElements (along `axis`) or GatherND (after `batch_axes` leading axes)."""

    kind: GatherKind
    axis: int = 0
    batch_axes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatterAttributes:
    """Operands: data, indices, updates; as ONNX ScatterElements or ScatterND. `reduction`: none, add, mul, max or min."""

    kind: GatherKind
    axis: int = 0
    reduction: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class SortAttributes:
    """The first `count` values in sorted order along `axis`; results: values, indices."""

    axis: int
    count: int
    largest: bool = True


class CumulativeKind(StrEnum):
    """Running totals."""

    SUM = "sum"
    PROD = "prod"


@dataclass(frozen=True, slots=True, kw_only=True)
class CumulativeAttributes:
    """Running sum or product along `axis`; `exclusive` leaves out the element itself, `reverse` runs from the end."""

    kind: CumulativeKind
    axis: int
    exclusive: bool = False
    reverse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSampleAttributes:
    """Operands: x [batch, channel, *space], grid [batch, *space out, rank] of coordinates from -1 to 1.

    `mode`: linear, nearest or cubic; `padding`: zeros, border or reflection.
    """

    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueAttributes:
    """An operator we do not understand; `original` is its name in the source."""

    original: str


Attributes = (
    ConvAttributes
    | DeformConvAttributes
    | LinearAttributes
    | MatmulAttributes
    | PoolAttributes
    | NormAttributes
    | ActivationAttributes
    | SoftmaxAttributes
    | ElementwiseAttributes
    | ReduceAttributes
    | ConcatAttributes
    | SplitAttributes
    | SliceAttributes
    | PadAttributes
    | ReshapeAttributes
    | TransposeAttributes
    | ExpandAttributes
    | ResizeAttributes
    | EmbeddingAttributes
    | RecurrentAttributes
    | QuantizeAttributes
    | GatherAttributes
    | ScatterAttributes
    | SortAttributes
    | CumulativeAttributes
    | GridSampleAttributes
    | OpaqueAttributes
)
