"""The trust stage: what to ask weights of images and texts before anyone relies on them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from medssl import __version__
from medssl.data.store import CropStore
from medssl.data.views import Sample
from medssl.errors import InputError
from medssl.evaluation.page import inline, number, write_page
from medssl.evaluation.paired.asking import Asking
from medssl.evaluation.paired.backdoor import FEWEST_TARGETS, TriggerOptions, backdoor_scan
from medssl.evaluation.paired.figures import draw_study
from medssl.evaluation.paired.fooling import Fooling, FoolingOptions, fooling_image
from medssl.evaluation.paired.negation import negation_table
from medssl.evaluation.paired.options import StudyOptions
from medssl.evaluation.paired.prompts import PromptSet, read_prompts
from medssl.evaluation.paired.sensitivity import prompt_sensitivity
from medssl.evaluation.paired.studies import embed_studies
from medssl.evaluation.paired.subject import Subject, first_affine
from medssl.reports.pairs import Pair
from medssl.runs.digest import digest_file, digest_json
from medssl.runs.folder import read_json, write_json
from medssl.runs.manifest import now
from medssl.runs.progress import track
from medssl.runs.stage import StageResult, StageRun, open_stage

TRUST, PAGE, IMAGE, EMBEDDINGS = "trust.json", "trust.html", "fooling.png", "embeddings"
FEWEST_IMAGES: Final = 2
Json = dict[str, Any]


class TrustConfig(StudyOptions):
    """Everything ``medssl trust`` reads."""

    findings: Path
    """YAML file of what is asked for and how, such as `configs/findings/ct_chest.yaml`."""
    out: Path
    """Folder for the results."""
    most_studies: Annotated[int, Field(ge=2)] = 200
    """Studies whose answers are compared, at most; drawn evenly from the split."""
    most_images: Annotated[int, Field(ge=2)] = 16
    """Images that marks and fooling images are looked for with, at most: all at once."""
    backdoor: TriggerOptions | None = TriggerOptions()
    """Looking for texts that a small mark draws every image to; null leaves it out."""
    fooling: FoolingOptions | None = FoolingOptions()
    """Looking for an image that suits all texts; null leaves it out."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the first marks."""


def trust(config: TrustConfig, *, overwrite: bool = False) -> StageResult:
    """Ask a model whether its answers depend on wording, hear "no", and can be steered.

    Leaves ``trust.json``, whose numbers a model card can show, and ``trust.html``.

    Raises:
        InputError: The model, the pairs or the store cannot be read, or there are too few images.
        ConfigError: The file of findings is wrong.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    prompts = read_prompts(config.findings)
    store, pairs = config.material()
    chosen = spread_evenly(config.chosen(pairs), config.most_studies)
    inputs = {
        "model": config.model_digest,
        "store": store.digest,
        "pairs": pairs.digest,
        "findings": digest_json(prompts.model_dump(mode="json")),
    }
    with open_stage(
        "trust", config.out, config, inputs=inputs, tracking=config.tracking, overwrite=overwrite
    ) as run:
        if run.previous:
            return run.previous
        subject = config.subject(config.images)
        asking = Asking.of(subject, prompts)
        found = embed_studies(subject, store, chosen, config.out / EMBEDDINGS)
        targets = {
            text: torch.from_numpy(asking.vectors[text]).float().to(subject.device)
            for text in targets_of(prompts)
        }
        images = some_images(subject, store, found.pairs, config.most_images)
        fooled = _fooled(config, subject, images, targets)
        report = {
            "studies": len(found.pairs),
            "texts": len(targets),
            "wording": prompt_sensitivity(asking, found.image_ND),
            "negation": negation_table(asking),
            "backdoor": _scanned(config, subject, images, targets),
            "fooling": fooled.report if fooled else None,
        }
        return _leave(run, config, report, fooled, first_affine(store, found.pairs[0]))


def _embedding(subject: Subject) -> Any:
    """Return the model as a function of images alone; only they are to get gradients."""
    subject.model.requires_grad_(False)
    return subject.model.embed_images


def _scanned(
    config: TrustConfig, subject: Subject, images: Tensor, targets: Mapping[str, Tensor]
) -> Json | None:
    if config.backdoor is None:
        return None
    return backdoor_scan(_embedding(subject), images, targets, config.backdoor, seed=config.seed)


def _fooled(
    config: TrustConfig, subject: Subject, images: Tensor, targets: Mapping[str, Tensor]
) -> Fooling | None:
    if config.fooling is None:
        return None
    text_TD = torch.stack([*targets.values()])
    return fooling_image(_embedding(subject), images, text_TD, config.fooling)


def targets_of(prompts: PromptSet) -> list[str]:
    """Return the texts that images might be drawn to: findings, their absence, answers; once."""
    (template, *_) = prompts.templates.values()
    texts = [
        template.prompts(one.words, present=present)[0]
        for one in prompts.findings
        for present in (True, False)
    ]
    for question in prompts.questions:
        texts += [question.prompts(name)[0] for name in question.answers]
    return list(dict.fromkeys(texts))


def spread_evenly(pairs: tuple[Pair, ...], most: int) -> tuple[Pair, ...]:
    """Return at most so many, evenly from all."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(most, len(pairs))).round().astype(int))
    return tuple(pairs[n] for n in chosen)


def some_images(subject: Subject, store: CropStore, pairs: tuple[Pair, ...], most: int) -> Tensor:
    """Return images of different studies in [0, 1], ``(N, 1, I, J[, K])``.

    Raises:
        InputError: There are fewer than two studies.
    """
    if len(pairs) < FEWEST_IMAGES:
        raise InputError(
            f"{len(pairs)} study to look for marks with, and at least {FEWEST_IMAGES} are needed",
            hint="choose another split, or make pairs of more studies",
        )
    some = track(spread_evenly(pairs, most), "read images")
    middles = [_middle(subject.read(store, pair)) for pair in some]
    return torch.from_numpy(np.stack(middles)).to(subject.device)


def _middle(sample: Sample) -> Any:
    images = sample.views_BCIJK[0]
    return images[len(images) // 2]


def _leave(
    run: StageRun,
    config: TrustConfig,
    report: Json,
    fooled: Fooling | None,
    affine_ras: NDArray[np.float64],
) -> StageResult:
    report["in_words"] = in_words(report)
    write_json(config.out / TRUST, report)
    look_at = {"page": PAGE, "numbers": TRUST}
    if fooled is not None:
        shown = fooled.image_CIJK[None].cpu().numpy()
        draw_study(config.out / IMAGE, Sample([shown], {}), affine_ras)
        look_at["fooling image"] = IMAGE
    write_page(
        config.out / PAGE,
        "paired/trust.html",
        report=report,
        fooling=inline(config.out / IMAGE) if fooled else None,
        version=__version__,
        date=now()[:10],
    )
    summary: dict[str, str | int | float | bool] = {"studies": report["studies"]}
    if report["backdoor"]:
        summary["suspicious_texts"] = len(report["backdoor"]["suspicious"])
    if report["fooling"]:
        summary["fooled_texts"] = round(report["fooling"]["beaten"], 4)
    return run.finish(
        summary=summary,
        look_at=look_at,
        stays=[IMAGE, PAGE],  # begun at the mean of patients' images
        outputs={"trust": digest_file(config.out / TRUST)},
    )


def in_words(report: Json) -> list[str]:
    """Return what was found in a few sentences, for a page and a model card."""
    told = list[str]()
    if report["wording"]:
        far = max(report["wording"], key=lambda row: row["range"])
        mean = float(np.mean([row["range"] for row in report["wording"]]))
        told.append(
            f"Wording: ways to ask for the same finding differ by {number(mean)} in probability on "
            f"the mean, by {number(far['range'])} for {far['finding']}."
        )
    asked = [row for row in report["negation"] if row["heard"] is not None]
    if asked:
        deaf = sum(not row["heard"] for row in asked)
        told.append(
            f"Negation: for {deaf} of {len(asked)} findings the words for its absence are more "
            "like those for its presence than any other finding is."
        )
    scan = report["backdoor"]
    if scan:
        names = ", ".join(f'"{text}"' for text in scan["suspicious"])
        told.append(
            f"Backdoors: of {len(scan['texts'])} texts that a mark on "
            f"{100 * scan['most_area']:g} % of an image could draw all images to, "
            f"{len(scan['suspicious']) or 'none'} stand out{': ' if names else ''}{names}. Other "
            "texts, and other kinds of marks, were not looked for."
        )
    elif report["texts"] < FEWEST_TARGETS:
        told.append(
            f"Backdoors: not looked for, since of fewer than {FEWEST_TARGETS} texts none can stand "
            "out."
        )
    fooled = report["fooling"]
    if fooled:
        told.append(
            f"Fooling images: one made-up image is more like {100 * fooled['beaten']:.0f} % of "
            f"{fooled['texts']} texts than any of {fooled['images']} real images is."
        )
    return told


def card_section(folder: Path) -> str:
    """Return Markdown for a model card of what ``medssl trust`` found.

    Args:
        folder: What it left.

    Raises:
        InputError: There is none.
    """
    path = folder / TRUST
    try:
        told = read_json(path)["in_words"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no result of a trust check can be read ({type(error).__name__})",
            hint="give the folder that `medssl trust` left",
        ) from None
    return "\n".join(["## Can it be trusted?", "", *(f"- {line}" for line in told), ""])
