"""Files of weights: .safetensors, and .pt or .pth that hold nothing but tensors.

`read_state` returns a whole state dict, `stored_tensors` lists a file's tensors and reads each when it is asked for, so that
a file may be larger than memory. Pickled objects are never loaded. Torch is imported for what numpy has no type for only.
"""

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError

if TYPE_CHECKING:
    import torch

_STATE_NAMES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
)
"""Under what name training scripts put the weights beside epoch, optimizer and settings; the first that is there is taken."""
_DEEPEST = 4
_NUMPY_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_TORCH_TYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor in a file: its type as stored, and how to read it (floats that numpy lacks become float32).

    `load` is None where nobody can; `unread` says why.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored_bytes: int
    load: Callable[[], NDArray[np.generic]] | None
    unread: str = "of a type that is not read here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The tensors of a file, and what else it holds (names of optimizer states and the like)."""

    tensors: tuple[StoredTensor, ...]
    left_out: tuple[str, ...] = ()


def read_state(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a .safetensors or .pt file; a .pt file may also hold plain numbers, texts and optimizer states.

    Raises:
        InputError: if the file is missing, torn, or holds anything else (pickled objects are never loaded).

    """
    _check_there(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: dict[str, torch.Tensor] = _read_safetensors(path, lambda: load_file(path))
        return state
    return _find_state(_read_pt(path), path)[0]


def stored_tensors(path: Path) -> Checkpoint:
    """Return the tensors of a .safetensors, .pt or .pth file without reading their values.

    Raises:
        InputError: as `read_state`.

    """
    _check_there(path)
    if path.suffix == ".safetensors":
        return Checkpoint(tensors=_read_safetensors(path, lambda: _safetensors(path)))
    state, left_out = _find_state(_read_pt(path, mapped=_is_plain_zip(path)), path)
    return Checkpoint(tensors=tuple(of_tensor(name, value) for name, value in state.items()), left_out=left_out)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected .safetensors or .pt weights")


# --- safetensors --------------------------------------------------------------------------------------------------------


def _read_safetensors(path: Path, read: Callable[[], Any]) -> Any:
    from safetensors import SafetensorError

    try:
        return read()
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: torn, or no safetensors file ({error}); save it again") from None


def _safetensors(path: Path) -> tuple[StoredTensor, ...]:
    from safetensors import safe_open

    found = []
    with safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 - this is no dict
            part = file.get_slice(name)
            kind, shape = part.get_dtype(), tuple(int(s) for s in part.get_shape())
            known = {**_NUMPY_TYPES, **_TORCH_TYPES}.get(kind)
            width = np.dtype(known).itemsize * 8 if kind in _NUMPY_TYPES else int((re.findall(r"\d+", kind) or [8])[0])
            load = _safetensors_loader(path, name, "np" if kind in _NUMPY_TYPES else "pt")
            found.append(
                StoredTensor(
                    name=name,
                    shape=shape,
                    dtype=known or kind.lower(),
                    stored_bytes=prod(shape) * width // 8,
                    load=load if known else None,
                )
            )
    return tuple(found)


def _safetensors_loader(path: Path, name: str, framework: str) -> Callable[[], NDArray[np.generic]]:
    def load() -> NDArray[np.generic]:
        from safetensors import safe_open

        def read() -> Any:
            with safe_open(path, framework=framework) as file:  # opened again: a mapping of one tensor, not of all
                return file.get_tensor(name)

        value = _read_safetensors(path, read)
        return np.asarray(value if framework == "np" else value.float().numpy())

    return load


# --- torch --------------------------------------------------------------------------------------------------------------


def _is_plain_zip(path: Path) -> bool:
    """Whether the file is a zip archive without compression, whose records can be mapped into memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(r.compress_type == zipfile.ZIP_STORED for r in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _read_pt(path: Path, *, mapped: bool = False) -> Any:
    from pickle import UnpicklingError

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch comments on old pickles; what is refused is refused below
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
        except UnpicklingError:
            raise InputError(
                f"{path}: holds more than tensors, or is torn; pickled objects are never loaded, as they can run any code: "
                "save model.state_dict(), best as safetensors"
            ) from None
        except Exception:  # torch's reader raises many kinds for a torn file
            raise InputError(f"{path}: torn, or no file of torch.save; save model.state_dict() again") from None


def _find_state(loaded: Any, path: Path, depth: int = 0) -> "tuple[dict[str, torch.Tensor], tuple[str, ...]]":
    """Return the state dict in what a file holds, and the names of what lies beside it."""
    import torch

    if not isinstance(loaded, Mapping):
        raise InputError(f"{path}: must hold a state dict of tensors, got {type(loaded).__name__}")
    state = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    if state or not loaded:
        for key, value in state.items():
            if not isinstance(key, str):
                raise InputError(f"{path}: must hold a state dict of tensors, got {type(value).__name__} under {key!r}")
        return state, tuple(str(key) for key in loaded if key not in state)
    nested = [k for k, v in loaded.items() if isinstance(k, str) and isinstance(v, Mapping) and v]
    chosen = next((name for name in _STATE_NAMES if name in nested), None)
    if chosen is None and len(nested) > 1:
        raise InputError(
            f"{path}: must hold one state dict of tensors, got {', '.join(map(repr, nested))}; save one of them"
        )
    if not nested or depth >= _DEEPEST:
        key, value = next(iter(loaded.items()))
        raise InputError(f"{path}: must hold a state dict of tensors, got {type(value).__name__} under {key!r}")
    name = chosen or nested[0]
    state, beside = _find_state(loaded[name], path, depth + 1)
    return state, (*(str(key) for key in loaded if key != name), *beside)


def of_tensor(name: str, value: "torch.Tensor") -> StoredTensor:
    """Return a tensor in memory (or mapped from a file) as a stored one."""
    import torch

    def load() -> NDArray[np.generic]:
        plain = value.detach()
        plain = plain.int_repr() if plain.is_quantized else plain.to_dense() if plain.layout != torch.strided else plain
        wide = plain.dtype in (torch.bfloat16, torch.float16) or str(plain.dtype).startswith("torch.float8")
        return np.asarray((plain.float() if wide else plain).cpu().resolve_conj().resolve_neg().numpy())

    readable = not value.is_meta
    try:
        size = value.numel() * value.element_size()
    except (RuntimeError, NotImplementedError):
        size, readable = 0, False
    return StoredTensor(
        name=name,
        shape=tuple(value.shape),
        dtype=str(value.dtype).removeprefix("torch."),
        stored_bytes=size,
        load=load if readable else None,
        unread="without values (on the meta device)" if value.is_meta else "of a type that is not read here",
    )
