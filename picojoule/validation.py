"""What `picojoule validate` recomputes: figures from outside, ours, and the error, in one table.

`calibrated` says that our figure's own constants were entered from or fitted to the reference; only the others are evidence.
"""

from collections.abc import Iterator

from picojoule import validation_deform, validation_reram, validation_systolic
from picojoule.models.catalog import describe
from picojoule.networks import load_network
from picojoule.sim.gemm import network_macs
from picojoule.validation_rows import Row, make_row

_NETWORKS = ("resnet20", "mobilenet-v1", "mobilenet-v2", "resnet50")


def validate_rows() -> list[Row]:
    """Return rows {name, source, quantity, reference, ours, error_pct, calibrated}."""
    return [*validation_systolic.rows(), *_counts(), *validation_reram.rows(), *validation_deform.rows()]


def _counts() -> Iterator[Row]:
    """Yield published parameter and MAC counts of reference networks, through the torch importer."""
    published = {entry["name"]: entry for entry in describe()}
    for name in _NETWORKS:
        network, entry = load_network(name), published[name]
        source = entry["source"].split(",")[0] + ", published"
        yield make_row(name, source, "MACs", entry["macs"], network_macs(network))
        yield make_row(name, source, "parameters", entry["params"], network.parameters)
