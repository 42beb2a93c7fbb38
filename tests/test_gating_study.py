"""The study of channel gating, at a size of seconds: trained gates, their prices, and what must hold between the columns."""

from picojoule.gating_study import part, rows, trained
from picojoule.models.data import Dataset, load


def small() -> Dataset:
    data = load("digits")
    return Dataset(
        **{field: getattr(data, field) for field in data.__dataclass_fields__ if field not in ("train", "test")},
        train=part(data.train, 192),
        test=part(data.test, 64),
    )


def test_gates_of_a_trained_network_are_priced():
    low, high = (trained(small(), target, epochs=1, samples=8) for target in (0.0, 1.0))
    assert list(high.maps) == list(high.layers) == ["gated1", "gated2", "gated3"]
    assert high.maps["gated2"].live.shape == (8, 4, 64)
    made = rows(high, [(8, 8), (64, 1)])
    assert len(made) == 2 * 3 * 4
    whole = [r for r in made if r["layer"] == "all gated layers"]
    open_gates = {found.target: rows(found, [(8, 8)])[3]["open_gates"] for found in (low, high)}
    assert open_gates[1.0] < open_gates[0.0]  # a higher target closes gates
    for row in whole:
        assert 1 < row["operations_saved"] <= 4  # a quarter of the channels always runs
        assert 0 < row["realised"] <= 1.2
    weight_stationary = {r["array"]: r for r in whole if r["dataflow"] == "ws"}
    assert weight_stationary["64x1"]["realised"] > weight_stationary["8x8"]["realised"]  # one column waits for nobody
