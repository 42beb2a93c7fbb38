"""Parses an ONNX file piece by piece, so that its bytes and the parsed model are never in memory together.

Protobuf merges messages field by field: a model is what merging each of its fields, and each field of its graph, makes. The
wire format: protobuf.dev, "Encoding" (a field is a varint tag and, for wire type 2, a varint length and so many bytes).
"""

import importlib
from pathlib import Path
from typing import Any, BinaryIO

import onnx

DecodeError: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
_GRAPH = 7
"""Field of ModelProto that holds the graph (onnx.proto)."""
_PIECE_BYTES = 1 << 20
_DELIMITED, _FIXED64, _FIXED32, _VARINT = 2, 1, 5, 0
_LONGEST_VARINT = 10


def parse_model(path: Path) -> Any:
    """Return the `onnx.ModelProto` in a file.

    Raises:
        DecodeError: if the bytes are no such message.

    """
    model = onnx.ModelProto()
    size = path.stat().st_size
    with path.open("rb") as file:
        _merge(model, file, size, graph=model)
    return model


def _merge(message: Any, file: BinaryIO, end: int, graph: Any = None) -> None:
    """Merge the fields up to `end` into a message; those of its graph one by one where `graph` is the model."""
    held = bytearray()
    while (start := file.tell()) < end:
        tag, raw = _varint(file)
        field, wire = tag >> 3, tag & 7
        if wire == _DELIMITED:
            length, more = _varint(file)
            raw += more
            if file.tell() + length > end:
                raise DecodeError(f"a field at {start} reaches beyond its message")
            if graph is not None and field == _GRAPH:
                message.MergeFromString(bytes(held))
                held.clear()
                message.graph.SetInParent()
                _merge(message.graph, file, file.tell() + length)
                continue
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        elif wire == _VARINT:
            length, raw = 0, raw + _varint(file)[1]
        else:
            raise DecodeError(f"wire type {wire} at {start}")
        held += raw
        held += file.read(length)
        if len(held) > _PIECE_BYTES:
            message.MergeFromString(bytes(held))
            held.clear()
    message.MergeFromString(bytes(held))


def _varint(file: BinaryIO) -> tuple[int, bytes]:
    value, raw = 0, bytearray()
    for i in range(_LONGEST_VARINT):
        byte = file.read(1)
        if not byte:
            raise DecodeError("the file ends inside a number")
        raw += byte
        value |= (byte[0] & 0x7F) << (7 * i)
        if byte[0] < 0x80:
            return value, bytes(raw)
    raise DecodeError("a number is longer than ten bytes")
