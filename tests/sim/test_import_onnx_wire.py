"""Reading a file piece by piece gives the model that reading it whole gives, and refuses what is no message."""

import random
from pathlib import Path

import onnx
import pytest

from picojoule.sim.importers import onnx_wire

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
FILES = [DATA / "light" / "light_squeezenet.onnx", *sorted(DATA.glob("pytorch-*/*/model.onnx"))[::9]]


@pytest.mark.parametrize("piece", [1, 300, 1 << 20])
def test_pieces_make_the_whole(piece, monkeypatch):
    monkeypatch.setattr(onnx_wire, "_PIECE_BYTES", piece)
    for path in FILES:
        assert onnx_wire.parse_model(path) == onnx.ModelProto.FromString(path.read_bytes())


def test_a_graph_in_two_parts_is_merged(tmp_path):
    whole = onnx.ModelProto.FromString(FILES[0].read_bytes())
    first, second = onnx.ModelProto(), onnx.ModelProto()
    first.CopyFrom(whole)
    del first.graph.node[5:]
    second.graph.node.extend(whole.graph.node[5:])
    path = tmp_path / "two.onnx"
    path.write_bytes(first.SerializeToString() + second.SerializeToString())
    assert onnx_wire.parse_model(path) == whole


def test_what_the_library_refuses_is_refused(tmp_path):
    """Cut anywhere, or with bytes changed: no other error, and never a model where the library has none."""
    whole, rng, path = FILES[1].read_bytes(), random.Random(5), tmp_path / "torn.onnx"
    refused = 0
    for _ in range(300):
        data = bytearray(whole[: rng.randrange(1, len(whole) + 1)])
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(data))
        try:
            expected = onnx.ModelProto.FromString(bytes(data))
        except onnx_wire.DecodeError:
            expected = None
        try:
            made = onnx_wire.parse_model(path)
        except onnx_wire.DecodeError:
            refused += 1
            continue
        assert expected is not None
        assert made.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert refused > 100
