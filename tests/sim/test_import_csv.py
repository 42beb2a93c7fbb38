from pathlib import Path

import pytest

from picojoule.sim.attributes import ConvAttributes, Op
from picojoule.sim.errors import InputError
from picojoule.sim.formats import DENSE, Structure
from picojoule.sim.gemm import Gemm, gemm_view, layer_macs, network_macs
from picojoule.sim.importers.scalesim_csv import load_csv
from picojoule.sim.ir import Network

HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
ALEXNET = """\
Conv1, 224, 224, 11, 11, 3, 96, 4,
Conv2, 31, 31, 5, 5, 96, 256, 1,
Conv3, 15, 15, 3, 3, 256, 384, 1,
Conv4, 15, 15, 3, 3, 384, 384, 1,
Conv5, 15, 15, 3, 3, 384, 256, 1,
FC6, 6, 6, 6, 6, 256, 4096, 1,
"""


def load(tmp_path: Path, text: str, form: str = "auto") -> Network:
    path = tmp_path / "net.csv"
    path.write_text(text)
    return load_csv(path, form=form)


def refusal(tmp_path: Path, text: str, form: str = "auto") -> str:
    with pytest.raises(InputError) as caught:
        load(tmp_path, text, form)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_alexnet_rows_have_the_published_macs(tmp_path):
    net = load(tmp_path, HEADER + ALEXNET)
    assert net.name == "net"
    assert [layer.name for layer in net.layers] == ["Conv1", "Conv2", "Conv3", "Conv4", "Conv5", "FC6"]
    # 55 x 55 x 96 x 363 and so on: the ungrouped convolutions of AlexNet.
    assert [layer_macs(layer) for layer in net.layers] == [
        105_415_200,
        447_897_600,
        149_520_384,
        224_280_576,
        149_520_384,
        37_748_736,
    ]
    assert network_macs(net, 4) == 4 * network_macs(net)


def test_header_and_last_comma_are_optional(tmp_path):
    plain = load(tmp_path, "\n".join(line.rstrip(",") for line in ALEXNET.splitlines()))
    assert plain.layers[0].operands == load(tmp_path, HEADER + ALEXNET).layers[0].operands
    windows = load(tmp_path, "\ufeff" + (HEADER + "\n" + ALEXNET + ",,,\n").replace("\n", "\r\n"))
    assert [gemm_view(x) for x in windows.layers] == [gemm_view(x) for x in plain.layers]


def test_layers_are_independent_and_hold_no_values(tmp_path):
    net = load(tmp_path, ALEXNET)
    assert [r.name for r in net.inputs][:2] == ["Conv1.ifmap", "Conv2.ifmap"]
    assert net.outputs == tuple(layer.name for layer in net.layers)
    assert net.weights == "none"
    assert all(layer.operands[1].weights is None for layer in net.layers)
    assert net.parameters == 96 * 363 + 256 * 2400 + 384 * 2304 + 384 * 3456 + 256 * 3456 + 4096 * 9216


def test_windows_are_rounded_up_and_the_overhang_is_padding_at_the_end(tmp_path):
    net = load(tmp_path, "a, 8, 10, 3, 3, 2, 4, 2,\nb, 9, 9, 3, 3, 2, 4, 2,\nc, 5, 5, 1, 1, 2, 4, 3,\n")
    attributes = [layer.attributes for layer in net.layers]
    assert all(isinstance(a, ConvAttributes) for a in attributes)
    assert [a.padding_end for a in attributes] == [(1, 1), (0, 0), (2, 2)]
    assert [layer.results[0].shape for layer in net.layers] == [(1, 4, 4, 5), (1, 4, 4, 4), (1, 4, 3, 3)]
    assert net.notes == ("windows hang over the edge, counted as padding at the end (SCALE-Sim's rule): a, c",)


def test_the_note_lists_few_layers(tmp_path):
    net = load(tmp_path, "".join(f"l{i}, 8, 8, 3, 3, 2, 4, 2,\n" for i in range(7)))
    assert net.notes == (
        "windows hang over the edge, counted as padding at the end (SCALE-Sim's rule): l0, l1, l2, l3, l4 and 2 more",
    )


def test_gemm_rows_keep_m_n_k(tmp_path):
    net = load(tmp_path, "Layer, M, N, K,\nffn, 128, 3072, 768,\nhead, 1, 10, 64, 2:4,\n")
    assert [layer.op for layer in net.layers] == [Op.LINEAR, Op.LINEAR]
    assert [gemm_view(layer) for layer in net.layers] == [Gemm(m=128, n=3072, k=768), Gemm(m=1, n=10, k=64)]
    assert gemm_view(net.layers[0], batch=2) == Gemm(m=256, n=3072, k=768)
    assert net.layers[1].operands[1].sparsity.density == 0.5


def test_the_form_is_read_from_the_number_of_fields_or_given(tmp_path):
    assert load(tmp_path, "a, 4, 5, 6\n").layers[0].op is Op.LINEAR
    assert load(tmp_path, "a, 4, 5, 6\n", "gemm").layers[0].op is Op.LINEAR
    assert load(tmp_path, "a, 8, 8, 3, 3, 2, 4, 1\n").layers[0].op is Op.CONV
    assert refusal(tmp_path, "a, 4, 5, 6\n", "conv") == (
        "net.csv:1:1: a conv layer has 8 fields, 'name, ifmap height, ifmap width, filter height, filter width, "
        "channels, number of filters, stride[, N:M]', got 4"
    )
    with pytest.raises(InputError) as caught:
        load(tmp_path, "a, 4, 5, 6\n", "gem")
    assert str(caught.value) == (
        "unknown topology form 'gem'; did you mean 'gemm'? (choose from 'auto', 'conv', 'gemm')"
    )


def test_sparsity_of_the_filter(tmp_path):
    net = load(tmp_path, "a, 8, 8, 3, 3, 4, 4, 1, 2:4,\nb, 8, 8, 3, 3, 4, 4, 1, 4:4,\nc, 8, 8, 3, 3, 4, 4, 1,\n")
    kinds = [layer.operands[1].sparsity for layer in net.layers]
    assert (kinds[0].structure, kinds[0].n, kinds[0].m, kinds[0].density) == (Structure.N_OF_M, 2, 4, 0.5)
    assert kinds[1:] == [DENSE, DENSE]


def test_dp_in_the_name_is_depthwise_with_all_filters_per_channel(tmp_path):
    net = load(tmp_path, "Conv_DP_2, 16, 16, 3, 3, 8, 1, 1,\nmix DP, 9, 9, 3, 3, 4, 5, 1,\n")
    assert gemm_view(net.layers[0]) == Gemm(m=196, n=1, k=9, groups=8)
    assert gemm_view(net.layers[1]) == Gemm(m=49, n=5, k=9, groups=4)
    assert net.layers[1].results[0].shape == (1, 20, 7, 7)
    assert net.notes == (
        "'DP' in the name means depthwise (SCALE-Sim's convention), each channel with all filters: Conv_DP_2, mix DP",
    )


def test_repeated_names_get_a_suffix(tmp_path):
    net = load(tmp_path, "fc, 4, 5, 6\nfc, 4, 5, 6\nfc, 7, 5, 6\n")
    assert [layer.name for layer in net.layers] == ["fc", "fc#2", "fc#3"]
    assert [r.name for r in net.inputs] == ["fc.ifmap", "fc#2.ifmap", "fc#3.ifmap"]
    assert [layer.source for layer in net.layers] == ["net.csv:1:1", "net.csv:2:1", "net.csv:3:1"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("a, 8, x8, 3, 3, 2, 4, 1", "net.csv:2:7: ifmap width must be a whole number, got 'x8'"),
        ("a, 8, 8.0, 3, 3, 2, 4, 1", "net.csv:2:7: ifmap width must be a whole number, got '8.0'"),
        ("a, 8, , 3, 3, 2, 4, 1", "net.csv:2:7: ifmap width must be a whole number, got ''"),
        ("a, 8, 8, 3, 3, 0, 4, 1", "net.csv:2:16: channels must be between 1 and 2147483647, got 0"),
        ("a, 8, 8, 3, 3, 2, -4, 1", "net.csv:2:19: number of filters must be between 1 and 2147483647, got -4"),
        ("a, 8, 8, 3, 3, 2, 4, 0", "net.csv:2:22: stride must be between 1 and 2147483647, got 0"),
        (
            "a, 8, 8, 3, 3, 9999999999, 4, 1",
            "net.csv:2:16: channels must be between 1 and 2147483647, got 9999999999",
        ),
        (
            "a, 8, 8, 3, 9, 2, 4, 1",
            "net.csv:2:13: filter width 9 is larger than ifmap width 8; "
            "state the padded ifmap, a topology CSV has no padding",
        ),
        (
            "a, 8, 8, 3, 3",
            "net.csv:2:1: a conv layer has 8 fields, 'name, ifmap height, ifmap width, filter height, filter width, "
            "channels, number of filters, stride[, N:M]', got 5",
        ),
        ("a, 8, 8, 3, 3, 2, 4, 1, 2:4, 7", "net.csv:2:30: a conv layer ends after N:M, got '7' as field 10"),
        (
            "a, 8, 8, 3, 3, 2, 4, 1, 2",
            "net.csv:2:25: the field after the sizes is the sparsity N:M such as 2:4, got '2'",
        ),
        ("a, 8, 8, 3, 3, 2, 4, 1, 5:4", "net.csv:2:25: N:M sparsity keeps N of M with 1 <= N <= M, got 5:4"),
        (", 8, 8, 3, 3, 2, 4, 1", "net.csv:2:1: a layer needs a name in the first field, got none"),
        (
            "a, 2000000, 2000000, 1, 1, 1, 2000000, 1",
            "net.csv:2:1: layer 'a' has 8000000000000000000 multiply-accumulates, more than 2^62",
        ),
    ],
)
def test_bad_rows_are_refused_with_their_place(tmp_path, row, sentence):
    assert refusal(tmp_path, "ok, 8, 8, 3, 3, 2, 4, 1\n" + row + "\n") == sentence


def test_a_value_too_large_for_any_memory_is_refused(tmp_path):
    assert refusal(tmp_path, "a, 2000000, 2000000, 1, 1, 2000, 1, 1\n") == (
        "net: input 'a.ifmap' has shape [1, 2000, 2000000, 2000000], more than 2^48 elements; check the input shape"
    )


def test_files_that_hold_nothing_are_refused(tmp_path):
    empty = (
        "net.csv: the file holds no layer; write one per line as 'name, ifmap height, ifmap width, filter height, "
        "filter width, channels, number of filters, stride[, N:M]' or 'name, M, N, K[, N:M]'"
    )
    assert refusal(tmp_path, "") == "net.csv: the file is empty; a topology CSV was expected"
    assert refusal(tmp_path, "\n\n,,\n") == empty
    assert refusal(tmp_path, HEADER) == empty
    with pytest.raises(InputError, match=r"none\.csv: no such file; give the path of a topology CSV$"):
        load_csv(tmp_path / "none.csv")


def test_files_that_are_no_text_or_too_long_are_refused(tmp_path):
    path = tmp_path / "net.csv"
    path.write_bytes(b"a, 1\xff")
    with pytest.raises(InputError) as caught:
        load_csv(path)
    assert str(caught.value) == f"{path}: byte 4 is not UTF-8 text; a topology CSV was expected"
    assert refusal(tmp_path, "a,1,1,1\n" * 10_001) == "net.csv: a topology may have 10000 rows, got 10001"
    path.write_bytes(b" " * (16 * 1024**2 + 1))
    with pytest.raises(InputError) as caught:
        load_csv(path)
    assert str(caught.value) == f"{path}: a topology CSV may have 16777216 bytes, got 16777217"
