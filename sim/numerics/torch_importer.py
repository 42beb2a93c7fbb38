"""Imports a `torch.nn.Module` through `torch.export`, before decompositions.

The program is exported with a dynamic batch (a sample batch of one is repeated, invisibly). Everything that depends on
parameters only (masks, parametrisations, weight norm) is folded into the operand, whose `origin` recomputes it with
gradients. Operators nobody knows are split by torch's own rules; a module that cannot be exported is recorded as it runs on
its example, which the network's notes then say.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from picojoule.sim.errors import InputError, PicojouleError, UnsupportedError
from picojoule.sim.ir import Network
from picojoule.sim.numerics.aten import HANDLERS, IGNORED
from picojoule.sim.numerics.torch_export import batch_plans, decomposed, export, operator_in, traced
from picojoule.sim.numerics.torch_reader import AliasError, Reader
from picojoule.sim.numerics.torch_recorder import record
from picojoule.sim.numerics.torch_structure import Inputs, inputs_of, output_leaves
from picojoule.sim.numerics.torch_types import BatchError, DataError, tensor_of, user_line

_READINGS = 6
FIXED_BATCH = "exported for one batch: counts, also those per sample, are for the batch of its example"
BATCH_BY_RUNNING = "batch axes found by running one and two samples, because torch.export fixes the batch"
_FREE_TO_ALIAS = frozenset({"reshape", "flatten", "unflatten", "to", "type_as", "contiguous", "reshape_as", "view_as"})
"""Operators that may return their argument's own memory: split before a write in place is resolved."""


def from_module(module: torch.nn.Module, example_inputs: Any, *, name: str = "", weights: str = "module") -> Network:
    """Return the network of a module, with weights that stay the module's own.

    Args:
        module: traced in evaluation mode; its mode is restored.
        example_inputs: a tensor, a sequence as for `module(*example_inputs)`, or a mapping as for `module(**example_inputs)`;
            their first axis is the batch (the second, where the module says `batch_first=False`).
        name: shown in reports; the class's name when empty.
        weights: where the values come from, as reports say it (`random` for an untrained network).

    Raises:
        InputError: if the inputs do not fit the module.
        UnsupportedError: if the program can be neither exported nor recorded.

    """
    inputs, name = inputs_of(example_inputs), name or type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(f"{name} is TorchScript; give the nn.Module it was made from, or export that to ONNX")
    for given, tensor in inputs.named(module).items():
        if 0 in tensor.shape:
            raise InputError(f"example input '{given}' has shape {list(tensor.shape)}; every size must be at least 1")

    def lookup(key: str) -> torch.Tensor:
        return tensor_of(module, key)

    reasons: list[Exception] = []
    with evaluating(module):
        plans = batch_plans(module, inputs)
        for plan in plans:
            try:
                return _read(export(module, inputs, plan), lookup, name, weights)
            except Exception as error:  # export raises many kinds; other ways are tried before giving up
                reasons.append(error)
                if _on_data(error) or not _may_help(error):
                    break
        if not any(_on_data(r) for r in reasons):
            recorded = _recorded(module, inputs, plans, name, weights, reasons) if reasons else None
            if recorded is not None:
                return recorded
            try:
                return _noted(_read(export(module, inputs, None), lookup, name, weights), FIXED_BATCH)
            except Exception as error:
                reasons.append(error)
        return _recorded_at_any_rate(module, inputs, plans, name, weights, reasons)


def from_program(program: torch.export.ExportedProgram, *, name: str, weights: str = "file") -> Network:
    """Return the network of an exported program, with the weights it carries.

    Raises:
        InputError: if it leaves more than the batch open.
        UnsupportedError: if something in it depends on the data.

    """
    _check_open(program, name)
    return _read(program, lambda key: program.state_dict[key], name, weights)


def _check_open(program: torch.export.ExportedProgram, name: str) -> None:
    """Refuse a program in which more than the batch is left open: its sizes would have to be guessed."""
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or node.name not in inputs or not isinstance(value, torch.Tensor):
            continue
        for axis, size in enumerate(value.shape):
            if axis > 0 and isinstance(size, torch.SymInt) and size.node.expr.free_symbols:
                raise InputError(
                    f"{name}: input '{node.name}' leaves axis {axis} open; only the batch (axis 0) may be open: export with "
                    "fixed sizes"
                )


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode; afterwards its modes, its buffers and torch's random state are as they were."""
    modes = {m: m.training for m in module.modules()}
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused encoder path hides its layers
    module.eval()
    buffers = [(b, b._version, b.clone()) for b in module.buffers() if not b.is_meta]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        with torch.no_grad():
            for buffer, version, held in buffers:
                if buffer._version != version:  # a forward that counts its calls, say
                    buffer.copy_(held)
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for m, mode in modes.items():
            m.training = mode


def _read(
    program: torch.export.ExportedProgram, lookup: Callable[[str], torch.Tensor], name: str, weights: str
) -> Network:
    """Read a program as it is; where operators are unknown, or writes in place hidden, split and read again."""
    understood = frozenset(HANDLERS) | IGNORED
    hidden: AliasError | None = None
    best: Network | None = None
    try:
        best = Reader(traced(program, lookup), name, weights).read()
    except AliasError as error:
        hidden, understood = error, understood - _FREE_TO_ALIAS
    kept: frozenset[str] = frozenset()  # operators that torch's rules do not split
    for _ in range(_READINGS):
        asked = frozenset(u.op for u in best.unsupported) - kept if best is not None else frozenset()
        if best is not None and not asked:
            return best
        try:
            split = decomposed(program, (understood - asked) | kept)
            network = Reader(traced(split, lookup), name, weights).read()
        except Exception as error:  # one rule of torch's that fails must not spoil the others
            culprit = operator_in(error)
            if culprit in understood:
                understood -= {culprit}
            elif best is not None:
                kept |= {culprit} if culprit in asked else asked
            elif hidden is not None:
                raise hidden from None
            else:
                raise
            continue
        best = network if best is None or _better(network, best) else best
        kept |= asked
    if best is None:
        assert hidden is not None
        raise hidden
    return best


def _better(split: Network, whole: Network) -> bool:
    """Whether splitting left less that is not understood; pieces of one unknown operator are not better than it."""
    return len(split.unsupported) < len(whole.unsupported)


# --- what cannot be exported -----------------------------------------------------------------------------------------


def _on_data(error: Exception) -> bool:
    """Whether an export failed because something depends on the data, which no other batch changes."""
    return isinstance(error, DataError) or "data-dependent" in str(error) or "DataDependent" in type(error).__name__


def _may_help(error: Exception) -> bool:
    """Whether another axis for the batch may help: not where a network was read and refused for another reason."""
    return not isinstance(error, PicojouleError) or isinstance(error, BatchError | InputError)


def _recorded(
    module: torch.nn.Module,
    inputs: Inputs,
    plans: Sequence[Mapping[int, int]],
    name: str,
    weights: str,
    reasons: Sequence[Exception],
) -> Network | None:
    """Return a recording that works for any batch and loses nothing; None where there is none."""
    if _on_meta(module, inputs) or not plans:
        return None
    try:
        recording = record(module, inputs, plans)
        if not recording.batched or recording.decisions:
            return None
        network = Reader(recording.traced, name, weights).read()
    except Exception:  # the fixed batch comes next, and says what is wrong where it fails too
        return None
    return None if network.unsupported else _noted(network, BATCH_BY_RUNNING)


def _recorded_at_any_rate(
    module: torch.nn.Module,
    inputs: Inputs,
    plans: Sequence[Mapping[int, int]],
    name: str,
    weights: str,
    reasons: Sequence[Exception],
) -> Network:
    """Return what the module computed on its example inputs, with what that leaves out."""
    if _on_meta(module, inputs):
        raise _cannot(module, reasons[0])
    try:
        with torch.no_grad():
            result = inputs.call(module)
    except Exception as own:
        text = str(own).splitlines()[0] if str(own) else type(own).__name__
        raise InputError(
            f"{type(module).__name__} fails on inputs of shape {inputs}: {text}; give fitting inputs (--input-shape)"
        ) from None
    if not output_leaves(result):
        raise UnsupportedError(
            f"{type(module).__name__} returns {type(result).__name__}, in which no tensor is found; return tensors, or tuples, "
            "dicts or dataclasses of them"
        )
    for batched in (True, False):
        try:
            recording = record(module, inputs, plans, batched=batched)
            network = Reader(recording.traced, name, weights).read()
        except (AliasError, DataError):
            raise
        except Exception as error:
            if batched:
                continue
            raise _cannot(module, reasons[0]) from error
        return _noted(network, *([] if recording.batched else [FIXED_BATCH]), _loss(recording.decisions, reasons[0]))
    raise _cannot(module, reasons[0])


def _on_meta(module: torch.nn.Module, inputs: Inputs) -> bool:
    return any(t.is_meta for t in (*inputs.tensors, *module.parameters()))


def _loss(decisions: Sequence[str], reason: Exception) -> str:
    """Say in one sentence what a recording leaves out."""
    if decisions:
        listed = ", ".join(decisions[:3]) + (f" and {len(decisions) - 3} more" if len(decisions) > 3 else "")
        return (
            f"recorded along the path that the example took, because {listed} depends on the data: other branches are not "
            "counted, numbers taken out of tensors stay the example's, work done outside torch is missing; run it on the "
            "example only"
        )
    return f"recorded as it ran on the example, because torch.export cannot follow it: {_first_line(reason)}"


def _cannot(module: torch.nn.Module, error: Exception) -> PicojouleError:
    if isinstance(error, PicojouleError):
        return error
    line = user_line(str(error))
    return UnsupportedError(
        f"{type(module).__name__} cannot be exported{f' at {line}' if line else ''}: {_first_line(error)}; rewrite control "
        "flow that depends on the data (torch.where), or export the network to ONNX"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _noted(network: Network, *notes: str) -> Network:
    return replace(network, notes=(*network.notes, *(n for n in notes if n not in network.notes)))
