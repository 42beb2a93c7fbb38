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

Rules, set before anything was run: MLP0, MLP1 and LSTM0 must land between what was measured and the roofline 2 x ops a byte x
34 GB/s; LSTM1 at most at 4.2: its nine tiles hold 61 % of useful weights, which caps it at 4.0 TOPS, and 5 % of tolerance. CNN0
and CNN1 are shown only, because the paper's own columns disagree there. Ours neglects what is not the matrix unit's (10 to 32 %
of the time in the paper) and the host, so it is expected above the measured figures.

The first run (`FIRST_RUN`) failed all four rules: activations went through DRAM after every layer, and 600 x 600 weights were
read as 360,000 bytes. Only then did the preset get the two keys that the chip's description asks for: activations stay in the
unified buffer, and DRAM is read in whole tiles. Nothing else was changed, and no figure was fitted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network, Operand, TensorType
from picojoule.sim.weights import constant_fill
from picojoule.validation_rows import Row, make_row

PAPER = "TPU v1 (Jouppi et al., ISCA 2017), stand-in shapes"
PRESET = "tpu-v1"
FIRST_RUN = {"keep_on_chip": False, "dram_burst_bytes": 64}
"""The preset's keys as they stood when the stand-ins were first run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application's stand-in and what the paper says of it; `widths` are sizes of a chain of linear layers.

    `least_tops` and `most_tops` are the rule that ours must obey, None where there is none, and `rule` says why. The roofline
    is 2 x ops a byte x 34 GB/s, at most the peak of 92.
    """

    name: str
    batch: int
    measured_tops: float
    roofline_tops: float
    rule: str
    least_tops: float | None = None
    most_tops: float | None = None
    widths: tuple[int, ...] = ()
    vector_layers: int = 0
    convolutions: int = 0
    channels: int = 0
    pixels: int = 1

    def verdict(self, ours: float) -> str:
        """Return whether a figure in TOPS obeys the rule."""
        if self.most_tops is None:
            return "shown only"
        return "inside" if (self.least_tops or 0.0) <= ours <= self.most_tops else "outside"


def _between(
    name: str, batch: int, measured: float, roofline: float, widths: tuple[int, ...], vectors: int = 0
) -> Application:
    """Return a weight-bound application, which must land between the measured figure and the roofline."""
    return Application(
        name=name,
        batch=batch,
        measured_tops=measured,
        roofline_tops=roofline,
        rule=f"{measured:g} (measured) to {roofline:g} (roofline)",
        least_tops=measured,
        most_tops=roofline,
        widths=widths,
        vector_layers=vectors,
    )


APPLICATIONS = (
    _between("MLP0", 200, 12.3, 13.6, (2048,) * 6),
    _between("MLP1", 168, 9.7, 11.4, (1024, 1280, 1024, 1280, 1024)),
    _between("LSTM0", 64, 3.7, 4.4, (1024, 2048) * 12 + (1024,), 34),
    Application(
        name="LSTM1",
        batch=96,
        measured_tops=2.8,
        roofline_tops=6.5,
        rule="at most 4.2: what whole tiles allow, 4.0, and 5 %",
        most_tops=4.2,
        widths=(600,) * 95,
        vector_layers=19,
    ),
    Application(
        name="CNN0",
        batch=8,
        measured_tops=86.0,
        roofline_tops=92.0,
        rule="none: 78.2 % of cycles active would be 71.9",
        convolutions=16,
        channels=236,
        pixels=19,
    ),
    Application(
        name="CNN1",
        batch=32,
        measured_tops=14.1,
        roofline_tops=92.0,
        rule="none: 46.2 % of cycles active would be 42.5",
        widths=(1911,) * 5,
        convolutions=72,
        channels=363,
        pixels=8,
    ),
)


def rows() -> list[Row]:
    """Return rows {name, source, quantity, reference, ours, error_pct, calibrated}; nothing here was fitted."""
    return [row for application in APPLICATIONS for row in _application_rows(application)]


def tops(application: Application, overrides: Mapping[str, Any] | None = None) -> float:
    """Return tera-operations (two a MAC) per second of a stand-in on the preset, some of its keys set otherwise."""
    accelerator = load_hardware(PRESET, overrides)
    reports = [accelerator.evaluate(network, batch=application.batch) for network in networks_of(application)]
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


def _application_rows(application: Application) -> Iterator[Row]:
    ours = tops(application)
    name = f"{application.name}, batch {application.batch}"
    yield make_row(name, PAPER, "TOPS, measured on the chip", application.measured_tops, ours)
    if application.most_tops is not None:
        yield make_row(name, PAPER, f"TOPS, rule: {application.rule}", application.most_tops, ours)


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
