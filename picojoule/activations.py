"""Integer activations of a network on a data set's training split, for costs that depend on data."""

from typing import TYPE_CHECKING

from picojoule.accuracy import CALIBRATION_SAMPLES, formats_in
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.evaluation import unsupported_sentence
from picojoule.sim.ir import Network
from picojoule.sim.protocol import Accelerator

if TYPE_CHECKING:
    from picojoule.models.data import Dataset
    from picojoule.sim.activation_source import ActivationSource

SAMPLES = 8
"""Inputs that are followed one by one; a report names the widest interval over them."""


def wants_activations(accelerator: Accelerator) -> bool:
    """Return whether costs on this hardware follow the activations: `datapath_energy: toggles` or `zero_gating` in its spec."""
    spec = accelerator.spec
    return getattr(spec, "datapath_energy", "average") == "toggles" or getattr(spec, "zero_gating", False) is True


def collect_activations(
    network: Network, accelerator: Accelerator, data: "Dataset", *, samples: int = SAMPLES, seed: int = 0
) -> "ActivationSource":
    """Return the integer inputs of the network's layers on the first training samples.

    Steps come from calibration on the first 256 training samples; the samples followed are the first of these.

    Raises:
        InputError: if the network's input does not fit the data, or it has no weights.
        UnsupportedError: if the network holds operators that cannot be run.

    """
    import torch

    from picojoule.sim.activation_source import collect
    from picojoule.sim.numerics.calibration import calibrate

    if network.unsupported:
        raise UnsupportedError(unsupported_sentence(network))
    images = data.train.images
    if len(network.inputs) != 1 or network.inputs[0].shape[1:] != tuple(images.shape[1:]):
        shapes = [list(r.shape[1:]) for r in network.inputs]
        raise InputError(f"{network.name} takes samples of shape {shapes}, {data.name} has {list(images.shape[1:])}")
    arithmetic = formats_in(accelerator, network, seed=seed)
    step, count = 64, min(CALIBRATION_SAMPLES, len(images))
    batches = [(torch.tensor(images[i : min(i + step, count)]),) for i in range(0, count, step)]
    calibration = calibrate(network, batches, arithmetic, seed=seed)
    singles = [(torch.tensor(images[i : i + 1]),) for i in range(min(samples, count))]
    return collect(network, singles, arithmetic, calibration, origin=f"training split of {data.name}")
