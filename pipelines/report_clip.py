"""Images and reports of MedPix in one space: every loss, several seeds, and what they reach.

    python -m pipelines.report_clip ../shared/data/image-text-medpix --work runs/report_clip
    python -m pipelines.report_clip ../shared/data/image-text-medpix --set score_on=val seeds=[0]

Every arm pretrains an image encoder from scratch beside a frozen text encoder on the training
cases and is asked about cases that it never saw: which text belongs to which case and the other
way round, whether an image is CT or MR, and which region of the body it shows. Settings are chosen
with ``score_on=val``, training cases that are kept aside; `test` is for the end. All of it are runs
of the stages: interrupted, the same command goes on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from medssl.cli.run import user_errors_explained
from medssl.config.base import Config
from medssl.config.load import load, merge, validate
from medssl.data.pictures import PicturesConfig, store_pictures
from medssl.data.store import CropStore
from medssl.evaluation.paired.prompts import Question
from medssl.evaluation.paired.retrieval import ranking_scores
from medssl.evaluation.paired.studies import embed_studies
from medssl.evaluation.paired.subject import Subject, load_subject
from medssl.evaluation.paired.zero_shot import answer_probabilities, ensemble
from medssl.reports.pairs import Pair, read_pairs
from medssl.runs.digest import digest_json
from medssl.runs.environment import describe
from medssl.runs.folder import read_json, write_json, write_text
from medssl.training.pretrain import PretrainConfig, pretrain
from pipelines.medpix_pairs import medpix_table, read_medpix, region_label, write_medpix_pairs
from pipelines.report_clip_report import draw, summarise, table

SETTINGS: Final = Path(__file__).with_suffix(".yaml")
QUIET: Final = {"tracking": {"enabled": False}}
ALONE_DRAWS: Final = 20
"""Draws of one image per case, for what a case is worth that shows one image alone."""
WAYS: Final = ("image_to_text", "text_to_image")

Tree = dict[str, Any]
Floats = NDArray[np.float64]
Positive = Annotated[int, Field(gt=0)]


class ArmConfig(Config):
    """One way to learn."""

    method: Tree = Field(default_factory=dict)
    """What it sets in the method that all arms share."""
    pairs: Literal["images", "cases"] = "images"
    """What is paired with its text: each image, or each case with all its images."""


class StudyConfig(Config):
    """What is compared; the file beside this script holds the values."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """Of pretraining; everything is drawn anew for each."""
    score_on: Literal["val", "test"]
    """Which cases are asked about."""
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    """Part of the training cases that is kept aside as `val`."""
    looks: Positive
    """Views of each image, drawn as in training, whose vectors are averaged when it is asked."""
    draws: Positive
    """Of seeds and cases, behind each interval."""
    pictures: Tree
    """Settings of ``medssl.data.pictures``."""
    texts: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]
    """Name -> sections that are searched; the first one is that of the goals."""
    modality: Question
    """How CT and MR are said."""
    region: Question
    """How the regions of the body are said, by the archive's names."""
    arms: Annotated[dict[str, ArmConfig], Field(min_length=2)]
    """By name; the first one is what the others are compared with."""
    pretrain: Tree
    """Settings of `medssl pretrain` that all arms share."""

    @model_validator(mode="after")
    def _modality_is_known(self) -> Self:
        if self.modality.truth != "modality":
            raise ValueError("modality.truth must be modality: it is known of every image")
        return self


class Study:
    """The runs of a study in one folder; what is there is not made again."""

    def __init__(self, config: StudyConfig, data: Path, work: Path) -> None:
        self.config, self.data, self.work = config, data, work
        self.store_folder = work / "store"
        self.pairs = {kind: work / "pairs" / kind for kind in ("images", "cases")}

    def prepare(self) -> None:
        """Write the store of pictures and the pairs."""
        medpix = read_medpix(self.data, self.config.validation_share)
        listing = self.work / "pictures.csv"
        write_text(listing, medpix_table(medpix).to_csv(index=False))
        tree = {**self.config.pictures, "sources": listing, "out": self.store_folder, **QUIET}
        tree |= {"key_file": self.work / "private" / "pseudonyms.key", "create_key": True}
        store_pictures(validate(PicturesConfig, tree, where=f"{SETTINGS} pictures"))
        write_medpix_pairs(medpix, self.store_folder, **self.pairs)

    def pretraining(self, arm: str, seed: int) -> PretrainConfig:
        """Return what an arm pretrains with."""
        of_arm = self.config.arms[arm]
        shared = merge(self.config.pretrain, {"method": of_arm.method}, PretrainConfig)
        tree = {**shared, **QUIET, "store": self.store_folder, "seed": seed}
        tree["pairs"] = {**shared.get("pairs", {}), "folder": self.pairs[of_arm.pairs]}
        tree["out"] = self.work / "models" / f"{arm}-{seed}"
        return validate(PretrainConfig, tree, where=f"{SETTINGS} arms.{arm}")

    def score(self, arm: str, seed: int) -> Tree:
        """Pretrain an arm where that is missing, and ask it; returns numbers of every case."""
        training = self.pretraining(arm, seed)
        trained = pretrain(training)
        asked = self.config.model_dump(mode="json", exclude={"seeds", "draws", "arms"})
        inputs = digest_json([asked, self.cases[1], (training.out / "manifest.json").read_text()])
        kept = self.work / "scores" / f"{self.config.score_on}-{arm}-{seed}.json"
        if kept.is_file() and trained.skipped and read_json(kept)["inputs"] == inputs:
            return dict(read_json(kept))
        most = max(len(pair.volume_keys) for pair in self.cases[0])
        subject = load_subject(
            training.out, torch.device("cpu"), images=most, looks=self.config.looks
        )
        found = {"arm": arm, "seed": seed, "inputs": inputs}
        write_json(kept, {**found, **self._ask(subject)})
        return dict(read_json(kept))

    @cached_property
    def cases(self) -> tuple[tuple[Pair, ...], str]:
        """The cases that are asked about, and the digest of all pairs."""
        found = read_pairs(self.pairs["cases"])
        said = self.config.texts.values()
        pairs = [p for p in found.split(self.config.score_on) if all(_says(p, of) for of in said)]
        return tuple(pairs), found.digest

    def _ask(self, subject: Subject) -> Tree:
        pairs, _ = self.cases
        store, cache = CropStore(self.store_folder), self.work / "vectors"
        alone = [p.model_copy(update={"volume_keys": (k,)}) for p in pairs for k in p.volume_keys]
        case_N = np.repeat(np.arange(len(pairs)), [len(pair.volume_keys) for pair in pairs])
        bag_PD, image_ND = (
            embed_studies(subject, store, of, cache).image_ND for of in (pairs, alone)
        )
        modality_NC = _answers(subject, image_ND, self.config.modality)
        texts = {
            name: subject.embed_words([pair.text(of) for pair in pairs])
            for name, of in self.config.texts.items()
        }
        first_PD = texts[next(iter(texts))]
        truth = {
            "patient": [pair.patient_key for pair in alone],
            "ct": [store.entry(pair.volume_keys[0]).modality == "CT" for pair in alone],
            "regions": [
                [pair.labels.get(region_label(name)) == 1 for name in self.config.region.answers]
                for pair in alone
            ],
        }
        return {
            "cases": [pair.study_key for pair in pairs],
            "images": [len(pair.volume_keys) for pair in pairs],
            **truth,
            "retrieval": {name: retrieval(bag_PD, text_PD) for name, text_PD in texts.items()},
            "alone": retrieval_alone(image_ND, case_N, first_PD),
            "ct_score": modality_NC[:, list(self.config.modality.answers).index("CT")].tolist(),
            "region_scores": _answers(subject, image_ND, self.config.region).tolist(),
        }

    def run(self) -> list[Tree]:
        """Run what is missing; returns the numbers of every arm and seed."""
        self.prepare()
        return [self.score(arm, seed) for seed in self.config.seeds for arm in self.config.arms]


def retrieval(image_PD: Floats, text_PD: Floats) -> dict[str, dict[str, list[float]]]:
    """Return, both ways, whether a case finds itself among the first 1, 5 and 10, and its rank."""
    similarity_PP = image_PD @ text_PD.T
    own_PP = np.eye(len(image_PD), dtype=bool)
    both = zip(WAYS, (similarity_PP, similarity_PP.T), strict=True)
    return {
        way: {
            name: values.tolist()
            for name, values in ranking_scores(of, own_PP, ks=(1, 5, 10), percent=()).items()
        }
        for way, of in both
    }


def retrieval_alone(image_ND: Floats, case_N: NDArray[np.int64], text_PD: Floats) -> Tree:
    """Return the recall at 10 of cases that each show one image, drawn several times."""
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(case_N == case) for case in range(len(text_PD))]
    drawn = [
        retrieval(image_ND[[rng.choice(of_case) for of_case in rows]], text_PD)
        for _ in range(ALONE_DRAWS)
    ]
    return {way: np.mean([one[way]["recall@10"] for one in drawn], axis=0).tolist() for way in WAYS}


def _says(pair: Pair, sections: Sequence[str]) -> bool:
    return any(part.text.strip() for part in pair.sections if part.name in sections)


def _answers(subject: Subject, image_ND: Floats, question: Question) -> Floats:
    """Return how probable each answer is, ``(N, C)``."""
    said = [subject.embed_words(question.prompts(answer)) for answer in question.answers]
    answer_CD = np.stack([ensemble(prompt_PD) for prompt_PD in said])
    return answer_probabilities(image_ND, answer_CD, subject.scale)


def main(arguments: Sequence[str]) -> None:
    """Run the study; print its table, write its numbers and its figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of MedPix 2.0")
    parser.add_argument("--work", type=Path, default=Path("runs/report_clip"))
    parser.add_argument("--config", type=Path, default=SETTINGS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with user_errors_explained():
        config = load(StudyConfig, given.config, given.set)
        scored = Study(config, given.data.resolve(), given.work.resolve()).run()
    found = summarise(scored, list(config.region.answers), config.draws)
    about = {"machine": describe(), "settings": json.loads(config.model_dump_json())}
    write_json(given.work / "report_clip.json", {**about, **found})
    text = table(found, config.score_on)
    write_text(given.work / "report_clip.md", text)
    draw(found, given.work / "report_clip.png")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
