"""The command line. Thin: reads words, calls the library, prints one document; errors become one sentence and a code.

Exit codes: 0 ok, 1 our bug, 2 bad input, 3 unsupported, 4 a valid design that cannot hold this network, 130 interrupted.
Results go to stdout, progress and messages to stderr.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from picojoule.sim.errors import InputError, PicojouleError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What a compressed neural network costs, and how accurate it is, on a piece of hardware.",
)


class Format(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class ListFormat(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"


_INTERRUPTED = 130  # 128 + SIGINT, as shells count it

_NETWORK_HELP = "Zoo name, file.onnx, file.csv (SCALE-Sim), file.json (export), file.pt2, or file.py:callable."
NetworkArgument = Annotated[str, typer.Argument(help=_NETWORK_HELP, metavar="NETWORK")]
HardwareOption = Annotated[str, typer.Option("--hardware", "-H", help="Preset name or YAML file.", metavar="HW")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change a hardware key.", metavar="KEY=VALUE")]
ShapeOption = Annotated[
    list[str] | None, typer.Option("--input-shape", help="For inputs of open size.", metavar="[NAME=]1,3,224,224")
]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="State dict: .safetensors or .pt.")]
PlanOption = Annotated[Path | None, typer.Option("--compression", help="PLAN.yaml to apply.")]
DataOption = Annotated[
    str | None, typer.Option("--data", help="digits, fashion-mini, idx:DIR, cifar10:DIR or images:DIR.", metavar="DATA")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder for report, tables and figures.")]
AllowOption = Annotated[
    bool, typer.Option("--allow-unsupported", help="Price the rest and mark the result INCOMPLETE.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="What stdout gets.")]
ListFormatOption = Annotated[ListFormat, typer.Option("--format", help="What stdout gets.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere in the line).")
    ] = False,
) -> None:
    if not version and context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"picojoule {installed('picojoule')}\n")
        raise typer.Exit


@app.command()
def evaluate(
    network: NetworkArgument,
    hardware: HardwareOption,
    set_: SetOption = None,
    input_shape: ShapeOption = None,
    batch: Annotated[int, typer.Option("--batch", help="Samples; counts and latency are for all of them.")] = 1,
    chips: Annotated[str, typer.Option("--chips", help="How many chips there may be.", metavar="N|auto")] = "1",
    weights: WeightsOption = None,
    compression: PlanOption = None,
    accuracy: Annotated[bool, typer.Option("--accuracy", help="Measure test accuracy too (needs --data).")] = False,
    data: DataOption = None,
    out: OutOption = None,
    format_: FormatOption = Format.TABLE,
    allow_unsupported: AllowOption = False,
    mapping: Annotated[
        str, typer.Option("--mapping", help="How layers are mapped.", metavar="default|search")
    ] = "default",
    offsets: Annotated[
        Path | None,
        typer.Option(
            "--offsets", help="Recorded offsets of deformable convolutions (pj.record_offsets).", metavar="FILE.npz"
        ),
    ] = None,
    seed: SeedOption = 0,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            help="Chips, differently programmed, whose accuracy is averaged.",
            metavar="N",
            show_default="1",
        ),
    ] = None,
) -> None:
    """Price a network on a piece of hardware, and with --accuracy measure how well it works there."""
    from picojoule.evaluating import Request, run_request

    _check_folder(out)
    request = Request(
        network=network,
        hardware=hardware,
        overrides=_overrides(set_),
        input_shapes=tuple(input_shape or ()),
        batch=batch,
        chips=_chips(chips),
        weights=weights,
        compression=compression,
        accuracy=accuracy,
        data=data,
        allow_unsupported=allow_unsupported,
        mapping=mapping,
        offsets=offsets,
        seed=seed,
        seeds=seeds,
    )
    with _aside(), _progress("test samples") as progress:
        report = run_request(request, progress=progress)
    if out is not None:
        report.save(out)
        _say(f"saved to {out}")
    if format_ is Format.JSON:
        _write(report.to_json())
    elif format_ is Format.CSV:
        sys.stdout.write(report.to_csv())
    else:
        from picojoule.tables import report_view

        _show(report_view(report))


@app.command()
def coverage(
    network: NetworkArgument,
    hardware: Annotated[
        str | None,
        typer.Option("--hardware", "-H", help="Also say which unit runs what there: preset or YAML.", metavar="HW"),
    ] = None,
    input_shape: ShapeOption = None,
    weights: WeightsOption = None,
    format_: ListFormatOption = ListFormat.TABLE,
) -> None:
    """List what a network consists of and whatever in it is not understood; hardware is optional."""
    from picojoule.coverage import coverage_document, load_as_far_as_understood

    with _aside():
        made = load_as_far_as_understood(network, tuple(input_shape or ()), weights)
    document = coverage_document(made, hardware)
    if format_ is ListFormat.JSON:
        _write(json.dumps(document, indent=1, allow_nan=False))
        return
    from picojoule.coverage_tables import coverage_view

    _show(coverage_view(document))


@app.command()
def export(
    network: NetworkArgument,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help=".json (read back as NETWORK), .onnx or .csv (SCALE-Sim).", metavar="FILE"),
    ],
    input_shape: ShapeOption = None,
    weights: WeightsOption = None,
    compression: PlanOption = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Training data for the steps of activations that have none.", metavar="DATA"),
    ] = None,
    no_weights: Annotated[bool, typer.Option("--no-weights", help="JSON: structure only, no values.")] = False,
    seed: SeedOption = 0,
) -> None:
    """Write a network, compressed if a plan says so, to a file that others read; what the file cannot say goes to stderr."""
    from picojoule.exporting import ExportRequest, run_export

    request = ExportRequest(
        network=network,
        path=out,
        input_shapes=tuple(input_shape or ()),
        weights=weights,
        compression=compression,
        data=data,
        keep_weights=not no_weights,
        seed=seed,
    )
    with _aside():
        made = run_export(request)
    for note in made.notes:
        _say(f"note: {note}")
    for file in made.files:
        _say(f"wrote {file} ({file.stat().st_size:,} bytes)")


@app.command()
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            help=".safetensors, .pt, .pth, .onnx, .pt2 or exported .json file, zoo name, or file.py:callable.",
            metavar="FILE",
        ),
    ],
    format_: ListFormatOption = ListFormat.TABLE,
) -> None:
    """Look into weights: per tensor the density, structure of zeros, number format and bytes that its values show."""
    from picojoule.inspecting import inspect as look

    with _aside():
        found = look(source)
    if format_ is ListFormat.JSON:
        _write(json.dumps(found.to_dict(), indent=1, allow_nan=False))
        return
    from picojoule.sim.errors import printable
    from picojoule.tables import objects_table

    _show(objects_table(found.table(), title=found.name))
    for note in found.remarks():
        _show(printable(f"note: {note}"))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more folders made with --out.", metavar="RUN RUN...")],
    format_: ListFormatOption = ListFormat.TABLE,
) -> None:
    """Say how likely one run costs less energy than another, given how uncertain the technology constants are."""
    from picojoule.comparison import compare as compare_saved
    from picojoule.comparison import comparison_table
    from picojoule.sim.errors import printable

    found = compare_saved(runs)
    if found.note:
        _say(printable(found.note))
    if format_ is ListFormat.JSON:
        _list(found.rows, format_)
        return
    _show(comparison_table(found.rows))


@app.command()
def compress(
    network: NetworkArgument,
    method: Annotated[str, typer.Option("--method", help="See `picojoule methods`.", metavar="NAME")],
    hardware: HardwareOption,
    data: Annotated[str, typer.Option("--data", help="digits, fashion-mini, idx:DIR, cifar10:DIR or images:DIR.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for plan.yaml, model.safetensors and reports.")],
    budget: Annotated[
        str | None, typer.Option("--budget", help="Share of the original cost to reach.", metavar="energy=0.5")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Change a setting of the method.", metavar="KEY=VALUE")
    ] = None,
    weights: WeightsOption = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=0, help="Of the method's training.")] = None,
    pretrain: Annotated[
        int, typer.Option("--pretrain", min=0, help="Epochs of ordinary training first, when the weights are random.")
    ] = 5,
    seed: SeedOption = 0,
    format_: ListFormatOption = ListFormat.TABLE,
) -> None:
    """Compress a network for a piece of hardware: train it, shrink it, and write what `evaluate --compression` reads."""
    from picojoule.compressing import CompressionRequest, run_compression

    _check_folder(out)
    request = CompressionRequest(
        network=network,
        method=method,
        hardware=hardware,
        data=data,
        out=out,
        budget=budget,
        options=_overrides(option, "--option"),
        weights=weights,
        epochs=epochs,
        pretrain=pretrain,
        seed=seed,
    )
    with _aside():
        document = run_compression(request, say=_say)
    if format_ is ListFormat.JSON:
        _write(json.dumps(document, indent=1, allow_nan=False))
        return
    from picojoule.tables import objects_table

    _show(
        objects_table(
            document["stages"], title=f"{document['network']} with {document['method']} on {document['hardware']}"
        )
    )
    _show(f"plan, weights and reports: {out}")


@app.command()
def pareto(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders made with --out, or CSV tables of points.", metavar="RUN_OR_STUDY...")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for pareto.csv and pareto.png.")] = None,
    x: Annotated[
        str | None,
        typer.Option("--x", help="Total to set against accuracy.", show_default="energy; a study: its objectives"),
    ] = None,
    format_: ListFormatOption = ListFormat.TABLE,
) -> None:
    """Show which runs nothing else beats in cost and accuracy, or which trials of studies in their objectives."""
    from picojoule.pareto import compare_points

    _check_folder(out)
    found = compare_points(runs, x)
    if found.note:
        _say(found.note)
    if out is not None:
        found.save(out)
        _say(f"saved to {out}")
    if format_ is ListFormat.JSON:
        _list(found.rows, format_)
        return
    table, note = found.table(shutil.get_terminal_size().columns if sys.stdout.isatty() else 120)
    _show(table)
    if note:
        _show(note)


@app.command()
def search(
    study: Annotated[Path, typer.Argument(help="What is searched, for what, and how.", metavar="STUDY.yaml")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study: trials, front, figures.")],
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Instead of the study's own number.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; the result does not depend on it.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Dask cluster that runs the trials.", metavar="tcp://HOST:PORT")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in the folder.")] = False,
    format_: ListFormatOption = ListFormat.TABLE,
) -> None:
    """Search hardware and compression together; what is found is kept as it comes, and --resume goes on after any stop."""
    from picojoule.searching import SearchRequest, run_search
    from picojoule.studies.summary import shown_front, summary_of

    _check_folder(out)
    request = SearchRequest(study=study, out=out, trials=trials, jobs=jobs, scheduler=scheduler, resume=resume)
    with _aside():
        found = run_search(request, say=_say)
    if format_ is ListFormat.JSON:
        _write(json.dumps(summary_of(found) | {"points": list(found.front)}, indent=1, allow_nan=False))
        return
    from picojoule.tables import objects_table

    _show(objects_table(shown_front(found), title=f"front of {found.spec.network} on {found.spec.hardware}"))
    _show(f"{len(found.front)} of {len(found)} trials on the front; tables and figures: {out}")


@app.command()
def report(
    source: Annotated[
        Path, typer.Argument(help="Folder made by `evaluate --out` or `search --out`.", metavar="RUN_OR_STUDY")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.", metavar="report.html")],
) -> None:
    """Write a run or a study as one HTML page that needs no network."""
    from picojoule.page import write_page

    write_page(source, out)
    _say(f"wrote {out} ({out.stat().st_size:,} bytes)")


@app.command()
def presets(format_: ListFormatOption = ListFormat.TABLE) -> None:
    """List the hardware that comes with picojoule (and with plug-ins)."""
    from picojoule.listing import preset_rows

    _list(preset_rows(), format_)


@app.command()
def methods(format_: ListFormatOption = ListFormat.TABLE) -> None:
    """List the compression methods."""
    from picojoule.compress import methods as listed

    _list(listed(), format_)


@app.command()
def validate(format_: ListFormatOption = ListFormat.TABLE) -> None:
    """Recompute published and peer-measured figures and show our error for each."""
    from picojoule.validation import validate_rows

    _list(validate_rows(), format_)


@app.command()
def doctor(format_: ListFormatOption = ListFormat.TABLE) -> None:
    """Check the installation: versions, optional packages, accelerators, presets, data sets, threads."""
    from picojoule.listing import doctor_rows

    _list(doctor_rows(), format_)


def _overrides(texts: Sequence[str] | None, option: str = "--set") -> dict[str, Any]:
    from picojoule.sim.hardware import parse_override

    return dict(parse_override(text, option) for text in texts or ())


def _check_folder(out: Path | None) -> None:
    """Refuse an --out that cannot be a folder before hours of work, not after."""
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out needs a folder, but '{out}' is a file")


def _aside() -> "contextlib.redirect_stdout[Any]":
    """Send what a user's own network prints to stderr: stdout is for results."""
    return contextlib.redirect_stdout(sys.stderr)


def _chips(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--chips takes a whole number of at least 1, or 'auto', got '{text}'")
    return int(text)


def _list(rows: Sequence[Mapping[str, Any]], format_: ListFormat) -> None:
    if format_ is ListFormat.JSON:
        _write(json.dumps([dict(r) for r in rows], indent=1, allow_nan=False))
        return
    from picojoule.tables import objects_table

    _show(objects_table(rows))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _show(what: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=120)  # a file or pipe has no width of its own
    console.print(what, soft_wrap=isinstance(what, str))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


class _progress:  # noqa: N801 - used as a word: with _progress(...)
    """A progress bar on stderr; silent when stderr is no terminal."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(what, total=None)

    def __enter__(self) -> "_progress":
        self._bar.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the console script."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    sys.exit(_run(words, debug))


def _run(words: list[str], debug: bool) -> int:
    try:
        result = typer.main.get_command(app).main(args=words, prog_name="picojoule", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _fail(f"{_usage(error, words)}; see `picojoule {_command(words)}--help`", 2)
    except (typer.Abort, KeyboardInterrupt):
        result = _INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the reader of our output went away (`| head`); rich and typer exit for it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that flushing at exit does not fail again
        return 0
    except PicojouleError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except Exception as error:  # whatever else escapes is a bug of ours
        if debug:
            raise
        return _fail(f"bug in picojoule: {type(error).__name__}: {error} (run again with --debug for the traceback)", 1)
    if result == _INTERRUPTED:  # the parser returns this for a Ctrl-C inside a command
        return _fail("interrupted", _INTERRUPTED)
    return result if isinstance(result, int) else 0


def _usage(error: typer.TyperException, words: Sequence[str]) -> str:
    """Return the parser's complaint in our words: what, the rule, what came, the nearest right one."""
    text = " ".join(error.format_message().split()).rstrip(".?")
    text = text.replace("Value error, ", "").replace(", unable to parse string as an integer", "")
    text = text.replace("greater than or equal to", "at least").replace(". Did you mean", "; did you mean")
    text = re.sub(r"^Invalid value for '(.+?)': Input should be", r"\1 must be", text)
    options = getattr(getattr(error, "param", None), "opts", ())
    came = [value for option, value in itertools.pairwise(words) if option in options]
    came += [value for option, equals, value in (w.partition("=") for w in words) if equals and option in options]
    if came and f"'{came[-1]}'" not in text:
        text += f", got '{came[-1]}'"
    return text[:1].lower() + text[1:]


def _command(words: Sequence[str]) -> str:
    names = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    return next((f"{w} " for w in words if w in names), "")


def _fail(sentence: str, code: int) -> int:
    from picojoule.sim.errors import printable

    sys.stderr.write(f"picojoule: {printable(' '.join(sentence.split()))}\n")
    return code


if __name__ == "__main__":
    main()
