"""What NETWORK on the command line (and the argument of `pj.load`) may be, and how its weights are read.

A zoo name, `file.onnx`, `file.csv`, `file.json`, `file.pt2`, or `file.py:callable`; the first and last are torch modules,
which can also be trained and compressed. ONNX, CSV and JSON are read without torch.
"""

import contextlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.checkpoints import read_state
from picojoule.models.catalog import names as zoo_names
from picojoule.sim.compression_state import find_compression
from picojoule.sim.errors import InputError, PicojouleError, nearest
from picojoule.sim.ir import Network
from picojoule.sim.passes import fold_batch_norm

if TYPE_CHECKING:
    import torch

_LARGEST_EXAMPLE = 1 << 28
"""Elements of an example input: 1 GiB of float32, made when a Python file returns none."""
Shapes = Mapping[str | None, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchNetwork:
    """A torch module with example inputs; `weights` says where its values come from."""

    name: str
    module: "torch.nn.Module"
    inputs: "tuple[Any, ...] | Mapping[str, Any]"
    weights: str


def parse_shapes(texts: Sequence[str]) -> dict[str | None, tuple[int, ...]]:
    """Return shapes given as `1,3,224,224` or `name=1,3,224,224`; the key of an unnamed one is None.

    Raises:
        InputError: for anything but positive whole numbers.

    """
    shapes: dict[str | None, tuple[int, ...]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        try:
            sizes = tuple(int(part) for part in numbers.split(","))
        except ValueError:
            raise InputError(f"--input-shape takes [NAME=]1,3,224,224, got '{text}'") from None
        if any(s < 1 for s in sizes):
            raise InputError(f"--input-shape needs sizes of at least 1, got '{text}'")
        key = name if equals else None
        if key in shapes:
            whose = f"input '{key}'" if key else "an input without a name"
            raise InputError(f"--input-shape is given twice for {whose}; write NAME=1,3,224,224 for each input")
        shapes[key] = sizes
    return shapes


def is_torch(spec: str) -> bool:
    """Whether NETWORK names a torch module (a zoo name or `file.py:callable`)."""
    return spec in zoo_names() or ".py:" in spec


def load_network(
    spec: str | Path,
    *,
    shapes: Shapes | None = None,
    sample_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    weights: Path | None = None,
    seed: int = 0,
    find: bool = True,
) -> Network:
    """Return the priced form of NETWORK: formats and sparsity found in its weights (unless not `find`), batch norms folded.

    `sample_shape` and `classes` adapt a zoo network to a data set. `weights` is a .safetensors or .pt file of a state dict.

    Raises:
        InputError: for an unknown name, missing or unreadable file, weights that do not fit.

    """
    text = str(spec)
    if is_torch(text):
        made = load_torch(text, shapes=shapes, sample_shape=sample_shape, classes=classes, weights=weights, seed=seed)
        return network_of(made) if find else fold_batch_norm(network_of(made, fold=False))
    path = Path(text)
    readers = {".onnx": _load_onnx, ".csv": _load_csv, ".json": _load_json, ".pt2": _load_pt2}
    if path.suffix.lower() not in readers:
        raise InputError(_unknown(text))
    if weights is not None:
        raise InputError(
            f"{path}: --weights belongs to zoo names and file.py:callable; this file carries its own weights"
        )
    network = readers[path.suffix.lower()](path, shapes or {})
    stated = path.suffix.lower() == ".json"  # says itself what was found before it was written
    return prepared(network) if find and not stated else fold_batch_norm(network)


def prepared(network: Network) -> Network:
    """Return what is priced and run: the compression found in the weights set, then batch norms folded.

    In this order, because a gain per channel would hide a step that a whole tensor shares.
    """
    return fold_batch_norm(find_compression(network))


def network_of(made: TorchNetwork, *, fold: bool = True) -> Network:
    """Return the workload of a torch network; without `fold` as it is, for a plan to be applied before `prepared`."""
    from picojoule.sim.numerics.torch_importer import from_module

    network = from_module(made.module, made.inputs, name=made.name, weights=made.weights)
    return prepared(network) if fold else network


def load_torch(
    spec: str,
    *,
    shapes: Shapes | None = None,
    sample_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    weights: Path | None = None,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
) -> TorchNetwork:
    """Return the torch module that NETWORK names, in evaluation mode; `arguments` go to the function that builds it.

    Raises:
        InputError: if it is no torch module, or cannot be made.

    """
    if ".py:" in spec:
        made = _from_python(spec, shapes, arguments or {})
    elif spec in zoo_names():
        made = _from_zoo(spec, shapes, sample_shape, classes, seed, arguments or {})
    else:
        raise InputError(f"'{spec}' is no torch network; this needs a zoo name or file.py:callable")
    if weights is not None:
        if made.weights == "none":
            raise InputError(f"'{spec}' is built without values, to be priced by its shapes; leave out --weights")
        load_weights(made.module, weights)
        made = TorchNetwork(name=made.name, module=made.module, inputs=made.inputs, weights=f"file {weights.name}")
    made.module.eval()
    return made


def _unknown(text: str) -> str:
    known = zoo_names()
    if text.endswith(".py"):
        return f"'{text}' names no function; give {text}:NAME, where NAME() returns a torch.nn.Module"
    if text.endswith((".pt", ".pth", ".safetensors")):
        return f"'{text}' holds weights without a network; give the network and --weights {text}"
    hint = nearest(text, list(known)) or "."
    return (
        f"unknown network '{text}'{hint} Give a zoo name ({', '.join(known)}), "
        "file.onnx, file.csv, file.json, file.pt2 or file.py:callable"
    )


def _load_onnx(path: Path, shapes: Shapes) -> Network:
    from picojoule.sim.importers.onnx_graph import load_onnx

    return load_onnx(path, input_shapes=shapes)


def _load_csv(path: Path, shapes: Shapes) -> Network:
    from picojoule.sim.importers.scalesim_csv import load_csv

    if shapes:
        raise InputError(f"{path}: a topology CSV states its own sizes; leave out --input-shape")
    return load_csv(path)


def _load_json(path: Path, shapes: Shapes) -> Network:
    from picojoule.sim.importers.network_json import load_network_json

    if shapes:
        raise InputError(f"{path}: an exported network states its own sizes; leave out --input-shape")
    return load_network_json(path)


def _load_pt2(path: Path, shapes: Shapes) -> Network:
    from picojoule.sim.numerics.pt2 import load_pt2

    if shapes:
        raise InputError(f"{path}: an exported program has its own input shapes; leave out --input-shape")
    return load_pt2(path)


def builder_parameters(spec: str) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of the function that builds NETWORK, which `arguments` of `load_torch` may name.

    None for a file that holds a network. Of a network of the zoo, those besides the input's shape and the classes.

    Raises:
        InputError: if there is no such file or function.

    """
    if ".py:" in spec:
        with _user_code(f"{spec}: has no readable signature"):
            return inspect.signature(_function_of(spec)).parameters
    if spec in zoo_names():
        from picojoule.models.zoo import builder_parameters as of_zoo

        return of_zoo(spec)
    return {}


def _from_zoo(
    name: str,
    shapes: Shapes | None,
    sample_shape: tuple[int, ...] | None,
    classes: int | None,
    seed: int,
    arguments: Mapping[str, Any],
) -> TorchNetwork:
    from picojoule.models.zoo import build, example_inputs

    if shapes:
        if set(shapes) != {None} or len(shapes[None]) < 2:
            raise InputError(f"'{name}' has one input: give --input-shape 1,C,H,W without a name")
        if shapes[None][0] != 1:
            given = ",".join(str(size) for size in shapes[None])
            raise InputError(
                f"'{name}': the first size of --input-shape is the batch axis of one sample and must be 1, got {given}; "
                "write 1,C,H,W, and --batch for more samples"
            )
        sample_shape = shapes[None][1:]
    with _user_code(f"{name}{_shown(arguments)} failed") if arguments else contextlib.nullcontext():
        module = build(name, input_shape=sample_shape, classes=classes, seed=seed, arguments=arguments)
    inputs = example_inputs(name, input_shape=sample_shape)
    weights = "none" if inputs[0].is_meta else "random"
    return TorchNetwork(name=name + _shown(arguments), module=module, inputs=inputs, weights=weights)


def _shown(arguments: Mapping[str, Any]) -> str:
    """Return arguments as they stand behind a network's name; nothing where there are none."""
    return f"({', '.join(f'{key}={value}' for key, value in arguments.items())})" if arguments else ""


def _function_of(spec: str) -> Callable[..., Any]:
    """Return the function that `file.py:callable` names."""
    file, _, attribute = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a Python file with a function '{attribute}'")
    imported = _import_file(path)
    function = getattr(imported, attribute, None)
    if not callable(function):
        functions = [name for name, value in vars(imported).items() if inspect.isfunction(value)]
        hint = nearest(attribute, functions) or "; give one that returns a torch.nn.Module"
        raise InputError(f"{path}: has no function '{attribute}'{hint}")
    return function  # type: ignore[no-any-return]


def _from_python(spec: str, shapes: Shapes | None, arguments: Mapping[str, Any]) -> TorchNetwork:
    import torch

    function = _function_of(spec)
    file, _, attribute = spec.rpartition(":")
    path = Path(file)
    with _user_code(f"{path}: {attribute}{_shown(arguments) or '()'} failed"):
        made = function(**arguments)
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise InputError(
            f"{path}: {attribute}() must return a torch.nn.Module or (Module, example inputs), got {type(made).__name__}"
        )
    if shapes:
        if any(math.prod(shape) > _LARGEST_EXAMPLE for shape in shapes.values()):
            raise InputError(f"--input-shape asks for more than {_LARGEST_EXAMPLE} elements; check the sizes")
        inputs = _of_shapes(module, inputs, shapes)
    if inputs is None:
        raise InputError(
            f"{path}: {attribute}() returns no example inputs; return (module, inputs) or give --input-shape 1,3,224,224"
        )
    if not isinstance(inputs, Mapping):
        inputs = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    name = f"{path.stem}.{attribute}{_shown(arguments)}"
    return TorchNetwork(name=name, module=module, inputs=inputs, weights="module")


def _of_shapes(module: "torch.nn.Module", given: Any, shapes: Shapes) -> "tuple[Any, ...] | dict[str, Any]":
    """Return example inputs of the shapes asked for: of the given ones' types, else real numbers."""
    import torch

    from picojoule.sim.numerics.torch_structure import inputs_of

    known = inputs_of(given).named(module) if given is not None else {}
    types = dict(zip(shapes, known.values(), strict=False)) | known
    arguments = inspect.signature(module.forward).parameters
    open_ended = any(a.kind is inspect.Parameter.VAR_KEYWORD for a in arguments.values())
    for name in shapes:
        if name is not None and name not in arguments and name not in known and not open_ended:
            listed = ", ".join(f"'{a}'" for a in arguments)
            raise InputError(
                f"--input-shape: {type(module).__name__} has no input '{name}'"
                f"{nearest(name, list(arguments)) or ';'} its inputs are {listed}"
            )

    def made(name: str | None, shape: tuple[int, ...]) -> torch.Tensor:
        dtype = types[name].dtype if name in types else torch.float32
        if not dtype.is_floating_point:
            return torch.zeros(shape, dtype=dtype)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)

    tensors = {name: made(name, shape) for name, shape in shapes.items()}
    named = {name: t for name, t in tensors.items() if name is not None and name in arguments}
    return named if len(named) == len(tensors) else tuple(tensors.values())


@contextlib.contextmanager
def _user_code(what: str) -> Iterator[None]:
    """Run a user's own code: it may fail in any way, which is then said in one sentence beginning with `what`."""
    try:
        yield
    except PicojouleError:
        raise
    except SystemExit as error:
        raise InputError(
            f"{what}: it calls sys.exit({error.code!r}); keep that under `if __name__ == '__main__'`"
        ) from error
    except Exception as error:
        raise InputError(f"{what}: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> Any:
    """Import a user's file with its folder first on the path, as running it as a script would."""
    file = path.resolve()
    folder = str(file.parent)
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    # A file called like a module that is in use, say json.py, must not take its place: others would get the wrong one.
    ours = loaded is None or hasattr(loaded, "__picojoule_network__")
    name = path.stem if ours else f"picojoule_network_{path.stem}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    module.__dict__["__picojoule_network__"] = True
    sys.modules[name] = module
    try:
        with _user_code(f"{path}: importing it failed"):
            found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


_WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel and DistributedDataParallel, torch.compile, and trainers put before every name of a state dict."""


def load_weights(module: "torch.nn.Module", path: Path) -> None:
    """Load a state dict into a module; every tensor must fit.

    Raises:
        InputError: naming the first tensor that is missing, unknown, of another shape, or whole numbers for real ones.

    """
    state, own = read_state(path), module.state_dict()
    for wrapped in _WRAPPERS * 2:  # one may be inside another
        if state and all(k.startswith(wrapped) and k not in own for k in state):
            state = {k.removeprefix(wrapped): v for k, v in state.items()}
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in own]
    if missing:
        raise InputError(f"{path}: has no tensor '{missing[0]}'{nearest(missing[0], unknown)}")
    if unknown:
        raise InputError(f"{path}: tensor '{unknown[0]}' is not in the network{nearest(unknown[0], list(own))}")
    for key, value in state.items():
        needed = own[key]
        if value.shape != needed.shape:
            raise InputError(f"{path}: tensor '{key}' is {list(value.shape)}, the network needs {list(needed.shape)}")
        if value.layout is not needed.layout or value.is_meta or value.is_quantized:
            raise InputError(f"{path}: tensor '{key}' is sparse, quantised or without values; save plain tensors")
        if needed.is_floating_point() and not value.is_floating_point():
            raise InputError(
                f"{path}: tensor '{key}' holds {value.dtype}, the network needs {needed.dtype}; dequantise it"
            )
    module.load_state_dict(state, strict=False)
