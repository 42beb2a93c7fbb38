"""Offsets of deformable convolutions as numbers: recorded from real data, or assumed by statistics."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError
from picojoule.sim.files import check_uncompressed, read_bounded, write_atomic
from picojoule.sim.ir import Layer

_LIMIT_BYTES = 4 << 30
_SCHEMA = 1
LARGEST = 2**15 - 1
"""Offsets beyond are kept as this many pixels: no map is that large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetTrace:
    """Whole offsets per layer, int16 [samples, offset_groups * taps * 2, Oh, Ow], (y, x) per tap as ONNX DeformConv has them.

    `source` says where they come from: `data`, or `statistics` for drawn ones.

    Raises:
        InputError: if an array has another type or form.

    """

    offsets: Mapping[str, NDArray[np.int16]]
    source: str = "data"

    def __post_init__(self) -> None:
        for name, values in self.offsets.items():
            if values.ndim != 4 or values.dtype != np.int16 or values.shape[1] % 2 or not values.size:
                raise InputError(
                    f"offsets of layer '{name}' must be int16 [samples, 2 per tap, rows, columns], got {values.dtype} "
                    f"{list(values.shape)}"
                )

    def of(self, layer: Layer) -> NDArray[np.int16]:
        """Return a layer's offsets.

        Raises:
            InputError: if there are none, or they were recorded for other shapes.

        """
        found = self.offsets.get(layer.name)
        if found is None:
            raise InputError(
                f"the offset trace has no layer '{layer.name}', only {', '.join(sorted(self.offsets)) or 'none'}; record it "
                "with this network"
            )
        wanted = layer.operands[2].shape[1:]
        if found.shape[1:] != wanted:
            raise InputError(
                f"the offset trace of layer '{layer.name}' has shape {list(found.shape[1:])} per sample, the layer takes "
                f"{list(wanted)}; record it with this network and input size"
            )
        return found

    def digest(self) -> str:
        """Return a SHA-256 over names and offsets."""
        made = hashlib.sha256(self.source.encode())
        for name in sorted(self.offsets):
            made.update(
                f"{name}{self.offsets[name].shape}".encode() + np.ascontiguousarray(self.offsets[name]).tobytes()
            )
        return made.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write an .npz file, whole or not at all; the same trace gives the same bytes."""
        names = list(self.offsets)
        index = json.dumps({"schema": _SCHEMA, "source": self.source, "layers": names}).encode()
        arrays: dict[str, NDArray[Any]] = {"index": np.frombuffer(index, np.uint8)}
        arrays.update((f"layer_{i}", self.offsets[name]) for i, name in enumerate(names))
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for key, values in arrays.items():
                record = io.BytesIO()
                np.lib.format.write_array(record, np.ascontiguousarray(values), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy"), record.getvalue())  # without the time of day
        write_atomic(Path(path), stream.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> "OffsetTrace":
        """Read what `save` wrote.

        Raises:
            InputError: if the file is missing, torn, or holds something else.

        """
        path = Path(path)
        data = read_bounded(path, _LIMIT_BYTES, "an offset trace (.npz)")
        try:
            check_uncompressed(zipfile.ZipFile(io.BytesIO(data)), len(data), path)
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                index = json.loads(archive["index"].tobytes())
                if index["schema"] != _SCHEMA:
                    raise InputError(
                        f"{path}: offset trace of schema {index['schema']!r}, this version reads {_SCHEMA}"
                    )
                names, source = [str(n) for n in index["layers"]], str(index["source"])
                offsets = {name: archive[f"layer_{i}"] for i, name in enumerate(names)}
        except InputError as error:
            raise InputError(str(error).replace(", which compresses nothing", "").replace(" with torch", "")) from None
        except Exception as error:  # numpy, zip and JSON raise many kinds for a torn file
            raise InputError(
                f"{path}: is no offset trace ({type(error).__name__}); write one with record_offsets"
            ) from None
        try:
            return cls(offsets=offsets, source=source)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetStatistics:
    """Offsets (d of a square) to assume for every layer where none were recorded; figures from them are marked `statistics`.

    In pixels. `uniform`: whole numbers between low and high, both included; `normal`: around the middle of that range with
    `std`, rounded, kept inside it; `fixed`: no offsets, an ordinary window.

    Raises:
        InputError: if the numbers make no distribution.

    """

    distribution: Literal["uniform", "normal", "fixed"] = "uniform"
    low: float = -7.0
    high: float = 7.0
    std: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.distribution not in ("uniform", "normal", "fixed"):
            raise InputError(
                f"offset statistics: unknown distribution '{self.distribution}'; choose uniform, normal or fixed"
            )
        if not -LARGEST <= self.low <= self.high <= LARGEST or ceil(self.low) > floor(self.high):
            raise InputError(
                f"offset statistics: low and high must hold a whole number of pixels up to {LARGEST} between them, got "
                f"{self.low} and {self.high}"
            )
        if not 0 <= self.std < float("inf"):
            raise InputError(f"offset statistics: std must be 0 or more pixels, got {self.std}")
