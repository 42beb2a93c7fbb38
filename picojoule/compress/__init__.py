"""Compression methods: each is `fit(model, data, signal, config) -> (model, artefact)`, named in the table `METHODS`.

Importing this needs no torch; a method's own file is imported when it is used.
"""

from picojoule.compress.method import CompressionArtifact, CompressionMethod, Method
from picojoule.sim.errors import InputError, unknown_choice

METHODS: dict[str, Method] = {
    "slimming": Method(
        catalogue="S072",
        family="structured pruning",
        emits="keep_channels per layer",
        source="Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, arXiv:1708.06519",
        about="L1 on batch-norm scales, then whole channels go (residual and concat coupling respected), then fine-tuning",
        target="picojoule.compress.slimming:Slimming",
    ),
    "lsq": Method(
        catalogue="S103 (without offsets)",
        family="quantisation",
        emits="weight and activation formats with learned steps",
        source="Esser et al. 2020, Learned Step Size Quantization, arXiv:1902.08153; LSQ+, Bhalgat et al. 2020, arXiv:2004.09576",
        about="quantisation-aware training that learns step sizes together with the weights",
        target="picojoule.compress.lsq:Lsq",
    ),
    "bitslice": Method(
        catalogue="S034",
        family="bit-slice sparsity",
        emits="int9 weights (sign and 8 magnitude bits) with power-of-two steps, 8-bit inputs",
        source="Zhang et al. 2019, Exploring Bit-Slice Sparsity in Deep Neural Networks for Efficient ReRAM-Based Deployment, "
        "arXiv:1908.09496",
        about="bit-slice L1, or (default) column sums held below what converters of a given energy budget can take",
        target="picojoule.compress.bitslice:Bitslice",
    ),
    "hamming": Method(
        catalogue="S035",
        family="operand Hamming distance",
        emits="int8 weights (or fewer bits) whose successive words on weight ports differ in few bits, a step per channel",
        source="Li et al. 2020, Improving Efficiency in Neural Network Accelerator Using Operands Hamming Distance Optimization, "
        "arXiv:2002.05293",
        about="weights that stream one after the other are rounded together, along the path of least error and flips (default), "
        "or flips join the loss",
        target="picojoule.compress.hamming:Hamming",
    ),
    "reorder": Method(
        catalogue="S035 (order alone)",
        family="operand Hamming distance",
        emits="the same network with its output channels permuted, to the bit the same function in integers",
        source="Li et al. 2020, Improving Efficiency in Neural Network Accelerator Using Operands Hamming Distance Optimization, "
        "arXiv:2002.05293",
        about="channels stream in an order in which few weight bits flip (residual sums share one, consumers follow)",
        target="picojoule.compress.reordering:Reorder",
    ),
}
"""Every method by name: to add one, write its file and add a line here."""


def methods() -> list[dict[str, str]]:
    """Return what `picojoule methods` lists: name, catalogue, family, emits, source, about."""
    return [
        {
            "name": name,
            "catalogue": m.catalogue,
            "family": m.family,
            "emits": m.emits,
            "source": m.source,
            "about": m.about,
        }
        for name, m in METHODS.items()
    ]


def load_method(name: str) -> CompressionMethod:
    """Return a method by name.

    Raises:
        InputError: for an unknown name (nearest match named).

    """
    if name not in METHODS:
        raise InputError(unknown_choice("method", name, list(METHODS)))
    return METHODS[name].load()


__all__ = ["METHODS", "CompressionArtifact", "CompressionMethod", "Method", "load_method", "methods"]
