"""Which series of a study a model is for: by what the headers say, before any pixel is read."""

import fnmatch
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medssl.errors import RejectedFileError
from medssl.io import deidentify
from medssl.io.dicom.series import Slices, group_by_series
from medssl.io.dicom.slices import SliceHeader
from medssl.io.reasons import reject

EVERY = "all"
_WHOLE_BODY = "whole_body"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a model is for, and what a person chose."""

    modality: str = "unknown"
    """`unknown`: any."""
    any_modality: bool = False
    """Also take others."""
    body_part: str | None = None
    """A word of ``deidentify.BODY_PARTS``; None: any."""
    series: str | int | None = None
    """A number of the list that a refusal shows, a pattern on its descriptions, or `all` that
    fit; None: the only one that fits."""
    least_slices: int = 4


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series as a person may choose it."""

    number: int
    """From 1 on, in the order of its files."""
    slices: Slices

    @property
    def first(self) -> SliceHeader:
        """What stands for all slices."""
        return self.slices[0]

    @property
    def is_original(self) -> bool:
        """Whether any slice is as it was scanned."""
        return any("DERIVED" not in header.image_type for header in self.slices)

    @property
    def description(self) -> str:
        """What it is, in words that come from no file: numbers and terms of vocabularies."""
        first, acquired = self.first, self.first.acquisition
        thickness = f"of {first.thickness_mm:g} mm" if first.thickness_mm else ""
        kernel = f"kernel {acquired.kernel}" if acquired.kernel else ""
        echo = f"echo {acquired.echo_time_ms:g} ms" if acquired.echo_time_ms else ""
        words = [
            " ".join(filter(None, (first.modality, first.body_part))),
            deidentify.image_type(first.image_type).lower().replace("/", " "),
            f"{len(self.slices)} slices {thickness}".strip(),
            kernel or echo,
        ]
        return ", ".join(filter(None, words))


def choose(headers: Sequence[SliceHeader], wanted: Wanted) -> Iterator[Slices | RejectedFileError]:
    """Yield, of every study, the slices of the chosen series, and why others were left out.

    Several that fit are a refusal, ``several_series``, which lists them.
    """
    groups = sorted(group_by_series(headers).values(), key=lambda slices: slices[0].path)
    every = [Series(number=number, slices=slices) for number, slices in enumerate(groups, 1)]
    fit = list[Series]()
    for series in every:
        error = _unfit(series, wanted)
        if error is None:
            fit.append(series)
        else:
            yield error
    studies = defaultdict[str, list[Series]](list)
    for series in fit:
        studies[series.first.keys.study].append(series)
    for study in studies.values():
        yield from _of_study(study, wanted)


def _of_study(fit: list[Series], wanted: Wanted) -> Iterator[Slices | RejectedFileError]:
    exact = [one for one in fit if wanted.body_part and one.first.body_part]
    original = [one for one in fit if one.is_original]
    chosen = fit if wanted.series is not None else _narrowed(fit, exact, original)
    for series in fit:
        if series not in chosen:
            said = "another series of the study fits the model better"
            yield _skipped("other_series", series, said)
    if len(chosen) > 1 and wanted.series is None:
        yield _several(chosen)
        return
    for series in chosen:
        yield series.slices


def _narrowed(fit: list[Series], *better: list[Series]) -> list[Series]:
    """Return what all preferences leave; one that leaves nothing does not count."""
    for some in better:
        kept = [series for series in fit if series in some]
        fit = kept or fit
    return fit


def _unfit(series: Series, wanted: Wanted) -> RejectedFileError | None:
    """Return why ``series`` is not for the model, or not what was asked for; None if it is."""
    modality, part, count = series.first.modality, series.first.body_part, len(series.slices)
    if wanted.series not in (None, EVERY) and not _is_asked_for(series, wanted.series):
        return _skipped("other_series", series, "it is not the one that `series` names")
    if not wanted.any_modality and wanted.modality not in ("unknown", modality):
        return RejectedFileError(
            "other_modality",
            f"the scan is {modality}, the model was trained on {wanted.modality}; set "
            "accept_other_modality to predict it all the same",
            skipped=True,
        )
    if (
        wanted.series is None
        and wanted.body_part
        and part
        and not same_region(part, wanted.body_part)
    ):
        said = f"it shows the {part}, the model is for the {wanted.body_part}"
        return _skipped("other_body_part", series, said)
    frames = {header.frame_index for header in series.slices}
    if count < wanted.least_slices and frames == {None}:
        return reject("too_few_slices", count=count, least=wanted.least_slices)
    return None


def same_region(one: str, other: str) -> bool:
    """Return whether two regions of the body have a part in common."""
    either = _WHOLE_BODY in (one, other)
    return either or bool(set(one.split("_")) & set(other.split("_")))


def _is_asked_for(series: Series, asked: str | int | None) -> bool:
    text = str(asked)
    if text.isdecimal():
        return series.number == int(text)
    return fnmatch.fnmatch(series.description.lower(), f"*{text.lower()}*")


def _skipped(code: str, series: Series, said: str) -> RejectedFileError:
    return RejectedFileError(
        code, f"series {series.number} ({series.description}): {said}", skipped=True
    )


def _several(chosen: Sequence[Series]) -> RejectedFileError:
    listed = "; ".join(f"{series.number}: {series.description}" for series in chosen)
    return RejectedFileError(
        "several_series",
        f"{len(chosen)} series of the study fit the model; say which with `series` (a number, a "
        f"part of a description, or {EVERY}): {listed}",
    )
