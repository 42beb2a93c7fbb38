"""The process that runs a file in ONNX Runtime and prints the shape of every value (see `onnx_probe`)."""

import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

_LARGEST_BYTES = 4 << 30
_FREE_BYTES, _BYTES_PER_BYTE = 1 << 30, 64
"""Memory beyond what the process starts with: a small file has no reason to need much."""
_FREE_S, _LONGEST_S, _BYTES_PER_S = 2, 120, 1 << 20
"""CPU time beyond that of starting, likewise."""
_LINUX = sys.platform == "linux"
_PREFIX = "shape of "
_NO_TENSORS = frozenset(
    {
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceInsert",
        "SequenceErase",
        "SplitToSequence",
        "SequenceMap",
        "Optional",
    }
)


def main() -> None:
    """Read the inputs' types and shapes from standard input, run the file named on the command line, print shapes."""
    path = Path(sys.argv[1])
    _set_limits(sum(file.stat().st_size for file in (path, *path.parent.glob("*.bin"), *path.parent.glob("*.data"))))
    feeds = [{n: _filled(t, s) for n, (t, s) in feed.items()} for feed in json.load(sys.stdin)]
    sys.stdout.write(json.dumps([shapes_of(path, feed) for feed in feeds]))


def _set_limits(file_bytes: int) -> None:
    """Bound time and memory by the size of the file (and of weights beside it): what it asks for may have no end."""
    import onnxruntime  # noqa: F401 - loaded first, so that the bounds are on what the file asks for

    started = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(started.ru_utime + started.ru_stime) + 1 + min(_LONGEST_S, _FREE_S + file_bytes // _BYTES_PER_S)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if _LINUX else _FREE_BYTES
    memory = min(_LARGEST_BYTES, held + _FREE_BYTES + _BYTES_PER_BYTE * file_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def _filled(data_type: int, shape: list[int]) -> Any:
    """Return ones for real inputs (a zero may divide), zeros for whole ones (an index that always exists)."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(data_type or 1))
    return np.ones(shape, dtype) if dtype.kind == "f" else np.zeros(shape, dtype)


def shapes_of(path: Path, feeds: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the shape of every tensor that the main graph makes."""
    import onnxruntime

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for declared in graph.input:  # the sizes that are fed may be others than those declared
        if declared.name in feeds:
            for dim, size in zip(declared.type.tensor_type.shape.dim, feeds[declared.name].shape, strict=False):
                dim.dim_value = size
    del graph.value_info[:]
    names = [o for n in graph.node if n.op_type not in _NO_TENSORS for o in n.output if o]
    del graph.output[:]
    for name in names:
        graph.node.append(helper.make_node("Shape", [name], [_PREFIX + name]))
        graph.output.append(helper.make_tensor_value_info(_PREFIX + name, TensorProto.INT64, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = session.run(None, dict(feeds))
    return {n: [int(v) for v in s] for n, s in zip(names, made, strict=True)}


if __name__ == "__main__":
    main()
