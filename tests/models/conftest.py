"""Real images that an installed package carries, and a writer for IDX files."""

import gzip
import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Images = tuple[NDArray[np.uint8], list[int]]


@pytest.fixture
def foolbox_images() -> Callable[[str], Images]:
    """Reader of the twenty images per data set that the foolbox package carries, with the label in the file name."""
    spec = importlib.util.find_spec("foolbox")
    assert spec is not None, "the extra 'samples' is needed: pip install -e '.[samples]'"
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "data"

    def read(kind: str) -> Images:
        files = sorted(folder.glob(f"{kind}_*.png"))
        assert len(files) == 20
        return np.stack([np.asarray(Image.open(file)) for file in files]), [int(f.stem.split("_")[-1]) for f in files]

    return read


@pytest.fixture
def write_idx() -> Callable[[Path, NDArray[np.uint8]], None]:
    """Writer of one IDX file, compressed if its name ends in .gz."""

    def write(path: Path, values: NDArray[np.uint8]) -> None:
        content = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
        path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)

    return write
