"""Exports a module with `torch.export`, finding out along which axis its inputs carry the batch.

A sample batch of one is repeated, invisibly: an exported size of 1 would be taken for a constant. Left out: what cannot be
exported (`torch_recorder` runs it instead).
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from picojoule.sim.numerics.torch_fast_export import recurrent_shapes_only
from picojoule.sim.numerics.torch_reader import Traced
from picojoule.sim.numerics.torch_structure import Inputs, output_leaves
from picojoule.sim.numerics.torch_types import operator_name

_MAX_BATCH = 1024


def batch_plans(module: torch.nn.Module, inputs: Inputs) -> list[dict[int, int]]:
    """Return ways in which the inputs may carry the batch, likeliest first: axis by position of the tensor.

    Usually the first axis of every input. Modules with a `batch_first` may take time first where they say False, and their
    states carry the batch second anyway. An input whose first size is 1 beside larger ones, and a square mask, are shared by
    all samples.
    """
    tensors = inputs.tensors
    ranked = [i for i, t in enumerate(tensors) if t.dim() > 0]
    flags = {m.batch_first for m in module.modules() if isinstance(getattr(m, "batch_first", None), bool)}
    second = False in flags and bool(ranked) and _takes_batch_second(module, inputs, tensors[ranked[0]])
    orders: list[tuple[int, ...]] = [(1,)] if second else []
    orders += [(0,)]
    orders += [(0, 1), (1, 0)] if flags else []
    plans: list[dict[int, int]] = []
    for order in orders if ranked else ():
        plan = _plan(tensors, ranked, order)
        if plan is not None and plan not in plans:
            plans.append(plan)
    return plans


def _takes_batch_second(module: torch.nn.Module, inputs: Inputs, first: torch.Tensor) -> bool:
    """Whether a module that wants time first is handed the first input's own two leading axes, as one run shows."""
    if first.dim() < 2:
        return False
    seen: list[tuple[int, ...]] = []

    def look(_module: torch.nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], torch.Tensor) and given[0].dim() == 3:
            seen.append(tuple(given[0].shape[:2]))

    hooks = [m.register_forward_pre_hook(look) for m in module.modules() if getattr(m, "batch_first", None) is False]
    try:
        with torch.no_grad(), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inputs.call(module)
    except Exception:  # whatever is wrong with it is said where the module is exported or recorded
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(first.shape[:2]) in seen and all(shape[1] == first.shape[1] for shape in seen)


def _plan(tensors: Sequence[torch.Tensor], ranked: Sequence[int], order: Sequence[int]) -> dict[int, int] | None:
    """Return a plan, or None where some input fits it in no way.

    The first input has the batch on axis `order[0]` (0 where two orders are given), the others on the first axis of `order`
    that has the same size.
    """
    leading = order[0] if len(order) == 1 else 0
    if tensors[ranked[0]].dim() <= leading:
        return None
    batch = tensors[ranked[0]].shape[leading]
    plan = {ranked[0]: leading}
    for i in ranked[1:]:
        shape = tensors[i].shape
        axis = next((a for a in order if a < len(shape) and shape[a] == batch), None)
        square = len(shape) == 2 and shape[0] == shape[1]
        if axis is not None and not (square and leading == 1):
            plan[i] = axis
        elif not square and shape[0] != 1:
            return None
    return plan


def export(module: torch.nn.Module, inputs: Inputs, plan: Mapping[int, int] | None) -> torch.export.ExportedProgram:
    """Export with the batch of `plan` dynamic, or, without a plan, for the inputs' own sizes."""
    shapes: Any = None
    if plan is not None:
        places = iter(range(len(inputs.tensors)))

        def repeated(value: torch.Tensor) -> torch.Tensor:
            i = next(places)
            grown = torch.cat([value, value], plan[i]) if i in plan and value.shape[plan[i]] == 1 else value
            return grown if grown is not value else value.detach()  # its own object: it gets axes of its own

        inputs = inputs.changed(repeated)
        batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
        shapes = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
        for i, value in enumerate(inputs.tensors):
            if i in plan:
                shapes[value] = {plan[i]: batch}
    try:
        return _exported(module, inputs, shapes)
    except Exception as error:
        if "not a known type" not in str(error):
            raise
    flat = module.register_forward_hook(lambda _module, _inputs, result: tuple(output_leaves(result)))
    try:  # an output class of the user's own, or a cache beside the results: the tensors alone
        return _exported(module, inputs, shapes)
    finally:
        flat.remove()


def _exported(module: torch.nn.Module, inputs: Inputs, shapes: Any) -> torch.export.ExportedProgram:
    with warnings.catch_warnings(), quiet(), recurrent_shapes_only():
        warnings.simplefilter("ignore")
        return torch.export.export(
            module, inputs.args, dict(inputs.kwargs) or None, dynamic_shapes=shapes, strict=False
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's own account of a failing export (tracebacks, graphs) off stderr; the error says what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


# --- programs --------------------------------------------------------------------------------------------------------


def traced(program: torch.export.ExportedProgram, lookup: Callable[[str], torch.Tensor]) -> Traced:
    """Return the graph of an exported program; `lookup` gives parameters and buffers by dotted name."""
    inline(program.graph_module)
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }

    def getter(target: str) -> Callable[[], torch.Tensor]:
        held = program.constants.get(target)
        return (lambda: held) if isinstance(held, torch.Tensor) else (lambda: lookup(target))

    output = next(n for n in program.graph.nodes if n.op == "output")
    kinds = [spec.kind.name for spec in signature.output_specs]
    returned = [v for v, kind in zip(output.args[0], kinds, strict=True) if kind == "USER_OUTPUT"]
    return Traced(
        graph=program.graph,
        held={name: getter(target) for name, target in names.items()},
        names=names,
        trained=frozenset(signature.inputs_to_parameters),
        outputs=returned,
    )


def inline(module: fx.GraphModule) -> None:
    """Put the bodies of regions that only switch gradients or mixed precision off into the graph that calls them."""
    graph = module.graph
    for node in list(graph.nodes):
        name = operator_name(node.target) if node.op == "call_function" else ""
        if name not in ("wrap_with_set_grad_enabled", "wrap_with_autocast"):
            continue
        place, name_of_body = next(
            (i, str(a.target)) for i, a in enumerate(node.args) if isinstance(a, fx.Node) and a.op == "get_attr"
        )
        body = getattr(module, name_of_body)
        inline(body)
        inside = [n for n in body.graph.nodes if n.op == "placeholder"]
        copies: dict[fx.Node, Any] = dict(zip(inside, node.args[place + 1 :], strict=True))
        with graph.inserting_before(node):
            results = graph.graph_copy(body.graph, copies)
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            graph.erase_node(user)
        graph.erase_node(node)


def decomposed(program: torch.export.ExportedProgram, understood: frozenset[str]) -> torch.export.ExportedProgram:
    """Return the program with operators outside `understood` split by torch's own rules, and without writes in place."""
    rules: dict[Any, Any] = dict(torch._decomp.decomposition_table)
    default = torch.export.default_decompositions()
    rules.update((operator, default[operator]) for operator in list(default.keys()))  # type: ignore[no-untyped-call]
    chosen = {
        operator: rule
        for operator, rule in rules.items()
        if hasattr(operator, "_schema") and operator_name(operator) not in understood
    }
    _without_dropout(program.graph_module)
    with warnings.catch_warnings(), quiet(), recurrent_shapes_only():
        warnings.simplefilter("ignore")
        made: torch.export.ExportedProgram = program.run_decompositions(chosen)
        return made


def operator_in(error: Exception) -> str:
    """Return the operator that torch was at when it failed, or an empty string."""
    found = re.search(r"target=torch\.ops\.(\w+)\.(\w+)", str(error))
    return "" if found is None else found[2] if found[1] == "aten" else f"{found[1]}::{found[2]}"


def _without_dropout(module: fx.GraphModule) -> None:
    """Remove dropout that is off: it hands its argument itself on, which a write in place can tell from a copy."""
    for node in list(module.graph.nodes):
        off = node.op == "call_function" and len(node.args) > 2 and node.args[2] is False
        if off and operator_name(node.target).rstrip("_").endswith("dropout"):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
