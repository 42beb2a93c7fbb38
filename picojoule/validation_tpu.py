"""Rows of `picojoule validate` for the first TPU: stand-ins for the six applications of Jouppi et al. (ISCA 2017) on `tpu-v1`.

The paper gives layers, weights and batch of each application, not the layers' shapes. The shapes below were written down before
anything was run, by one rule: a chain of equal layers, their sizes multiples of the array's 256, that holds the published weights
within 5 %; other sizes only where the paper's own figures say so.

| name  | published: layers, weights, batch | stand-in                                      | weights | why                     |
| ----- | --------------------------------- | --------------------------------------------- | ------- | ----------------------- |
| MLP0  | 5 FC, 20 M, 200                   | 5 x (2048 x 2048)                             | 20.97 M | the rule                |
| MLP1  | 4 FC, 5 M, 168                    | 1024-1280-1024-1280-1024                      | 5.24 M  | the rule                |
| LSTM0 | 24 FC and 34 vector, 52 M, 64     | 1024-2048-1024-... (24), 34 vector products   | 50.33 M | the rule                |
| LSTM1 | 37 FC and 19 vector, 34 M, 96     | 94 x (600 x 600), 19 vector products          | 33.84 M | the paper: 600 x 600    |
| CNN0  | 16 conv, 8 M, 8                   | 16 x (3 x 3, 236 channels) on 19 x 19         | 8.02 M  | 2888 ops a byte = 8x361 |
| CNN1  | 72 conv, 4 FC, 13 pool, 100 M, 32 | 72 x (3 x 3, 363 channels) on 8 x 8, 4 x 1911 | 99.99 M | 1750 ops a byte = 32x55 |

Weight-bound applications must land between what was measured and the roofline 2 x ops a byte x 34 GB/s. LSTM1's nine tiles hold
61 % of useful weights, which caps it at 4.0 TOPS (4.2 with 5 % of tolerance). CNN0 and CNN1 are shown only: the paper's own
columns disagree there (86 TOPS with 78 % of 92 active). Ours neglects what is not the matrix unit's (10 to 32 % of the time in
the paper) and the host, so it is expected above the measured figures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network, Operand, TensorType
from picojoule.sim.weights import constant_fill

PAPER = "TPU v1 (Jouppi et al., ISCA 2017), stand-in shapes"
PRESET = "tpu-v1"
LSTM1_LIMIT_TOPS = 4.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application's stand-in and what the paper says of it; `widths` are sizes of a chain of linear layers."""

    name: str
    batch: int
    measured_tops: float
    roofline_tops: float | None
    widths: tuple[int, ...] = ()
    vector_layers: int = 0
    convolutions: int = 0
    channels: int = 0
    pixels: int = 1


APPLICATIONS = (
    Application(name="MLP0", batch=200, measured_tops=12.3, roofline_tops=13.6, widths=(2048,) * 6),
    Application(name="MLP1", batch=168, measured_tops=9.7, roofline_tops=11.4, widths=(1024, 1280, 1024, 1280, 1024)),
    Application(
        name="LSTM0",
        batch=64,
        measured_tops=3.7,
        roofline_tops=4.4,
        widths=(1024, 2048) * 12 + (1024,),
        vector_layers=34,
    ),
    Application(
        name="LSTM1", batch=96, measured_tops=2.8, roofline_tops=LSTM1_LIMIT_TOPS, widths=(600,) * 95, vector_layers=19
    ),
    Application(name="CNN0", batch=8, measured_tops=86.0, roofline_tops=None, convolutions=16, channels=236, pixels=19),
    Application(
        name="CNN1",
        batch=32,
        measured_tops=14.1,
        roofline_tops=None,
        widths=(1911,) * 5,
        convolutions=72,
        channels=363,
        pixels=8,
    ),
)


def rows() -> list[dict[str, Any]]:
    """Return rows {name, source, quantity, reference, ours, error_pct, calibrated}; nothing here was fitted."""
    return [row for application in APPLICATIONS for row in _application_rows(application)]


def tops(application: Application) -> float:
    """Return tera-operations (two a MAC) per second of a stand-in on the preset."""
    networks = networks_of(application)
    reports = [load_hardware(PRESET).evaluate(network, batch=application.batch) for network in networks]
    macs = sum(report.totals["macs"] for report in reports)
    seconds: float = sum(report.totals["accelerator_latency_s"] for report in reports)
    return float(2 * macs / seconds / 1e12)


def networks_of(application: Application) -> list[Network]:
    """Return the chains of an application, run one after the other: convolutions, linear layers."""
    found = []
    if application.convolutions:
        found.append(_convolutions(application))
    if application.widths:
        found.append(_linears(application))
    return found


def _application_rows(application: Application) -> Iterator[dict[str, Any]]:
    ours = tops(application)
    bound = f"TOPS, at most ({'whole tiles' if application.name == 'LSTM1' else 'roofline'})"
    references = [("TOPS, measured on the chip", application.measured_tops)]
    if application.roofline_tops is not None:
        references.append((bound, application.roofline_tops))
    for quantity, reference in references:
        yield {
            "name": f"{application.name}, batch {application.batch}",
            "source": PAPER,
            "quantity": quantity,
            "reference": reference,
            "ours": ours,
            "error_pct": 100.0 * (ours - reference) / reference,
            "calibrated": False,
        }


def _linears(application: Application) -> Network:
    """Return a chain of linear layers with its vector layers spread evenly behind them."""
    builder = NetworkBuilder(application.name.lower())
    widths = application.widths
    x = builder.input("x", TensorType(shape=(1, widths[0]), batch_axis=0))
    layers, done = len(widths) - 1, 0
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = parameter(f"w{i}", constant_fill(0.5, (outputs, inputs)))
        (x,) = builder.add(Op.LINEAR, [x, weight], at.LinearAttributes(), name=f"fc{i}")
        while done < (i + 1) * application.vector_layers // layers:
            (x,) = _product(builder, x, f"vector{done}")
            done += 1
    return builder.finish([x])


def _product(builder: NetworkBuilder, x: Operand, name: str) -> tuple[Operand, ...]:
    return builder.add(Op.ELEMENTWISE, [x, x], at.ElementwiseAttributes(kind=at.ElementwiseKind.MUL), name=name)


def _convolutions(application: Application) -> Network:
    builder = NetworkBuilder(application.name.lower())
    channels, pixels = application.channels, application.pixels
    x = builder.input("x", TensorType(shape=(1, channels, pixels, pixels), batch_axis=0))
    same = at.ConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1))
    for i in range(application.convolutions):
        weight = parameter(f"w{i}", constant_fill(0.5, (channels, channels, 3, 3)))
        (x,) = builder.add(Op.CONV, [x, weight], same, name=f"conv{i}")
    return builder.finish([x])
