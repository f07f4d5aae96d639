"""A network as an ONNX graph: for onnxruntime, TensorRT, OpenVINO, and services without Python."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from medssl.errors import InputError
from medssl.export.formats._checkpoint import largest_difference
from medssl.export.formats._graph import (
    INPUT,
    GraphFormat,
    random_input,
    sizes_written,
)
from medssl.export.model_card import CardConfig
from medssl.export.verify import REPORT, VerificationError

MODEL = "model.onnx"
PROVIDERS = ("CPUExecutionProvider",)
TOLERANCE = 1e-4
"""Largest difference of an output, relative to its largest number."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_ONE_FILE_BYTES = 1_900_000_000
"""A file of ONNX holds 2 GiB at most; weights of more lie beside it, in ``model.onnx.data``."""
_NOISY = "torch.onnx"

_USAGE = """\
```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
outputs = session.run(None, {"image": x_BCIJK})    # float32 in [0, 1]; names in config.json
```

`config.json` says which sizes the graph takes, how intensities and spacing are prepared, and what
each output is. Axes of the image go towards right, anterior, superior. A graph of a segmentation
gives logits of one patch, or of a whole volume whose size is a multiple of the stride."""


class Onnx(GraphFormat):
    """``model.onnx`` and ``config.json``, run by onnxruntime on five shapes before it is kept."""

    class Config(GraphFormat.Config):
        """The grid, as of every traced graph."""

    title = "Encoder, as an ONNX graph"
    usage = _USAGE
    library = "onnx"

    def digests(self, run: Path) -> dict[str, str]:
        check_packages()
        return super().digests(run)

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        graph = self.open(run)
        program, sizes = self.trace(run, graph)
        weights = sum(value.nbytes for value in graph.module.state_dict().values())
        try:
            with _quiet():
                made = torch.onnx.export(
                    program,
                    (),
                    dynamo=True,
                    verbose=False,
                    input_names=[INPUT],
                    output_names=list(graph.outputs),
                )
        except Exception as error:  # torch raises many kinds
            raise VerificationError(
                f"torch.onnx cannot write the graph ({type(error).__name__})", hint=REPORT
            ) from error
        if made is None:
            raise VerificationError("torch.onnx gave no graph", hint=REPORT)
        with _quiet():
            made.save(folder / MODEL, external_data=weights > _ONE_FILE_BYTES)
        self.describe(folder, graph, sizes, onnx=_head(folder / MODEL))

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        graph = self.open(run)
        head = _head(folder / MODEL)
        session = _session(folder / MODEL)
        by_shape, absolute = dict[str, float](), 0.0
        for seed, shape in enumerate(sizes_written(folder, graph).tried):
            x_BCIJK = random_input(shape, seed)
            theirs = _run(session, x_BCIJK, graph.outputs)
            pairs = list(zip(graph.run(x_BCIJK), theirs, strict=True))
            by_shape["x".join(map(str, shape))] = largest_difference(pairs)
            absolute = max(absolute, *(float((a - b).abs().max()) for a, b in pairs))
        relative = max(by_shape.values())
        if not all(difference <= TOLERANCE for difference in by_shape.values()):
            raise VerificationError(
                f"onnxruntime gives other numbers than the network: they differ by {relative:.1e} "
                f"of the largest, at most {TOLERANCE:.0e} is allowed",
                hint=REPORT,
            )
        return {
            "opened_by": f"onnxruntime {version('onnxruntime')}, {', '.join(PROVIDERS)}",
            **head,
            "relative_difference": by_shape,
            "largest_absolute_difference": absolute,
        }


def check_packages() -> None:
    """Raise InputError unless what writes and runs ONNX is installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the format onnx needs {', '.join(missing)}, which is not installed",
            hint="pip install 'medssl[onnx]'",
        )


def _head(path: Path) -> dict[str, Any]:
    """Return the versions that a checked file is of."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # the checker and protobuf raise kinds of their own
        raise VerificationError(
            f"{path.name} cannot be read back as a graph ({type(error).__name__})", hint=REPORT
        ) from error
    return {
        "opset": next(entry.version for entry in model.opset_import if not entry.domain),
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".partition("+")[0],
    }


def _session(path: Path) -> Any:
    import onnxruntime  # type: ignore[import-untyped, unused-ignore]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(PROVIDERS))
    except Exception as error:  # onnxruntime raises kinds of its own
        raise VerificationError(
            f"onnxruntime cannot open {path.name} ({type(error).__name__})", hint=REPORT
        ) from error


def _run(session: Any, x_BCIJK: torch.Tensor, outputs: tuple[str, ...]) -> list[torch.Tensor]:
    try:
        given = session.run(list(outputs), {INPUT: x_BCIJK.numpy()})
    except Exception as error:  # onnxruntime raises kinds of its own
        raise VerificationError(
            f"onnxruntime cannot run the graph on {list(x_BCIJK.shape)} ({type(error).__name__})",
            hint=REPORT,
        ) from error
    return [torch.from_numpy(array) for array in given]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling of packages that it misses, and of its own old calls."""
    logger = logging.getLogger(_NOISY)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
            yield
    finally:
        logger.setLevel(before)
