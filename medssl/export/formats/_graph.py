"""What formats of a traced graph share: what is traced, for which sizes, and how it is told."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from medssl.errors import InputError, MedSSLError
from medssl.export.formats._encoder import description_of
from medssl.export.formats._huggingface import front_matter
from medssl.export.formats.base import Format, Papers
from medssl.export.model_card import CardConfig
from medssl.models.encoders.base import Encoder
from medssl.models.weights import EXPORTED_DESCRIPTION, WEIGHTS, load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json
from medssl.training import task_model
from medssl.training.task_model import is_task_model, load_task_model, read_description

_log = logging.getLogger(__name__)

Positive = Annotated[int, Field(gt=0)]
INPUT, EMBEDDING, LOGITS = "image", "embedding", "logits"
_AXES = "IJK"
_SHAPES = ((1, (2, 2, 2)), (2, (2, 3, 2)), (3, (3, 2, 2)), (1, (3, 2, 3)), (2, (3, 3, 3)))
"""Rows, and strides along each axis, of what a graph of any size is tried on."""
_MOST_BATCH = 5
_SHOWN = ("encoder", "spacing_mm", "intensity", "store_digest", "steps", "seed")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Which inputs a graph takes, along each axis of space."""

    channels: int
    strides: tuple[int, ...]
    """Sizes are multiples of these."""
    fixed: tuple[int, ...] | None
    """The one grid that it takes; None for any of two strides or more along each axis."""

    @property
    def example(self) -> tuple[int, ...]:
        """Shape to trace with: all axes differ, so that none are taken for one."""
        grid = self.fixed or tuple(s * n for s, n in zip(self.strides, (2, 3, 4), strict=False))
        return (2, self.channels, *grid)

    @property
    def tried(self) -> list[tuple[int, ...]]:
        """Five shapes that a written graph is compared on."""
        if self.fixed is not None:
            return [(rows, self.channels, *self.fixed) for rows in range(1, _MOST_BATCH + 1)]
        return [
            (rows, self.channels, *(s * n for s, n in zip(self.strides, cells, strict=False)))
            for rows, cells in _SHAPES
        ]

    def dynamic(self) -> dict[int, Any]:
        """Return what changes from call to call, as ``torch.export`` is told."""
        if self.fixed is not None:
            return {0: Dim.DYNAMIC}
        cells = {n: Dim(f"cells_{_AXES[n].lower()}", min=2) for n in range(len(self.strides))}
        axes = {n + 2: s * cells[n] if s > 1 else cells[n] for n, s in enumerate(self.strides)}
        return {0: Dim.DYNAMIC, **axes}

    def about(self) -> dict[str, Any]:
        """Return what a user is told."""
        space: dict[str, Any] = (
            {"fixed": list(self.fixed)}
            if self.fixed is not None
            else {"multiple_of": list(self.strides), "at_least": [2 * s for s in self.strides]}
        )
        return {
            "name": INPUT,
            "dtype": "float32",
            "layout": " ".join("BC" + _AXES[: len(self.strides)]),
            "channels": self.channels,
            "value_range": [0, 1],
            "batch": "1 or more",
            "space": space,
        }


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A network of one tensor in and named tensors out, and what a user needs to know of it."""

    module: nn.Module
    outputs: tuple[str, ...]
    channels: int
    strides: tuple[int, ...]
    grid: tuple[int, ...]
    """For a graph of one grid only."""
    about: dict[str, Any]

    def sizes(self, fixed: tuple[int, ...] | None) -> Sizes:
        """Return the sizes of a graph of any grid, or of one."""
        return Sizes(channels=self.channels, strides=self.strides, fixed=fixed)

    @torch.no_grad()
    def run(self, x_BCIJK: Tensor) -> list[Tensor]:
        """Return what the network itself gives."""
        return list(self.module(x_BCIJK))


class _EncoderOutputs(nn.Module):
    """The embedding, then the maps, finest first."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x_BCIJK: Tensor) -> tuple[Tensor, ...]:
        maps = self.encoder.features(x_BCIJK)
        return (self.encoder.pool(maps), *maps)


class _TaskOutputs(nn.Module):
    """The logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BCIJK: Tensor) -> tuple[Tensor]:
        return (self.network(x_BCIJK),)


class GraphFormat(Format):
    """A format whose artefact is a traced network: nothing of medssl is needed to run it."""

    class Config(Format.Config):
        space: Literal["dynamic", "fixed"] = "dynamic"
        """Whether one graph takes any grid of whole strides. A network that cannot be traced so,
        such as `swin_unetr`, whose windows are laid out for a grid, is always `fixed`."""
        voxels: tuple[Positive, ...] | None = None
        """Grid of a fixed graph; null for the patch of a task model, and two strides along each
        axis of an encoder."""

    title: ClassVar[str]
    """Heading of the model card."""
    usage: ClassVar[str]
    """How to open the artefact, as Markdown."""
    library: ClassVar[str]
    """What opens it."""

    config: Config

    def digests(self, run: Path) -> dict[str, str]:
        self.open(run)  # says what is wrong with it
        if is_task_model(run):
            return {
                "model": read_description(run).weights_digest,
                "description": digest_file(run / task_model.DESCRIPTION),
            }
        return {"encoder": digest_file(run / WEIGHTS), "about": digest_file(description_of(run))}

    def open(self, run: Path) -> Graph:
        """Return the network of ``run``, with what it gives.

        Raises:
            InputError: There is none, or ``voxels`` is no grid of it.
        """
        graph = _task(run) if is_task_model(run) else _encoder(run)
        grid = self.config.voxels or graph.grid
        whole = all(n % s == 0 for n, s in zip(grid, graph.strides, strict=False))
        if len(grid) != len(graph.strides) or not whole:
            raise InputError(
                f"{run}: format.voxels is {list(grid)}, and every axis of the network's input is "
                f"a multiple of {list(graph.strides)}",
                hint="choose such a grid, or null",
            )
        return Graph(**{**vars(graph), "grid": tuple(grid)})

    def trace(self, run: Path, graph: Graph) -> tuple[ExportedProgram, Sizes]:
        """Return the graph of any grid where the network allows it, or else of one.

        Raises:
            InputError: The network cannot be traced at all.
        """
        if self.config.space == "dynamic":
            try:
                return _trace(graph, graph.sizes(None))
            except MedSSLError:
                raise
            except Exception as error:  # noqa: BLE001  torch raises many kinds
                _log.warning(
                    "%s: a graph of the grid %s alone; torch cannot trace it for any (%s)",
                    run,
                    list(graph.grid),
                    type(error).__name__,
                )
        try:
            return _trace(graph, graph.sizes(graph.grid))
        except MedSSLError:
            raise
        except Exception as error:  # whatever a network that cannot be traced makes torch raise
            raise InputError(
                f"{run}: torch cannot trace this network ({type(error).__name__})",
                hint="export its weights instead: encoder_folder or monai_bundle",
            ) from error

    def describe(self, folder: Path, graph: Graph, sizes: Sizes, **held: Any) -> None:
        """Write ``config.json``."""
        outputs = [{"name": name, "dtype": "float32"} for name in graph.outputs]
        described = {"input": sizes.about(), "outputs": outputs, **graph.about, **held}
        write_json(folder / EXPORTED_DESCRIPTION, described)

    def papers(self, run: Path, card: CardConfig) -> Papers:
        facts = self.open(run).about
        if is_task_model(run):
            about = read_description(run)
            member = str(about.training.get("start", ""))
            return Papers(title=about.title, usage=self.usage, facts=facts, member=member)
        told = read_json(description_of(run))
        head = front_matter(card.licence, library=self.library, about=told)
        return Papers(title=self.title, usage=self.usage, facts=facts, front_matter=head)


def sizes_written(folder: Path, graph: Graph) -> Sizes:
    """Return which inputs the artefact says it takes."""
    space: Mapping[str, Any] = read_json(folder / EXPORTED_DESCRIPTION)["input"]["space"]
    return graph.sizes(tuple(space["fixed"]) if "fixed" in space else None)


def random_input(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return an input as networks see it, ``float32`` in [0, 1], the same for the same seed."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def _trace(graph: Graph, sizes: Sizes) -> tuple[ExportedProgram, Sizes]:
    x_BCIJK = random_input(sizes.example)
    graph.run(x_BCIJK)  # what is kept between calls, such as layouts of windows, is then real
    with torch.no_grad():
        program = torch.export.export(
            graph.module, (x_BCIJK,), dynamic_shapes=(sizes.dynamic(),), strict=False
        )
    return program, sizes


def _encoder(run: Path) -> Graph:
    encoder, about = load_encoder(run, trust_names=True)
    stride = max(encoder.strides)
    maps = [f"map_{number}" for number in range(len(encoder.channels))]
    return Graph(
        module=_EncoderOutputs(encoder).eval(),
        outputs=(EMBEDDING, *maps),
        channels=int(getattr(encoder.config, "in_channels", 1)),
        strides=(stride,) * encoder.dims,
        grid=(2 * stride,) * encoder.dims,
        about={
            "maps": {
                name: {"channels": channels, "stride": step}
                for name, channels, step in zip(
                    maps, encoder.channels, encoder.strides, strict=True
                )
            },
            "embedding_length": encoder.embed_dim,
            **{name: about[name] for name in _SHOWN if name in about},
        },
    )


def _task(run: Path) -> Graph:
    model = load_task_model(run, trust_names=True)
    about, encoder = model.description, model.encoder
    stride = max(encoder.strides)
    flat = encoder.dims < len(about.patch_voxels)
    shown = ("task", "modality", "labels", "spacing_mm", "patch_voxels", "preprocessing",
             "inferer", "postprocessing", "encoder", "weights_digest")  # fmt: skip
    told = about.model_dump(mode="json")
    return Graph(
        module=_TaskOutputs(model.network).eval(),
        outputs=(LOGITS,),
        channels=int(getattr(encoder.config, "in_channels", 1)),
        strides=(stride, stride, 1) if flat else (stride,) * 3,
        grid=tuple(about.patch_voxels),
        about={name: told[name] for name in shown},
    )
