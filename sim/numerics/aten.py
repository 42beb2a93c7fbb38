"""Which function turns each aten operator into layers of the workload."""

from picojoule.sim.attributes import ActivationKind, CumulativeKind, NormKind, PoolKind, QuantizeKind, RecurrentKind
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import ReduceKind as Re
from picojoule.sim.numerics import aten_compute as compute
from picojoule.sim.numerics import aten_deform as deform
from picojoule.sim.numerics import aten_index as index
from picojoule.sim.numerics import aten_layout as layout
from picojoule.sim.numerics import aten_pointwise as point
from picojoule.sim.numerics import aten_quantize as quantize
from picojoule.sim.numerics import aten_reduce as reduce
from picojoule.sim.numerics.aten_compute import Handler, with_rest
from picojoule.sim.numerics.aten_einsum import einsum
from picojoule.sim.numerics.aten_recurrent import mkldnn, recurrent

IGNORED = frozenset(
    {"contiguous", "clone", "detach", "detach_", "alias", "lift_fresh", "lift_fresh_copy", "positive"}
    | {"dropout", "dropout_", "feature_dropout", "feature_dropout_", "alpha_dropout", "alpha_dropout_"}
    | {"feature_alpha_dropout", "feature_alpha_dropout_", "resolve_conj", "resolve_neg", "requires_grad_", "data"}
)
"""Operators that hand their first argument on (in evaluation)."""

SHAPE_ONLY = frozenset(
    {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"}
)
"""Operators of a tensor that look at its shape only."""

_act = point.activation

_PRODUCTS: dict[str, Handler] = {
    "conv1d": lambda c: compute.conv(c, 1),
    "conv2d": lambda c: compute.conv(c, 2),
    "conv3d": lambda c: compute.conv(c, 3),
    "conv_transpose1d": lambda c: compute.conv_transpose(c, 1),
    "conv_transpose2d": lambda c: compute.conv_transpose(c, 2),
    "conv_transpose3d": lambda c: compute.conv_transpose(c, 3),
    "convolution": compute.convolution,
    "_convolution": compute.convolution,
    "picojoule::deform_conv2d": deform.ours,
    "torchvision::deform_conv2d": deform.torchvision,
    "linear": compute.linear,
    "matmul": compute.matmul,
    "mm": compute.matmul,
    "bmm": compute.matmul,
    "mv": compute.matmul,
    "dot": compute.matmul,
    "addmm": compute.addmm,
    "einsum": einsum,
    "bilinear": compute.bilinear,
    "scaled_dot_product_attention": compute.attention,
    "_scaled_dot_product_flash_attention_for_cpu": compute.attention_with_rest,
    "_scaled_dot_product_flash_attention": compute.attention_with_rest,
    "_scaled_dot_product_efficient_attention": compute.attention_with_rest,
    "_scaled_dot_product_attention_math": compute.attention_with_rest,
    "lstm": recurrent(RecurrentKind.LSTM),
    "gru": recurrent(RecurrentKind.GRU),
    "rnn_tanh": recurrent(RecurrentKind.RNN_TANH),
    "rnn_relu": recurrent(RecurrentKind.RNN_RELU),
    "mkldnn_rnn_layer": mkldnn,
}
_NORMS: dict[str, Handler] = {
    "batch_norm": compute.batch_norm,
    "_native_batch_norm_legit_no_training": with_rest(compute.batch_norm),
    "native_batch_norm": with_rest(compute.batch_norm),
    "layer_norm": compute.norm(NormKind.LAYER),
    "native_layer_norm": with_rest(compute.norm(NormKind.LAYER)),
    "group_norm": compute.norm(NormKind.GROUP),
    "native_group_norm": with_rest(compute.norm(NormKind.GROUP)),
    "rms_norm": compute.norm(NormKind.RMS),
    "_fused_rms_norm": with_rest(compute.norm(NormKind.RMS)),
    "instance_norm": compute.instance_norm,
    "softmax": point.softmax(log=False),
    "_softmax": point.softmax(log=False),
    "_safe_softmax": point.softmax(log=False),
    "special_softmax": point.softmax(log=False),
    "log_softmax": point.softmax(log=True),
    "_log_softmax": point.softmax(log=True),
    "special_log_softmax": point.softmax(log=True),
}
_ACTIVATIONS: dict[str, Handler] = {
    "relu": _act(ActivationKind.RELU),
    "relu6": _act(ActivationKind.CLIP, low=0.0, high=6.0),
    "hardtanh": point.clip,
    "clamp": point.clip,
    "clamp_min": point.clip,
    "clamp_max": point.clip,
    "clip": point.clip,
    "sigmoid": _act(ActivationKind.SIGMOID),
    "special_expit": _act(ActivationKind.SIGMOID),
    "tanh": _act(ActivationKind.TANH),
    "hardsigmoid": _act(ActivationKind.HARD_SIGMOID, low=1 / 6, high=0.5),
    "hardswish": _act(ActivationKind.HARD_SWISH),
    "silu": _act(ActivationKind.SILU),
    "gelu": point.gelu,
    "leaky_relu": _act(ActivationKind.LEAKY_RELU, alpha="negative_slope"),
    "elu": _act(ActivationKind.ELU, alpha="alpha"),
    "selu": _act(ActivationKind.SELU),
    "celu": _act(ActivationKind.CELU, alpha="alpha"),
    "softplus": _act(ActivationKind.SOFTPLUS, alpha="beta"),
    "mish": _act(ActivationKind.MISH),
    "erf": _act(ActivationKind.ERF),
    "log_sigmoid": _act(ActivationKind.LOG_SIGMOID),
    "threshold": _act(ActivationKind.THRESHOLD, alpha="threshold", beta="value"),
    "softshrink": _act(ActivationKind.SOFT_SHRINK, alpha="lambd"),
    "hardshrink": _act(ActivationKind.HARD_SHRINK, alpha="lambd"),
    "prelu": point.prelu,
    "_prelu_kernel": point.prelu,
    "rrelu": point.rrelu,
    "glu": point.glu,
}
_UNARY = {
    "neg": Ew.NEG,
    "abs": Ew.ABS,
    "absolute": Ew.ABS,
    "sign": Ew.SIGN,
    "sgn": Ew.SIGN,
    "round": Ew.ROUND,
    "floor": Ew.FLOOR,
    "ceil": Ew.CEIL,
    "trunc": Ew.TRUNC,
    "fix": Ew.TRUNC,
    "logical_not": Ew.NOT,
    "isnan": Ew.IS_NAN,
    "isinf": Ew.IS_INF,
}
_REAL = {
    "sqrt": Ew.SQRT,
    "rsqrt": Ew.RSQRT,
    "exp": Ew.EXP,
    "log": Ew.LOG,
    "log1p": Ew.LOG1P,
    "expm1": Ew.EXPM1,
    "reciprocal": Ew.RECIPROCAL,
    "sin": Ew.SIN,
    "cos": Ew.COS,
    "tan": Ew.TAN,
    "asin": Ew.ASIN,
    "acos": Ew.ACOS,
    "atan": Ew.ATAN,
    "sinh": Ew.SINH,
    "cosh": Ew.COSH,
    "asinh": Ew.ASINH,
    "acosh": Ew.ACOSH,
    "atanh": Ew.ATANH,
}
_BINARY = {
    "add": Ew.ADD,
    "sub": Ew.SUB,
    "subtract": Ew.SUB,
    "mul": Ew.MUL,
    "multiply": Ew.MUL,
    "pow": Ew.POW,
    "maximum": Ew.MAXIMUM,
    "minimum": Ew.MINIMUM,
    "floor_divide": Ew.FLOOR_DIVIDE,
    "remainder": Ew.MOD,
    "fmod": Ew.FMOD,
    "logical_and": Ew.AND,
    "logical_or": Ew.OR,
    "logical_xor": Ew.XOR,
    "eq": Ew.EQUAL,
    "ne": Ew.NOT_EQUAL,
    "not_equal": Ew.NOT_EQUAL,
    "lt": Ew.LESS,
    "less": Ew.LESS,
    "gt": Ew.GREATER,
    "greater": Ew.GREATER,
    "le": Ew.LESS_EQUAL,
    "ge": Ew.GREATER_EQUAL,
}
_POINTWISE: dict[str, Handler] = {
    **{name: point.unary(kind) for name, kind in _UNARY.items()},
    **{name: point.unary(kind, real=True) for name, kind in _REAL.items()},
    **{name: point.binary(kind) for name, kind in _BINARY.items()},
    **{name: point.bitwise(Ew.AND) for name in ("bitwise_and", "__and__", "__iand__")},
    **{name: point.bitwise(Ew.OR) for name in ("bitwise_or", "__or__", "__ior__")},
    **{name: point.bitwise(Ew.XOR) for name in ("bitwise_xor", "__xor__", "__ixor__")},
    "bitwise_not": point.bitwise(Ew.NOT),
    "rsub": point.rsub,
    "div": point.divide,
    "divide": point.divide,
    "true_divide": point.divide,
    "square": point.square,
    "log2": point.logarithm(2),
    "log10": point.logarithm(10),
    "exp2": point.exp2,
    **dict.fromkeys(("erfc", "special_erfc"), point.erfc),
    "where": point.where,
    "masked_fill": point.masked_fill,
    "fill": point.fill,
    "copy": point.copy,
    "to": point.cast,
    "_to_copy": point.cast,
    "type_as": point.cast,
    "prims::convert_element_type": point.cast,
    "native_dropout": point.native_dropout,
}
_REDUCTIONS: dict[str, Handler] = {
    "max_pool1d": reduce.pool(PoolKind.MAX, 1),
    "max_pool2d": reduce.pool(PoolKind.MAX, 2),
    "max_pool3d": reduce.pool(PoolKind.MAX, 3),
    "max_pool2d_with_indices": with_rest(reduce.pool(PoolKind.MAX, 2)),
    "max_pool3d_with_indices": with_rest(reduce.pool(PoolKind.MAX, 3)),
    "avg_pool1d": reduce.pool(PoolKind.AVERAGE, 1),
    "avg_pool2d": reduce.pool(PoolKind.AVERAGE, 2),
    "avg_pool3d": reduce.pool(PoolKind.AVERAGE, 3),
    **{f"{p}adaptive_avg_pool{n}d": reduce.adaptive_pool(PoolKind.AVERAGE) for n in (1, 2, 3) for p in ("", "_")},
    **{f"adaptive_max_pool{n}d": with_rest(reduce.adaptive_pool(PoolKind.MAX)) for n in (1, 2, 3)},
    "mean": reduce.reduce(Re.MEAN),
    "sum": reduce.reduce(Re.SUM),
    "prod": reduce.reduce(Re.PROD),
    "amax": reduce.reduce(Re.MAX),
    "amin": reduce.reduce(Re.MIN),
    "any": reduce.logical_reduce(Re.MAX),
    "all": reduce.logical_reduce(Re.MIN),
    "max": reduce.extreme(Re.MAX, Re.ARGMAX, Ew.MAXIMUM),
    "min": reduce.extreme(Re.MIN, Re.ARGMIN, Ew.MINIMUM),
    "argmax": reduce.arg_extreme(Re.ARGMAX),
    "argmin": reduce.arg_extreme(Re.ARGMIN),
    "linalg_vector_norm": reduce.vector_norm,
    "norm": reduce.vector_norm,
    "var": reduce.variance(root=False, with_mean=False),
    "std": reduce.variance(root=True, with_mean=False),
    "var_mean": reduce.variance(root=False, with_mean=True),
    "std_mean": reduce.variance(root=True, with_mean=True),
    "logsumexp": reduce.logsumexp,
    "cumsum": reduce.cumulative(CumulativeKind.SUM),
    "cumprod": reduce.cumulative(CumulativeKind.PROD),
    "sort": reduce.sort,
    "argsort": reduce.sort,
    "topk": reduce.sort,
    "median": reduce.median,
    "embedding_bag": reduce.embedding_bag,
    "_embedding_bag": reduce.embedding_bag,
    "_embedding_bag_forward_only": reduce.embedding_bag,
}
_VIEWS = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
_SAMPLED = {"nearest1d": "nearest", "nearest2d": "nearest", "nearest3d": "nearest", "linear1d": "linear"}
_SAMPLED |= {"bilinear2d": "linear", "trilinear3d": "linear", "bicubic2d": "cubic"}
_PADDED = (
    "pad",
    "constant_pad_nd",
    "_pad_circular",
    *(f"{m}_pad{n}d" for m in ("reflection", "replication") for n in (1, 2, 3)),
)
_MOVES: dict[str, Handler] = {
    **dict.fromkeys(_VIEWS, layout.view),
    **dict.fromkeys(("_reshape_alias", "ravel"), layout.view),
    **dict.fromkeys(("cat", "concat", "concatenate"), layout.concat),
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "unsafe_chunk", "unsafe_split"), layout.split),
    **dict.fromkeys(("permute", "transpose", "t", "swapaxes", "swapdims", "numpy_T", "mT"), layout.permute),
    **dict.fromkeys(("movedim", "moveaxis"), layout.move_axes),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), layout.expand),
    **dict.fromkeys(("repeat", "tile"), layout.repeat),
    **dict.fromkeys(_PADDED, layout.pad),
    **{f"upsample_{name}": layout.resize(mode) for name, mode in _SAMPLED.items()},
    **{f"_upsample_nearest_exact{n}d": layout.resize("nearest", exact=True) for n in (1, 2, 3)},
    "stack": layout.stack,
    "unbind": layout.unbind,
    "slice": layout.slice_,
    "select": layout.select,
    "narrow": layout.narrow,
    "slice_scatter": layout.slice_scatter,
    "select_scatter": layout.slice_scatter,
    "repeat_interleave": layout.repeat_interleave,
    "roll": layout.roll,
    "flip": layout.flip,
    "unfold": layout.unfold,
    "diagonal": layout.diagonal,
    "grid_sampler": layout.grid_sample,
    "grid_sampler_2d": layout.grid_sample,
    "grid_sampler_3d": layout.grid_sample,
    "pixel_shuffle": layout.pixel_shuffle,
    "pixel_unshuffle": layout.pixel_unshuffle,
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), layout.channel_shuffle),
    "embedding": index.embedding,
    "index_select": index.index_select,
    "gather": index.gather,
    "scatter": index.scatter(),
    "scatter_add": index.scatter("add"),
    "scatter_reduce": index.scatter(),
    **dict.fromkeys(("index", "_unsafe_index"), index.index),
    **dict.fromkeys(("index_put", "_unsafe_index_put", "_index_put_impl"), index.index_put),
}
_QUANTIZERS: dict[str, Handler] = {
    **dict.fromkeys(
        (
            *(
                f"fake_quantize_per_{what}_affine{rest}"
                for what in ("tensor", "channel")
                for rest in ("", "_cachemask")
            ),
            "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
            "fused_moving_avg_obs_fake_quant",
            "_fused_moving_avg_obs_fq_helper",
        ),
        quantize.fake,
    ),
    **{
        f"quantized_decomposed::{half}_per_{what}": quantize.quantize(kind)
        for half, kind in (("quantize", QuantizeKind.QUANTIZE), ("dequantize", QuantizeKind.DEQUANTIZE))
        for what in ("tensor", "channel")
    },
}

HANDLERS: dict[str, Handler] = _PRODUCTS | _NORMS | _ACTIVATIONS | _POINTWISE | _REDUCTIONS | _MOVES | _QUANTIZERS
HANDLERS |= {f"{name}_": handler for name, handler in HANDLERS.items() if not name.endswith("_")}
