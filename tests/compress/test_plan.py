"""PLAN.yaml: reading, writing, and what it does to a network."""

from pathlib import Path

import numpy as np
import pytest

from picojoule.compress.plan import LayerPlan, Plan, WeightPlan, apply_plan, read_plan
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.formats import Granularity, Structure
from picojoule.sim.ir import Network, TensorType
from picojoule.sim.weights import from_array

EXAMPLE = """\
schema: 1
layers:
  "stage1.*.conv1": {keep_channels: 3, weight: {format: int4, per: channel}, activation: {format: uint8}}
  "fc": {weight: {format: int8, step: 0.5}, sparsity: {structure: "2:4"}}
  "*": {weight: {format: int8}, activation: {format: uint8, step: 0.25}}
"""


def small() -> Network:
    """Two residual convolutions after a first one, then a classifier; filter i of each has norm proportional to i."""
    build = NetworkBuilder("small")
    rows = np.arange(4, dtype=np.float32)
    plain = at.ConvAttributes(stride=(1, 1), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1))

    def filters(name: str, channels: int, turned: bool = False) -> object:
        values = np.ones((4, channels, 1, 1), dtype=np.float32) * (rows[::-1] if turned else rows)[:, None, None, None]
        return parameter(name, from_array(values))

    x = build.input("x", TensorType(shape=(1, 3, 5, 5), batch_axis=0))
    (a,) = build.add(Op.CONV, [x, filters("first.weight", 3)], plain, name="first")
    (b,) = build.add(Op.CONV, [a, filters("stage1.0.conv1.weight", 4)], plain, name="stage1.0.conv1")
    (c,) = build.add(Op.CONV, [b, filters("stage1.0.conv2.weight", 4, turned=True)], plain, name="stage1.0.conv2")
    (d,) = build.add(Op.ELEMENTWISE, [a, c], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD), name="add")
    pool = at.ReduceAttributes(kind=at.ReduceKind.MEAN, axes=(2, 3), keepdims=False)
    (e,) = build.add(Op.REDUCE, [d], pool, name="pool")
    weight = parameter("fc.weight", from_array(np.ones((2, 4), dtype=np.float32)))
    (f,) = build.add(Op.LINEAR, [e, weight], at.LinearAttributes(), name="fc")
    return build.finish([f])


def plan(**layers: dict[str, object]) -> Plan:
    return Plan.model_validate({"schema": 1, "layers": layers})


def layer(network: Network, name: str) -> object:
    return next(y for y in network.layers if y.name == name)


def test_the_example_is_read_and_the_first_match_wins(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(EXAMPLE)
    made = apply_plan(small(), read_plan(path))
    conv1, fc, first = layer(made, "stage1.0.conv1"), layer(made, "fc"), layer(made, "first")
    assert conv1.results[0].shape == (1, 3, 5, 5)
    assert str(conv1.operands[1].format) == "int4"
    assert conv1.operands[1].format.per is Granularity.CHANNEL
    assert conv1.operands[0].step is None
    assert str(fc.operands[1].format) == "int8"
    assert fc.operands[1].step == (0.5,)
    assert fc.operands[0].format is None  # its own entry says nothing about activations, and the first match wins
    assert (fc.operands[1].sparsity.structure, fc.operands[1].sparsity.density) == (Structure.N_OF_M, 0.5)
    assert first.operands[1].format.per is Granularity.TENSOR
    assert first.operands[0].step == (0.25,)
    assert layer(made, "add").operands[0].format is None  # formats belong to multiply-accumulates


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(EXAMPLE)
    first = read_plan(path)
    steps = Plan(
        layers={"first": LayerPlan(keep_channels=(0, 2), weight=WeightPlan(format="int3", step=(0.5, 0.1 + 0.2)))}
    )
    for made in (first, first.merged(steps)):
        made.save(path)
        assert read_plan(path) == made
    assert "schema: 1" in path.read_text()


def test_merging_adds_to_an_entry() -> None:
    kept = plan(conv={"keep_channels": 3})
    both = kept.merged(plan(conv={"weight": {"format": "int4"}}, fc={"weight": {"format": "int8"}}))
    assert both == plan(conv={"keep_channels": 3, "weight": {"format": "int4"}}, fc={"weight": {"format": "int8"}})


def test_a_number_keeps_the_filters_of_largest_norm_on_both_sides_of_a_shortcut() -> None:
    made = apply_plan(small(), plan(first={"keep_channels": 2}))
    first, second = layer(made, "first").operands[1], layer(made, "stage1.0.conv2").operands[1]
    assert first.weights.array()[:, 0, 0, 0].tolist() == [2, 3]
    assert second.weights.array()[:, 0, 0, 0].tolist() == [1, 0]  # the same channels of the layer that is added to it
    assert layer(made, "fc").operands[1].shape == (2, 2)
    both = apply_plan(small(), plan(**{"first": {"keep_channels": 2}, "stage1.0.conv2": {"keep_channels": 2}}))
    assert [y.results for y in both.layers] == [y.results for y in made.layers]


def test_a_list_keeps_these_channels_and_a_network_that_has_them_stays() -> None:
    chosen = plan(**{"stage1.0.conv1": {"keep_channels": [0, 3]}})
    made = apply_plan(small(), chosen)
    assert layer(made, "stage1.0.conv1").operands[1].weights.array()[:, 0, 0, 0].tolist() == [0, 3]
    assert apply_plan(made, chosen) == made


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"frist": {}}, "plan: name 'frist' matches no layer of small; did you mean 'first'?"),
        ({"stage2.*": {}}, "plan: glob 'stage2.*' matches no layer of small; did you mean 'stage1.0.conv2'?"),
        (
            {"add": {"weight": {"format": "int8"}}},
            "plan: 'add' means layer 'add', a elementwise, which takes no entry; only conv, linear, matmul, deformable "
            "conv and recurrent layers do",
        ),
        ({"first": {"keep_channels": 9}}, "plan: layer 'first' has 4 channels, so keep_channels cannot be 9"),
        ({"first": {"keep_channels": [0, 7]}}, "plan: layer 'first' has channels 0 to 3, but keep_channels names 7"),
        ({"first": {"keep_channels": [1, 1]}}, "plan: layer 'first': keep_channels names a channel twice"),
        (
            {"fc": {"keep_channels": 1}},
            "plan: 2 channels of layer 'fc' cannot be dropped, so 1 cannot be kept",
        ),
        (
            {"first": {"keep_channels": [0, 1]}, "stage1.0.conv2": {"keep_channels": [1, 2]}},
            "plan: layer 'first' would keep 1 channels, not 2, because they are coupled with those of another layer in the "
            "plan; give coupled layers the same channels",
        ),
        (
            {"first": {"weight": {"format": "int4", "step": [0.1, 0.2]}}},
            "plan: layer 'first' has 4 output channels but 2 weight steps; give one number or one per channel",
        ),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_in_one_sentence(
    layers: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        apply_plan(small(), plan(**layers))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("schema: 2\nlayers: {}\n", ("schema",)),
        ("layers: {a: {wieght: {format: int8}}}\n", ("layers.a.wieght",)),
        ("layers: {a: {weight: {format: int99}}}\n", ("layers.a.weight.format", "2 to 32 bits, got 99")),
        ("layers: {a: {weight: {format: int8, step: -1.0}}}\n", ("layers.a.weight.step",)),
        ("layers: {a: {keep_channels: 0}}\n", ("layers.a.keep_channels",)),
        ("layers: {a: {sparsity: {structure: '4:2'}}}\n", ("layers.a.sparsity",)),
        ("layers: {a: {sparsity: {structure: unstructured}}}\n", ("layers.a.sparsity", "needs a density")),
    ],
)
def test_a_bad_file_is_refused_naming_the_key(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(str(path))
    assert all(p in str(caught.value) for p in parts), caught.value


def test_keeping_all_channels_of_a_network_in_which_none_can_go_changes_nothing() -> None:
    builder = NetworkBuilder("only")
    x = builder.input("x", TensorType(shape=(1, 4), batch_axis=0))
    weight = parameter("fc.weight", from_array(np.ones((3, 4), dtype=np.float32)))
    (y,) = builder.add(Op.LINEAR, [x, weight], at.LinearAttributes(), name="fc")
    network = builder.finish([y])
    assert apply_plan(network, plan(fc={"keep_channels": 3})) == network
