"""What a `.pt2` archive may hold before torch is allowed to load it: records, operators and sizes that cannot run code.

torch's loader unpickles some records and loads others as shared libraries, evaluates sizes as Python expressions and finds
operators by attribute. Here every record is checked, and the archive is written anew from the checked ones, so that what is
loaded is what was looked at, whatever tricks the zip directory plays. Source: torch/export/pt2_archive/_package.py and
torch/_export/serde/serialize.py of torch 2.9 to 2.13.
"""

import ast
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from picojoule.sim.errors import InputError
from picojoule.sim.files import check_uncompressed

_LIMIT_JSON = 64 << 20
_RECORDS = re.compile(
    r"[^/]+/(?:archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment|\.data/\w+|models/[^/]+\.json|"
    r"data/weights/(?:weight_\d+|[^/]+_weights_config\.json|[^/]+\.pt)|"
    r"data/constants/(?:tensor_\d+|[^/]+_constants_config\.json|[^/]+\.pt)|"
    r"data/sample_inputs/[^/]+\.pt|extra/[^/]+)"
)
"""All that torch.export.save writes; besides there are opaque_obj_N and custom_obj_N (pickles) and aotinductor (programs)."""
_PAYLOAD = re.compile(r"(?:weight|tensor)_\d+")
_TARGET = re.compile(
    r"torch\.ops\.picojoule\.deform_conv2d\.default|"
    r"torch\.ops\.(?:aten|prims|prim|higher_order|quantized|quantized_decomposed|torchvision|torchao)\.\w+(?:\.\w+)?|"
    r"torch\._higher_order_ops\.\w+|#?_operator\.\w+|torch\.sym_\w+|math\.\w+|torch\._sym_\w+"
)
_FORBIDDEN_TARGET = re.compile(
    r"aten\.from_file|_operator\.(?:attrgetter|itemgetter|methodcaller|call)|prim\.(?:Print|PythonOp)"
)
_LONGEST_SIZE = 2000


def checked_archive(path: Path, data: bytes) -> io.BytesIO:
    """Return the archive, written anew from its checked records.

    Raises:
        InputError: if a record, an operator or a size could run code, or one unpacks to more than the file holds.

    """
    source = zipfile.ZipFile(io.BytesIO(data))
    check_uncompressed(source, len(data), path)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name in dict.fromkeys(source.namelist()):
            if not _RECORDS.fullmatch(name):
                raise InputError(
                    f"{path}: record '{name}' is none of those that torch.export.save writes for a plain program, and "
                    "could run code; refused"
                )
            content = source.read(name)
            if name.endswith(".json"):
                content = _checked_json(path, name, content)
            elif name.endswith(".pt"):
                _check_pickle(path, name, content)
            made.writestr(name, content)
    stream.seek(0)
    return stream


def _check_pickle(path: Path, name: str, content: bytes) -> None:
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            check_uncompressed(zipfile.ZipFile(io.BytesIO(content)), len(content), path)
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        raise InputError(f"{path}: record '{name}' holds pickled objects, which could run code; refused") from None


def _checked_json(path: Path, name: str, content: bytes) -> bytes:
    """Return the record without its guards (Python code that only a later call of the program would need)."""
    if len(content) > _LIMIT_JSON:
        raise InputError(f"{path}: record '{name}' has {len(content)} bytes, at most {_LIMIT_JSON} are read")
    document = json.loads(content)
    if not isinstance(document, dict):
        raise InputError(f"{path}: record '{name}' is no JSON object; save the program again")
    stack: list[Any] = [document]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(v for v in item if isinstance(v, list | dict))
        if not isinstance(item, dict):
            continue
        for key, inner in item.items():
            _check_entry(path, name, item, key, inner)
            if isinstance(inner, list | dict):
                stack.append(inner)
    if "guards_code" not in document:
        return content
    return json.dumps(document | {"guards_code": []}).encode()


def _check_entry(path: Path, name: str, item: dict[str, Any], key: str, inner: Any) -> None:
    if key == "use_pickle" and inner:
        raise InputError(f"{path}: '{name}' lists pickled weights, which could run code; save them as plain tensors")
    if key == "path_name" and not (isinstance(inner, str) and _PAYLOAD.fullmatch(inner)):
        raise InputError(f"{path}: '{name}' lists '{inner}', which is no plain tensor and could run code; refused")
    if key == "expr_str" and not is_plain_size(inner):
        raise InputError(f"{path}: '{name}' holds a size that is not plain arithmetic; refused")
    called = key == "target" and isinstance(inner, str) and "inputs" in item
    if called and (not _TARGET.fullmatch(inner) or _FORBIDDEN_TARGET.search(inner)):
        raise InputError(f"{path}: '{name}' calls '{inner}', which is no torch operator; refused")


# --- sizes: what sympy's srepr writes for symbols, numbers and arithmetic -------------------------------------------------

_FUNCTIONS = re.compile(
    "Symbol|Integer|Rational|Float|Add|Mul|Pow|Mod|Max|Min|Abs|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|PythonMod|IntTrueDiv|"
    "FloatTrueDiv|ToFloat|TruncToInt|CeilToInt|FloorToInt|RoundToInt|FloatPow|PowByNatural|Eq|Ne|Ge|Gt|Le|Lt|Equality|"
    "Unequality|GreaterThan|StrictGreaterThan|LessThan|StrictLessThan|And|Or|Not|Where|Piecewise|Identity"
)
_SYMBOL = re.compile(r"[A-Za-z]\w{0,80}")
_KEYWORDS = ("positive", "integer", "nonnegative", "nonzero", "real", "precision")
_REAL = re.compile(r"-?\d{1,20}(?:\.\d{0,40})?(?:e[+-]?\d{1,3})?")
_LARGEST_POWER, _MOST_POWERS = 16, 4


def is_plain_size(text: Any) -> bool:
    """Whether a size is plain arithmetic on symbols and 64-bit numbers: no attribute, no other call, no large power."""
    if not isinstance(text, str) or len(text) > _LONGEST_SIZE:
        return False
    if text.count("**") + text.count("Pow") > _MOST_POWERS:  # powers of powers are large however small each is
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return _plain(tree.body)


def _plain(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float) and abs(value) < 2**64
        case ast.Name(id=name):
            return re.fullmatch(r"[suz]f?\d{1,9}", name) is not None
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
            return _plain(inner)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _plain(left) and _small(right)
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod(), right=right
        ):
            return _plain(left) and _plain(right)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords) if _FUNCTIONS.fullmatch(name):
            if not all(k.arg in _KEYWORDS and isinstance(k.value, ast.Constant) for k in keywords):
                return False
            if name in ("Symbol", "Float"):
                word = _SYMBOL if name == "Symbol" else _REAL
                return all(isinstance(a, ast.Constant) and word.fullmatch(str(a.value)) for a in arguments)
            if name in ("Pow", "FloatPow", "PowByNatural"):
                return len(arguments) == 2 and _plain(arguments[0]) and _small(arguments[1])
            return all(_plain(a) for a in arguments)
        case _:
            return False


def _small(node: ast.expr) -> bool:
    """Whether an exponent is a small number; 9**9**9 is plain arithmetic that never ends."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _small(inner)
        case ast.Call(func=ast.Name(id="Integer"), args=[inner], keywords=[]):
            return _small(inner)
        case ast.Constant(value=value):
            return isinstance(value, int) and abs(value) <= _LARGEST_POWER
        case _:
            return False
