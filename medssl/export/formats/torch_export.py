"""A network as a program of torch.export: for PyTorch without medssl, C++, and AOTInductor."""

import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from medssl.export import open_program
from medssl.export.formats._checkpoint import largest_difference
from medssl.export.formats._graph import Graph, GraphFormat, random_input, sizes_written
from medssl.export.model_card import CardConfig
from medssl.export.pickles import program_pickles
from medssl.export.verify import REPORT, VerificationError, run_alone
from medssl.models.weights import write_tensors

MODEL = "model.pt2"
TOLERANCE = 1e-5
"""Largest difference of an output, relative to its largest number; usually there is none."""

_USAGE = """\
```python
import torch

network = torch.export.load("model.pt2").module()   # nothing of medssl is needed
outputs = network(x_BCIJK)                           # float32 in [0, 1]; names in config.json
```

`config.json` says which sizes the program takes, how intensities and spacing are prepared, and
what each output is, in their order. Axes of the image go towards right, anterior, superior.

A `.pt2` is an archive of JSON and raw tensors, and this one holds no pickle. But
`torch.export.load` unpickles whatever pickle an archive does hold, and evaluates expressions of
its JSON: to open one is to trust whoever made it. Run `medssl verify FOLDER` first, and open none
from unknown hands; the formats `onnx` and `encoder_folder` hold nothing that can run."""


class TorchExport(GraphFormat):
    """``model.pt2`` and ``config.json``, run in a process without medssl before it is kept."""

    class Config(GraphFormat.Config):
        """The grid, as of every traced graph."""

    title = "Encoder, as a program of torch.export"
    usage = _USAGE
    library = "pytorch"

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        graph = self.open(run)
        program, sizes = self.trace(run, graph)
        program.example_inputs = None  # they would be a pickle
        for name, constant in program.constants.items():
            if isinstance(constant, torch.Tensor):
                # torch fails to write constants that are slices of one another
                program.constants[name] = constant.clone(memory_format=torch.contiguous_format)
        try:
            torch.export.save(program, folder / MODEL)
        except Exception as error:  # torch raises many kinds
            raise VerificationError(
                f"torch cannot write the program ({type(error).__name__})", hint=REPORT
            ) from error
        self.describe(folder, graph, sizes, torch=version("torch").partition("+")[0])

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        held = pickles(folder / MODEL)
        if held:
            raise VerificationError(f"{MODEL} holds a pickle, {held[0]}", hint=REPORT)
        graph = self.open(run)
        shapes = sizes_written(folder, graph).tried
        inputs = [random_input(shape, seed) for seed, shape in enumerate(shapes)]
        given = _run(folder, inputs, graph)
        relative = max(
            largest_difference(zip(graph.run(x), theirs, strict=True))
            for x, theirs in zip(inputs, given, strict=True)
        )
        if not relative <= TOLERANCE:
            raise VerificationError(
                f"the program gives other numbers than the network: they differ by {relative:.1e} "
                f"of the largest, at most {TOLERANCE:.0e} is allowed",
                hint=REPORT,
            )
        return {
            "opened_by": f"torch {torch.__version__}, torch.export.load, without medssl",
            "shapes": [list(shape) for shape in shapes],
            "largest_relative_difference": relative,
            "pickles": 0,
        }


def pickles(path: Path) -> list[str]:
    """Return the members of an archive that ``torch.export.load`` would unpickle.

    Raises:
        VerificationError: It is no archive, or not one of torch.export.
    """
    try:
        return program_pickles(path)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise VerificationError(
            f"{path.name} cannot be read back as a program ({type(error).__name__})", hint=REPORT
        ) from error


def _run(folder: Path, inputs: list[torch.Tensor], graph: Graph) -> list[list[torch.Tensor]]:
    """Return the outputs for each input, as a process without medssl computes them."""
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "in.safetensors", Path(scratch) / "out.safetensors"
        write_tensors(asked, {str(number): x for number, x in enumerate(inputs)})
        command = [sys.executable, "-I", open_program.__file__]
        model = (folder / MODEL).resolve()
        run_alone(
            [*command, model, asked, answered, str(torch.get_num_threads())],
            failure="torch cannot run the program",
            folder=Path(scratch),
        )
        try:
            given = load_file(answered)
        except (SafetensorError, OSError) as error:
            raise VerificationError("the program gave no tensors", hint=REPORT) from error
    names = range(len(graph.outputs))
    return [[given[f"{number}/{name}"] for name in names] for number in range(len(inputs))]
