"""What a trial prices and runs: its network as it comes, or after compression methods; loaded once a process.

A loaded network is shared by the trials of a process and never changed: methods copy what they are given. It is loaded anew
when one of its files changes. Networks from ONNX or CSV files need no torch.
"""

import copy
import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.compress import METHODS, load_method
from picojoule.compress.plan import Plan, apply_plan
from picojoule.networks import TorchNetwork, is_torch, load_network, load_torch, network_of, prepared
from picojoule.signals import marginal
from picojoule.sim.compression_state import find_compression
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Network
from picojoule.sim.passes import check_weights
from picojoule.sim.protocol import Accelerator
from picojoule.sim.specs import Spec, parse_spec
from picojoule.studies.network_keys import plan_of, split_bits

if TYPE_CHECKING:
    from picojoule.models.data import Dataset

WEIGHTS, PLAN = "model.safetensors", "plan.yaml"

Stamp = tuple[int, int] | None
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which network: NETWORK, the file of its weights if any, whether they are trained here, the data it is for, the seed.

    `arguments` go to the function that builds it; `weight_bits` among them may be a format (`network_keys`).
    """

    network: str
    weights: str | None
    data: str | None
    trained: bool = False
    seed: int = 0
    arguments: tuple[tuple[str, Any], ...] = ()


@lru_cache(maxsize=2)
def dataset(spec: str) -> "Dataset":
    """Return a data set, read once a process."""
    from picojoule.models.data import load

    return load(spec)


def data_of(source: Source) -> "Dataset":
    """Return the data of a study.

    Raises:
        InputError: if there are none, or they cannot be read.

    """
    if source.data is None:
        raise InputError(
            "accuracy and compression need data; add the key 'data' to the study, such as data: fashion-mini"
        )
    return dataset(source.data)


def file_of(network: str) -> Path:
    """Return the file that NETWORK names (none is there for a zoo name)."""
    return Path(network.rpartition(":")[0] if ".py:" in network else network)


def stamp_of(path: Path | None) -> Stamp:
    """Return what changes when a file does, None if there is no such file."""
    if path is None or not path.is_file():
        return None
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def content_digest(path: Path | None) -> str:
    """Return the SHA-256 of a file, an empty text if there is none."""
    return "" if path is None or not path.is_file() else _content_digest(path, stamp_of(path))


@lru_cache(maxsize=16)
def _content_digest(path: Path, stamp: Stamp) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamps(source: Source) -> tuple[Stamp, ...]:
    return stamp_of(file_of(source.network)), stamp_of(Path(source.weights) if source.weights else None)


def fitted(source: Source) -> dict[str, Any]:
    """Return what adapts a network of the zoo to the data, and where its weights are."""
    weights = Path(source.weights) if source.weights else None
    fitted: dict[str, Any] = {"weights": weights, "seed": source.seed}
    if source.data is not None:
        data = dataset(source.data)
        fitted |= {"sample_shape": tuple(data.train.images.shape[1:]), "classes": len(data.class_names)}
    return fitted


# --- as it comes --------------------------------------------------------------------------------------------------------


def original(source: Source) -> TorchNetwork:
    """Return the torch module, to be copied before anything changes it.

    Raises:
        InputError: if NETWORK is no torch module, or its weights do not fit.

    """
    arguments, _ = split_bits(source.network, dict(source.arguments))
    return _original(replace(source, arguments=tuple(arguments.items())), _stamps(source))


@lru_cache(maxsize=2)
def _original(source: Source, stamps: tuple[Stamp, ...]) -> TorchNetwork:
    made = load_module(source)
    return replace(made, weights="trained") if source.trained else made


def load_module(source: Source) -> TorchNetwork:
    """Return the torch module, not shared with anybody; a user's function that draws values draws them from the seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        arguments, _ = split_bits(source.network, dict(source.arguments))
        made = load_torch(source.network, arguments=arguments, **fitted(source))
    return replace(made, module=copy.deepcopy(made.module))  # a user's function may return the same one every time


def plain_network(source: Source) -> Network:
    """Return the workload without any compression by a method.

    Raises:
        InputError: if it cannot be loaded, or holds NaN or infinite weights.

    """
    return _plain_network(source, _stamps(source))


@lru_cache(maxsize=4)
def _plain_network(source: Source, stamps: tuple[Stamp, ...]) -> Network:
    _, bits = split_bits(source.network, dict(source.arguments))
    if bits is not None:
        return _with_bits(source, plan_of(bits))
    torch = is_torch(source.network)
    network = network_of(original(source)) if torch else load_network(source.network, **fitted(source))
    check_weights(network)
    return network


def _with_bits(source: Source, plan: Plan) -> Network:
    if is_torch(source.network):
        return priced_form(original(source), plan)
    network = find_compression(apply_plan(load_network(source.network, find=False, **fitted(source)), plan))
    check_weights(network)
    return network


# --- after methods ------------------------------------------------------------------------------------------------------


def active(methods: Mapping[str, Settings]) -> dict[str, Settings]:
    """Return the methods that do something, in the order of the table of methods; a ratio of 0 or none leaves one out."""
    known = [name for name in METHODS if name in methods] + [name for name in methods if name not in METHODS]
    idle = {name for name in known if "ratio" in methods[name] and not methods[name]["ratio"]}
    return {name: methods[name] for name in known if name not in idle or methods[name].get("budget") is not None}


def cost_is_fixed(methods: Mapping[str, Settings]) -> bool:
    """Whether training cannot change what the compressed network costs: bits are set, channels are chosen by their scales."""
    return all(name in METHODS and METHODS[name].family == "quantisation" for name in methods)


def settings_for(config_type: type[Spec], given: Settings, epochs: int, seed: int) -> dict[str, Any]:
    """Return a method's settings: those given, and a share of the epochs.

    A method that fine-tunes spends half of them (rounded up) on that which comes before. What is given wins, but without
    epochs nothing trains.
    """
    shared: dict[str, Any] = {"epochs": epochs, "seed": seed}
    if "finetune_epochs" in config_type.model_fields:
        shared |= {"epochs": -(-epochs // 2), "finetune_epochs": epochs // 2}
    shared = {name: value for name, value in shared.items() if name in config_type.model_fields}
    return {**shared, **given} if epochs else {**given, **shared}


def apply_method(
    made: TorchNetwork, plan: Plan, name: str, settings: Settings, data: "Dataset", accelerator: Accelerator
) -> tuple[TorchNetwork, Plan]:
    """Return the network after one more method, and the plan with what it decided.

    A method with a budget, or that can be aware of hardware, gets the accelerator's marginal prices.

    Raises:
        InputError: for an unknown method or a bad setting.
        InfeasibleError: if the design cannot hold the network, or no setting meets the budget.

    """
    method = load_method(name)
    config = parse_spec(method.config_type, dict(settings), f"method {name}")
    takes_signal = {"budget", "hardware_aware"} & set(method.config_type.model_fields)
    signal = marginal(network_of(made, fold=False), accelerator) if takes_signal else None
    module, artifact = method.fit(made.module, data, signal, config)
    return replace(made, module=module, weights="trained"), plan.merged(artifact.plan)


def compress(
    source: Source, methods: Mapping[str, Settings], epochs: int, accelerator: Accelerator
) -> tuple[TorchNetwork, Plan]:
    """Return the network after all methods, one after the other, and its plan; `methods` as `active` returns them."""
    made, plan, data = original(source), Plan(layers={}), data_of(source)
    for name, given in methods.items():
        settings = settings_for(load_method(name).config_type, given, epochs, source.seed)
        made, plan = apply_method(made, plan, name, settings, data, accelerator)
    return made, plan


def priced_form(made: TorchNetwork, plan: Plan) -> Network:
    """Return the workload of a compressed network.

    Raises:
        InputError: if training left NaN or infinite weights.

    """
    network = prepared(apply_plan(network_of(made, fold=False), plan))
    check_weights(network)
    return network


def checkpointing(folder: Path | None, key: str) -> Any:
    """Return the context in which trainings leave checkpoints in a folder, if there is one."""
    if folder is None:
        return nullcontext()
    from picojoule.training_checkpoints import checkpoints

    return checkpoints(folder, key)
