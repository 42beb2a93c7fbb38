"""Damage to PyTorch's files: pickles that run code, tensors that lie about their size, archives that unpack to terabytes."""

import io
import json
import os
import pickle
import pickletools
import random
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from . import corpus_torch as corpus
from .mutate_bytes import HOSTILE_INTS, damaged
from .mutate_text import MARKER, Raw, as_json, mutated

_TOUCH = f"touch {MARKER}"
_PYTHON = f"open({MARKER!r}, 'w')"


class Call:
    """Pickles as a call of `function`, which a plain unpickler makes when it reads the file."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _inner_pickle() -> bytes:
    stream = io.BytesIO()
    torch.save(Call(os.system, _TOUCH), stream)
    return stream.getvalue()


def malicious(rng: random.Random) -> Any:
    """Return a value whose unpickling runs code that leaves the marker."""
    return rng.choice(
        (
            Call(os.system, _TOUCH),
            Call(exec, _PYTHON),
            Call(eval, _PYTHON),
            Call(open, MARKER, "w"),
            Call(subprocess.check_output, ["touch", MARKER]),
            Call(Path.touch, Path(MARKER)),
            Call(torch.storage._load_from_bytes, _inner_pickle()),
            Call(getattr, Call(__import__, "os"), "system"),
            Call(torch.nn.Module),
        )
    )


# --- .pt --------------------------------------------------------------------------------------------------------------


def write_pt(rng: random.Random, path: Path) -> str:
    """Write a hostile .pt file and say what was done."""
    kind = rng.random()
    if kind < 0.25:
        path.write_bytes(damaged(rng, rng.choice(corpus.checkpoints())))
        return "bytes"
    if kind < 0.45:
        path.write_bytes(_rezipped(rng, corpus.checkpoints()[0]))
        return "archive"
    if kind < 0.6:
        path.write_bytes(_repickled(rng))
        return "opcodes"
    value, label = _hostile_state(rng)
    path.write_bytes(corpus.pt(value, zipped=rng.random() < 0.7))
    return label


def _hostile_state(rng: random.Random) -> tuple[Any, str]:
    state: dict[Any, Any] = corpus.state()
    key = rng.choice(list(state))
    kind = rng.randrange(10)
    if kind < 3:
        bad = malicious(rng)
        state[rng.choice((key, "extra"))] = rng.choice((bad, [bad], {"a": bad}, (bad, bad)))
        return rng.choice((state, bad, [bad], {"state_dict": bad}, OrderedDict(state))), "malicious"
    if kind < 7:
        state[key] = _hostile_tensor(rng, state[key])
        return rng.choice((state, {"state_dict": state}, OrderedDict(state))), "tensor"
    if kind == 7:
        value: Any = state
        for _ in range(rng.choice((1, 2, 50, 400))):
            value = rng.choice(({"state_dict": value}, [value], {"model": value, "x": 1}))
        return value, "nested"
    if kind == 8:
        whole = rng.choice(
            (
                None,
                3,
                "text",
                [],
                {},
                torch.zeros(3),
                [torch.zeros(1)],
                torch.nn.Parameter(torch.ones(2)),
                {1: 2},
                b"x" * 5000,
            )
        )
        return whole, "no state"
    if rng.random() < 0.5:
        del state[key]
    else:
        state[rng.choice(("", "x\ny", "\x1b[31m", "a" * 5000, 3, None, (1, 2), key + ".x"))] = torch.zeros(2)
    return state, "keys"


def _hostile_tensor(rng: random.Random, value: Any) -> Any:
    return rng.choice(
        (
            lambda: torch.full_like(value, float("nan")),
            lambda: torch.full_like(value, float("inf")),
            lambda: value.to(torch.int64),
            lambda: value.to(torch.complex64),
            lambda: value > 0,
            lambda: value.double(),
            lambda: value.bfloat16(),
            lambda: value.to(torch.float8_e4m3fn),
            lambda: value.to_sparse(),
            lambda: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
            lambda: torch.zeros(1).expand(2**20, 2**20),
            lambda: torch.zeros(1).expand(value.shape),
            lambda: value.to("meta"),
            lambda: torch.empty(0),
            lambda: value.reshape(-1),
            lambda: torch.nn.Parameter(value),
            lambda: value.unsqueeze(0),
            lambda: value.tolist(),
            lambda: "text",
            lambda: None,
            lambda: float("nan"),
        )
    )()


def _rezipped(rng: random.Random, content: bytes) -> bytes:
    """Change one record of an archive, or the archive's directory: missing, repeated, inflating, misnamed records."""
    source = zipfile.ZipFile(io.BytesIO(content))
    stream = io.BytesIO()
    names = source.namelist()
    victim, choice = rng.choice(names), rng.randrange(8)
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as made:
        for name in names:
            data = source.read(name)
            if name != victim:
                made.writestr(name, data)
            elif choice == 0:
                made.writestr(name, damaged(rng, data))
            elif choice == 1:
                made.writestr(
                    name, bytes(rng.choice((1 << 20, 1 << 24))), zipfile.ZIP_DEFLATED, 1
                )  # a few KiB in the file
            elif choice == 2:
                made.writestr(rng.choice(("../" + name, "/" + name, "a" * 300, name + "/", "archive/data.pkl")), data)
            elif choice == 3:
                made.writestr(name, pickle.dumps(malicious(rng), 2))
            elif choice == 4:
                made.writestr(name, b"")
            elif choice == 5:
                made.writestr(name, data[: len(data) // 2])
            elif choice == 6:
                made.writestr(name, data + bytes(64))
    return stream.getvalue()


_SMALL_INTS = {
    "BININT": 4,
    "BININT1": 1,
    "BININT2": 2,
    "LONG1": 0,
    "LONG4": 0,
    "BINUNICODE": 4,
    "BINGET": 1,
    "LONG_BINGET": 4,
    "BINPUT": 1,
}


def _repickled(rng: random.Random) -> bytes:
    """Change the opcodes of the pickle inside an archive: sizes, strides, counts, what is built."""
    content = corpus.checkpoints()[0]
    source = zipfile.ZipFile(io.BytesIO(content))
    name = next(n for n in source.namelist() if n.endswith("data.pkl"))
    data = bytearray(source.read(name))
    for _ in range(rng.choice((1, 1, 2, 5))):
        spots = [(op.name, at) for op, _, at in pickletools.genops(source.read(name)) if at is not None]
        numbers = [(n, at) for n, at in spots if n in _SMALL_INTS]
        opcode, at = rng.choice(numbers if rng.random() < 0.8 else spots)
        width = _SMALL_INTS.get(opcode, 0)
        if width:
            value = rng.choice(HOSTILE_INTS) % (1 << 8 * width)
            data[at + 1 : at + 1 + width] = value.to_bytes(width, "little")
        elif at < len(data):
            data[at] = rng.choice(b"().NR}]bcusteaKJMX2q\x8a\x8b\x85\x86\x87")
    if rng.random() < 0.3:  # a number wider than the stream foresees: insert a LONG1 of eight bytes
        opcode, at = rng.choice([(n, a) for n, a in numbers if n in ("BININT1", "BININT2", "BININT")] or numbers)
        big = rng.choice(HOSTILE_INTS).to_bytes(9, "little", signed=True)
        data[at : at + 1 + _SMALL_INTS[opcode]] = b"\x8a\x09" + big
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for record in source.namelist():
            made.writestr(record, bytes(data) if record == name else source.read(record))
    return stream.getvalue()


# --- .safetensors -----------------------------------------------------------------------------------------------------


def write_safetensors(rng: random.Random, path: Path) -> str:
    """Write a hostile .safetensors file and say what was done."""
    content = corpus.safetensors()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    kind = rng.random()
    if kind < 0.3:
        path.write_bytes(damaged(rng, content))
        return "bytes"
    if kind < 0.4:
        claim = rng.choice(HOSTILE_INTS) % (1 << 64)
        path.write_bytes(claim.to_bytes(8, "little") + content[8:])
        return "header length"
    if kind < 0.7:
        key = rng.choice([k for k in header if k != "__metadata__"])
        entry = header[key]
        choice = rng.randrange(5)
        if choice == 0:
            entry["data_offsets"] = [rng.choice(HOSTILE_INTS), rng.choice(HOSTILE_INTS)]
        elif choice == 1:
            entry["shape"] = [rng.choice(HOSTILE_INTS) for _ in range(rng.choice((0, 1, 4, 200)))]
        elif choice == 2:
            entry["dtype"] = rng.choice(("F64", "I64", "BOOL", "F8_E4M3", "BF16", "X", "", "U8", "F4", "C64"))
        elif choice == 3:
            header[rng.choice(("", "a\nb", "a" * 5000, "\x1b[1m", "extra"))] = dict(entry)
        else:
            entry["data_offsets"] = [0, len(data)]
        label, text = "entry", json.dumps(header)
    else:
        label, text = "json", as_json(mutated(rng, header))
    if rng.random() < 0.1:
        data = rng.choice((b"", data[:100], data * 2, b"\xff" * len(data)))
    raw = text.encode(errors="surrogatepass")
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return label


# --- .pt2 -------------------------------------------------------------------------------------------------------------


def write_pt2(rng: random.Random, path: Path) -> str:
    """Write a hostile exported program and say what was done."""
    content = rng.choice(corpus.programs())
    kind = rng.random()
    if kind < 0.2:
        path.write_bytes(damaged(rng, content))
        return "bytes"
    if kind < 0.35:
        path.write_bytes(_rezipped(rng, content))
        return "archive"
    if kind < 0.45:
        path.write_bytes(_with_record(rng, content))
        return "record"
    path.write_bytes(_rewritten(rng, content))
    return "json"


def _with_record(rng: random.Random, content: bytes) -> bytes:
    """Add a record: pickles that run code, programs of the compiler, a JSON of gigabytes in a few KiB."""
    data = "archive/data/"
    names = (
        f"{data}weights/model.pt",
        f"{data}constants/model.pt",
        f"{data}sample_inputs/model.pt",
        f"{data}aotinductor/model/a.so",
    )
    name = rng.choice(
        (
            *names,
            f"{data}constants/custom_obj_0",
            f"{data}constants/opaque_obj_0",
            "archive/models/other.json",
            "archive/extra/x.bin",
            "weights.pt",
        )
    )
    body = rng.choice(
        (
            lambda: pickle.dumps(malicious(rng)),
            lambda: corpus.pt({"a": malicious(rng)}),
            lambda: corpus.pt(corpus.state()),
            lambda: b"[" * 100_000,
            lambda: b"[" + b"0," * 6_000_000 + b"0]",
            lambda: bytes(1 << 24),
        )
    )()
    return with_record(content, name, body, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


_BYTES = {
    "dtype": 1,
    "sizes": [{"as_int": 1}],
    "requires_grad": False,
    "device": {"type": "cpu", "index": None},
    "strides": [{"as_int": 1}],
    "storage_offset": {"as_int": 0},
    "layout": 7,
}
"""What torch asks of a constant before it looks at how it is stored."""


def with_record(content: bytes, name: str, body: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive with one more record; pickled constants are entered in the list that torch goes by."""
    source, stream = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for record in source.namelist():
            data = source.read(record)
            if record.endswith("_constants_config.json") and "constants/" in name and "_obj_" in name:
                entry = {
                    "path_name": name.rpartition("/")[2],
                    "is_param": False,
                    "use_pickle": False,
                    "tensor_meta": _BYTES,
                }
                data = json.dumps({"config": {"added": entry}}).encode()
            made.writestr(record, data)
        made.writestr(name, body, compression)
    return stream.getvalue()


_CODE = (
    *(
        f"__import__('os').system({_TOUCH!r})",
        f"exec({_PYTHON!r})",
        "Symbol('s0').__class__",
        "s0 + 1",
        "9**9**9**9",
        "Pow(Integer(9), Pow(Integer(9), Integer(99)))",
    ),
    *(
        "Integer(" + "9" * 4000 + ")",
        "(" * 5000,
        "Add(" * 200 + "1" + ")" * 200,
        "Mod(Integer(1), Integer(0))",
        "Symbol('x" + "a" * 5000 + "')",
    ),
)
_TARGETS = (
    "os.system",
    "torch.ops.aten.relu.default",
    "torch.ops.os.system",
    "_operator.attrgetter",
    "_operator.methodcaller",
    "math.factorial",
    "_operator.pow",
    "torch.ops.aten.conv2d",
    "torch.ops.higher_order.cond",
    "torch.ops.load_library",
    "torch.sym_max",
    "builtins.eval",
    "",
)


def _rewritten(rng: random.Random, content: bytes) -> bytes:
    """Change the program's JSON: operators, sizes, names, types."""
    source = zipfile.ZipFile(io.BytesIO(content))
    records = [n for n in source.namelist() if n.endswith(".json")]
    victim = rng.choice([n for n in records if "models/" in n] * 4 + records)
    tree = json.loads(source.read(victim))
    if rng.random() < 0.5:
        text = as_json(mutated(rng, tree))
    else:
        for _ in range(rng.choice((1, 1, 3))):
            _aimed(rng, tree)
        text = as_json(tree)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name in source.namelist():
            made.writestr(name, text.encode(errors="surrogatepass") if name == victim else source.read(name))
    return stream.getvalue()


def _aimed(rng: random.Random, tree: Any) -> None:
    """Change one number, operator or expression somewhere in the tree."""
    spots = []
    stack = [tree]
    while stack:
        item = stack.pop()
        pairs = item.items() if isinstance(item, dict) else enumerate(item)
        for key, value in pairs:
            if isinstance(value, dict | list):
                stack.append(value)
            elif key in (
                "as_int",
                "expr_str",
                "target",
                "dtype",
                "name",
                "use_pickle",
                "min_val",
                "max_val",
                "path_name",
                "layout",
                "device",
                "as_float",
            ):
                spots.append((item, key))
    if not spots:
        return
    keys = sorted({str(k) for _, k in spots})
    wanted = rng.choice(keys)
    item, key = rng.choice([s for s in spots if str(s[1]) == wanted])
    values: Any = HOSTILE_INTS
    if key == "target":
        values = _TARGETS
    elif key == "expr_str":
        values = _CODE
    elif key == "use_pickle":
        values = (True, 1, "yes")
    elif key in ("name", "path_name"):
        values = ("", "x", "weight_0", "../../weight_0", "a" * 5000, "line\nbreak", item[key])
    elif key in ("dtype", "layout"):
        values = (*range(40), -1, 2**40)
    elif key == "as_float":
        values = (Raw("NaN"), Raw("Infinity"), Raw("1e999"), 0.0)
    item[key] = rng.choice(values)
