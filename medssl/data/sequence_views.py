"""Two contrasts of one place: simulated from quantitative maps, or two sequences of one study.

Views as in Chalcroft et al., "Unified 3D MRI Representations via Sequence-Invariant Contrastive
Learning" (SASHIMI 2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field

from medssl.data.augment import Probability, never
from medssl.data.deform import Deformation, DeformConfig, apply_deformation, draw_deformation
from medssl.data.entry import MAPS
from medssl.data.mr_artefacts import ArtefactConfig, Artefacts, apply_artefacts, draw_artefacts
from medssl.data.mr_protocols import GreyConfig, ProtocolConfig, draw_scan, to_grey
from medssl.data.mr_signal import Maps, Scan, simulate
from medssl.data.views import (
    Batch,
    FloatArray,
    Region,
    Sample,
    SequenceCrop,
    Size,
    ViewSpec,
    three,
)

*_NEEDED, MT = MAPS
NEEDED: Final = tuple(_NEEDED)
"""The maps that every contrast is simulated from; MT is used where there is one."""
VIEWS: Final = 2


@dataclass(frozen=True, kw_only=True)
class SequenceView:
    """What was drawn for one view."""

    scan: Scan
    deformation: Deformation
    flips: tuple[bool, bool, bool]
    artefacts: Artefacts


class SequenceViews(ViewSpec[tuple[SequenceView, ...]]):
    """Two views of one crop in two contrasts, deformed and spoiled each on its own.

    ``Batch.views_BCIJK`` is ``[spoiled (B*2, 1, ...), clean (B*2, 1, ...)]``: each view with its
    artefacts, and the same view without, which is what must be reconstructed. The two views of a
    sample follow each other.

    A group that holds the maps PD, R1 and R2s (and MT where it has it) is simulated; of any other
    group two sequences are drawn, in the modes ``bloch_paired`` and ``sequences``.
    """

    mode: Literal["mprage", "bloch", "bloch_paired", "sequences"] = "bloch_paired"
    """`mprage`: one simulated MPRAGE for both views; `bloch`: one simulated contrast of any kind
    for both; `bloch_paired`: two simulated contrasts, or two sequences where there are no maps;
    `sequences`: two sequences, whatever maps there are."""
    crop_voxels: Size = 24
    """Size of a view; one number is a cube."""
    spread: Annotated[float, Field(ge=1)] = 1.2
    """Side of the region that both are cut from, over that of a view."""
    protocol: ProtocolConfig = ProtocolConfig()
    """Which contrasts are simulated."""
    grey: GreyConfig = GreyConfig()
    """What grey values become of a simulated signal."""
    flip_probability: Probability = 0.5
    """Chance of mirroring, for each axis on its own."""
    deform: DeformConfig = DeformConfig()
    """How views are turned, sheared, scaled and bent."""
    artefacts: ArtefactConfig = ArtefactConfig()
    """How they are spoiled."""

    @property
    def crop_size(self) -> tuple[int, int, int]:
        """Size of a view along I, J, K in voxels."""
        return three(self.crop_voxels)

    @property
    def region_voxels(self) -> tuple[int, int, int]:
        i, j, k = (round(size * self.spread) for size in self.crop_size)
        return i, j, k

    @property
    def sequences(self) -> int:
        return VIEWS if self.mode in ("bloch_paired", "sequences") else len(NEEDED)

    def choose(self, contrasts: Sequence[str | None], rng: np.random.Generator) -> tuple[int, ...]:
        """Return the maps, or two sequences; nothing where the group has neither.

        A map is no sequence, unless nothing else is there to be one.
        """
        if self.mode != "sequences" and set(NEEDED) <= set(contrasts):
            wanted = MAPS if MT in contrasts else NEEDED
            return tuple(contrasts.index(name) for name in wanted)
        scans = [n for n, name in enumerate(contrasts) if name not in MAPS]
        scans = scans if len(scans) >= VIEWS else list(range(len(contrasts)))
        if self.mode in ("mprage", "bloch") or len(scans) < VIEWS:
            return ()
        return tuple(rng.choice(scans, VIEWS, replace=False).tolist())

    def draw(self, rng: np.random.Generator) -> tuple[SequenceView, ...]:
        mprage = self.protocol.model_copy(update={"sequences": ("mprage",)})
        protocol = mprage if self.mode == "mprage" else self.protocol
        scans = [draw_scan(protocol, rng) for _ in range(VIEWS)]
        if self.mode in ("mprage", "bloch"):
            scans = scans[:1] * VIEWS
        return tuple(self._draw_view(rng, scan) for scan in scans)

    def cut(self, region: Region, draw: tuple[SequenceView, ...]) -> Sample:
        """Cut two views; ``region.sequences`` are maps, or as many sequences as views.

        Raises:
            ValueError: The region does not have ``region_voxels``, or comes alone.
        """
        self.check(region)
        clean = [
            np.flip(view_IJK, tuple(axis for axis, flipped in enumerate(v.flips) if flipped))
            for v, view_IJK in zip(draw, self._deformed(region.sequences, draw), strict=True)
        ]
        spoiled = [apply_artefacts(c, v.artefacts) for c, v in zip(clean, draw, strict=True)]
        return Sample([np.stack(spoiled)[:, None], np.stack(clean)[:, None]], {})

    def unchanged(self) -> Self:
        """Return the spec of the same contrasts, neither deformed nor spoiled."""
        still = DeformConfig(probability=0)
        update = {"deform": still, "artefacts": never(ArtefactConfig), "flip_probability": 0.0}
        return self.model_copy(update=update)

    def captions(self, batch: Batch) -> list[list[str]]:
        rows = range(len(batch.views_BCIJK[0]))
        return [[f"{kind} contrast {r % VIEWS} of sample {r // VIEWS}" for r in rows]
                for kind in ("spoiled", "clean")]  # fmt: skip

    def _draw_view(self, rng: np.random.Generator, scan: Scan) -> SequenceView:
        i, j, k = (rng.random(3) < self.flip_probability).tolist()
        return SequenceView(
            scan=scan,
            deformation=draw_deformation(self.deform, rng, self.crop_size, self.region_voxels),
            flips=(i, j, k),
            artefacts=draw_artefacts(self.artefacts, rng, self.crop_size),
        )

    def _deformed(
        self, crops: tuple[SequenceCrop, ...], draw: tuple[SequenceView, ...]
    ) -> list[FloatArray]:
        named = {crop.contrast: crop for crop in crops}
        if self.mode != "sequences" and set(NEEDED) <= set(named):
            maps = quantitative(named)
            scans = {view.scan for view in draw}
            signals = {scan: to_grey(simulate(maps, scan), self.grey) for scan in scans}
            contrasts = [signals[view.scan] for view in draw]
        elif len(crops) == VIEWS:
            contrasts = [crop.voxels_IJK for crop in crops]
        else:
            found = ", ".join(str(crop.contrast) for crop in crops) or "none"
            raise ValueError(
                f"two contrasts are cut from the maps {', '.join(NEEDED)} or from two sequences of "
                f"a region, found {found}"
            )
        return [
            apply_deformation(contrast, view.deformation, self.crop_size)
            for contrast, view in zip(contrasts, draw, strict=True)
        ]


def quantitative(named: dict[str | None, SequenceCrop]) -> Maps:
    """Return maps in their own units, which scaling to [0, 1] took away.

    What was beyond the outer percentiles of a volume stays cut off, as published.
    """

    def physical(crop: SequenceCrop) -> FloatArray:
        low, high = crop.limits
        return crop.voxels_IJK * np.float32(high - low) + np.float32(low)

    pd, r1, r2s = (physical(named[name]) for name in NEEDED)
    return Maps(pd, r1, r2s, physical(named[MT]) if MT in named else None)
