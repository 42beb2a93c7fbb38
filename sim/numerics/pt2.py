"""Reads `.pt2` archives of `torch.export.save` after checking that loading them cannot run code.

torch's loader unpickles some records, evaluates symbolic sizes as expressions and resolves operator names by attribute; an
archive is loaded only if it has no pickled record that `weights_only` refuses, plain arithmetic sizes and torch operators.
"""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded
from picojoule.sim.ir import Network
from picojoule.sim.numerics.torch_importer import from_program

_LIMIT_BYTES = 4 << 30
_LIMIT_JSON = 256 << 20
_SIZE = re.compile(  # what sympy's srepr writes for sizes: symbols, numbers and arithmetic, no attribute or call else
    r"(?:Symbol\('[A-Za-z]\w*'|\b(?:Integer|Rational|Add|Mul|Pow|Mod|Max|Min|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|"
    r"PythonMod|IntTrueDiv|positive|integer|nonnegative|nonzero|True|False|[su]\d+|\d+)\b|[\s()+\-*/,=])*"
)
_TARGET = re.compile(r"(torch\.ops\.[\w.]+|#?_operator\.\w+|torch\.sym_\w+|math\.\w+)")


def load_pt2(path: Path) -> Network:
    """Return the network in a `.pt2` archive.

    Raises:
        InputError: if the file is missing, torn, no such archive, or holds something that could run code.

    """
    data = read_bounded(path, _LIMIT_BYTES, "a torch.export archive (.pt2)")
    try:
        _check(path, zipfile.ZipFile(io.BytesIO(data)))
        program = torch.export.load(io.BytesIO(data))
    except InputError:
        raise
    except Exception as error:  # torch raises many kinds for a torn archive
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a readable torch.export archive: {first}") from None
    return from_program(program, name=path.stem)


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    for record in archive.infolist():
        leaf = record.filename
        if leaf.endswith(".json") and record.file_size <= _LIMIT_JSON:
            _check_json(path, leaf, json.loads(archive.read(record)))
        elif leaf.endswith((".pt", ".pkl")) or "/sample_inputs/" in leaf or "/custom_obj" in leaf:
            try:
                torch.load(io.BytesIO(archive.read(record)), weights_only=True)
            except Exception:
                raise InputError(
                    f"{path}: record '{leaf}' holds pickled objects, which could run code; refused"
                ) from None


def _check_json(path: Path, leaf: str, value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        if not isinstance(item, dict):
            continue
        for key, inner in item.items():
            if key == "use_pickle" and inner:
                raise InputError(
                    f"{path}: '{leaf}' lists pickled weights, which could run code; save them as plain tensors"
                )
            if key == "expr_str" and not _SIZE.fullmatch(str(inner)):
                raise InputError(f"{path}: '{leaf}' holds a size that is not plain arithmetic; refused")
            is_call = key == "target" and isinstance(inner, str) and "inputs" in item
            if is_call and not _TARGET.fullmatch(inner):
                raise InputError(f"{path}: '{leaf}' calls '{inner}', which is no torch operator; refused")
            stack.append(inner)
