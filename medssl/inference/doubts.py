"""What a reader of a prediction should know about the scan it is of."""

from collections.abc import Iterator

from medssl.io.volume import Volume
from medssl.training.reference import Reference
from medssl.training.task_model import ModelDescription


def doubts(
    volume: Volume, about: ModelDescription, reference: Reference | None, distance: float | None
) -> Iterator[str]:
    """Yield sentences about what is unusual; none of them holds an identifier.

    Args:
        volume: The scan.
        about: The model.
        reference: What is usual for it.
        distance: How far the scan is from that.
    """
    if about.modality not in ("unknown", volume.modality) and volume.modality != "unknown":
        yield f"The scan is {volume.modality}, the model was trained on {about.modality}."
    if about.modality == volume.modality == "CT" and volume.intensity != "hu":
        yield "Its numbers do not look like Hounsfield units."
    if volume.regularized:
        yield f"Its slices were resampled to a regular grid ({', '.join(volume.regularized)})."
    yield from _too_small(volume, about)
    if reference is None or distance is None:
        yield "How usual it is cannot be told: the model does not say what it was trained on."
    elif distance > reference.limit:
        yield (
            f"It looks unlike the scans that the model was trained on: distance {distance:.3g}, "
            f"where up to {reference.limit:.3g} is usual."
        )


def _too_small(volume: Volume, about: ModelDescription) -> Iterator[str]:
    """Yield that a scan is smaller than a window; it is padded with the lowest intensity."""
    has_mm = sorted(n * step for n, step in zip(volume.shape, volume.spacing_mm, strict=True))
    needs_mm = sorted(n * step for n, step in zip(about.patch_voxels, about.grid_mm, strict=True))
    if any(has < needs - 1e-3 for has, needs in zip(has_mm, needs_mm, strict=True)):
        has, needs = (" x ".join(f"{side:.0f}" for side in sides) for sides in (has_mm, needs_mm))
        yield f"It is {has} mm, less than the {needs} mm that the network sees at once: padded."
