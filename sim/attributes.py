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
    OPAQUE = "opaque"


MAC_OPS = frozenset({Op.CONV, Op.LINEAR, Op.MATMUL, Op.DEFORM_CONV})
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
    """Unary non-linear functions; `alpha` and `beta` carry the parameters a kind has (clip: low and high)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationAttributes:
    """Clip: alpha = low, beta = high. Hard sigmoid: max(0, min(1, alpha x + beta)). Leaky ReLU, ELU, softplus: alpha."""

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
    NOT = "not"
    AND = "and"
    OR = "or"
    EQUAL = "equal"
    LESS = "less"
    GREATER = "greater"
    LESS_EQUAL = "less_equal"
    GREATER_EQUAL = "greater_equal"
    WHERE = "where"
    CAST = "cast"
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementwiseAttributes:
    """Kind of the operation; `dtype` is the target type of a cast."""

    kind: ElementwiseKind
    dtype: str | None = None


class ReduceKind(StrEnum):
    """Reductions."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    MIN = "min"
    PROD = "prod"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceAttributes:
    """Reduction over `axes` (non-negative)."""

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
    """Constant, edge or reflect padding, one (begin, end) pair per axis."""

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
    """Spatial resampling to the result's type. `coordinates`: asymmetric, half_pixel or align_corners."""

    mode: str
    coordinates: str = "half_pixel"
    nearest_rounding: str = "floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingAttributes:
    """table.take(indices, axis); operands are table, indices."""

    axis: int = 0


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
    | OpaqueAttributes
)
