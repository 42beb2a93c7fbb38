"""The detector of `study-deform.yaml`: a study gives its keys `network.<argument>` to this function."""

from collections.abc import Sequence

from torch import Tensor, nn

from picojoule.models.centre_net import build, example_inputs


def detector(variant: str = "depthwise", width: float = 1.0, bound: float = 7.0) -> tuple[nn.Module, Sequence[Tensor]]:
    """Return the small centre-point detector, untrained, and the inputs to trace it with."""
    return build(variant, width=width, bound=bound), example_inputs(batch=2)
