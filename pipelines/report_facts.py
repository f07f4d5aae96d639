"""Reports made of label maps: does a model of images and texts learn left, right, and not?

    python -m pipelines.report_facts ../shared/data/segmentation --work runs/report_facts

No open set of volumes with reports is at hand, so the reports say what is measured: of each crop
of a volume, which organs are visible, how large they are and their mean HU, and which are not. All
of it is true, so three questions have a known answer: which report belongs to which crop; whether
the report or the same one with left and right exchanged; whether an organ is visible or not.

There are two bodies. One is learned from and asked about in other crops, which tells whether the
facts of a body can be learned at all; the other, of another modality, whether they carry over.
Neither says how it would be with many patients.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from medssl.cli.run import user_errors_explained
from medssl.config.base import Config
from medssl.config.load import load, validate
from medssl.data.entry import StoreEntry
from medssl.data.foreground import background_value, body_threshold
from medssl.data.resample import grid_change
from medssl.data.store import CropStore
from medssl.data.store_writer import write_index, write_stored_volume
from medssl.errors import InputError
from medssl.evaluation.classification_metrics import auroc
from medssl.evaluation.paired.retrieval import ranking_scores
from medssl.evaluation.paired.studies import Embedded, embed_studies
from medssl.evaluation.paired.subject import Subject, load_subject
from medssl.io.geometry import to_closest_ras
from medssl.io.volume import Volume
from medssl.labelled.volumes import read_image_file, read_label_file
from medssl.reports.laterality import mirrored_words
from medssl.reports.pairs import Pair, Section, read_pairs, text_digest, write_pairs
from medssl.reports.sentences import split_sentences
from medssl.runs.environment import describe
from medssl.runs.folder import write_json, write_text
from medssl.training.pretrain import PretrainConfig, pretrain
from pipelines.report_clip import WAYS

SETTINGS: Final = Path(__file__).with_suffix(".yaml")
QUIET: Final = {"tracking": {"enabled": False}}
K: Final = 10
LEAST: Final = 5
"""Crops with an organ, and without it, that an AUROC needs."""
SIDES: Final = {"right": 1.0, "left": -1.0}
"""Which way x grows, in RAS+."""

Tree = dict[str, Any]
Floats = NDArray[np.float64]
Positive = Annotated[int, Field(gt=0)]


class BodyConfig(Config):
    """A volume and its label map, below the data folder."""

    image: Path
    labels: Path
    modality: str


class FactsConfig(Config):
    """What is made, learned and asked; the file beside this script holds the values."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """Of pretraining."""
    learn_from: BodyConfig
    """Crops of it are `train`, and others `val`."""
    ask_about: BodyConfig
    """Crops of it are `test`."""
    crop_voxels: tuple[Positive, Positive, Positive]
    """Size of a crop."""
    crops: dict[str, Positive]
    """Split -> how many."""
    least_ml: Annotated[float, Field(gt=0)]
    """Of an organ in a crop, from which on it is visible."""
    organs: dict[str, tuple[int, int]]
    """Name -> its label in the first map, and in the second."""
    pretrain: Tree
    """Settings of `medssl pretrain`."""


class Body:
    """A volume and where its organs are, on the closest RAS grid."""

    def __init__(self, image: Volume, labels: Volume, organs: Mapping[str, int]) -> None:
        """Check that what a name says of the side is where the organ lies.

        Raises:
            InputError: It is not.
        """
        self.image, self.labels_IJK = to_closest_ras(image), to_closest_ras(labels).array_IJK
        self.organs = dict(organs)
        self.voxel_ml = abs(np.linalg.det(self.image.affine_ras[:3, :3])) / 1000
        there_IJK = np.isin(self.labels_IJK, list(organs.values()))
        middle = np.argwhere(self.labels_IJK > 0).mean(axis=0)[0] if there_IJK.any() else 0.0
        for name, label in organs.items():
            side = SIDES.get(name.split()[0])
            places = np.argwhere(self.labels_IJK == label)
            if side is not None and len(places) and (places.mean(axis=0)[0] - middle) * side <= 0:
                raise InputError(
                    f"the organ called {name} does not lie on that side",
                    hint="the label map has other labels, or is mirrored",
                )

    def facts(self, start_IJK: Sequence[int], size_IJK: Sequence[int], least_ml: float) -> str:
        """Return the report of a box: a sentence per organ."""
        box = tuple(slice(a, a + n) for a, n in zip(start_IJK, size_IJK, strict=True))
        said = list[str]()
        for name, label in self.organs.items():
            inside_IJK = self.labels_IJK[box] == label
            size_ml = inside_IJK.sum() * self.voxel_ml
            if size_ml < least_ml:
                said.append(absent(name))
                continue
            mean = ""
            if self.image.intensity == "hu":
                mean = f" and has a mean of {self.image.array_IJK[box][inside_IJK].mean():.0f} HU"
            said.append(f"{present(name)} It measures {size_ml:.0f} ml{mean}.")
        return "\n\n".join(said)

    def drawn(self, size_IJK: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Return where a box begins, anywhere in the volume."""
        room = np.subtract(self.image.shape, size_IJK).clip(0)
        start_IJK: list[int] = rng.integers(0, room, endpoint=True).tolist()
        return start_IJK

    def store(
        self, store: Path, start_IJK: Sequence[int], size_IJK: Sequence[int], **about: str
    ) -> StoreEntry:
        """Write a box as a volume of its own; return its entry."""
        array_IJK, unit = self.image.array_IJK, self.image.intensity
        p005, p995 = np.percentile(array_IJK, (0.5, 99.5)).tolist()
        affine_ras = self.image.affine_ras @ grid_change((1, 1, 1), start_IJK)
        return write_stored_volume(
            store,
            array_IJK[tuple(slice(a, a + n) for a, n in zip(start_IJK, size_IJK, strict=True))],
            modality=self.image.modality,
            intensity=unit,
            spacing_mm=self.image.spacing_mm,
            affine_ras=affine_ras.tolist(),
            background=background_value(float(array_IJK.min()), unit),
            foreground_above=body_threshold(p005, p995, unit),
            p005=p005,
            p995=p995,
            **about,
        )


def present(organ: str) -> str:
    """Return how a report says that an organ is there."""
    return f"The {organ} is visible."


def absent(organ: str) -> str:
    """Return how a report says that it is not."""
    return f"The {organ} is not visible."


def write_studies(config: FactsConfig, data: Path, store: Path, pairs: Path) -> None:
    """Write crops of both bodies, and what is true of them; the same ones every time."""
    entries, found = list[StoreEntry](), list[Pair]()
    parts = ((config.learn_from, ("train", "val")), (config.ask_about, ("test",)))
    for number, (of, splits) in enumerate(parts):
        image = read_image_file(data / of.image, of.modality)
        organs = {name: both[number] for name, both in config.organs.items()}
        body = Body(image, read_label_file(data / of.labels, image), organs)
        rng = np.random.default_rng(number)
        for split in splits:
            for crop in range(config.crops[split]):
                about = {"patient_key": f"body{number}", "split": split}
                start_IJK = body.drawn(config.crop_voxels, rng)
                key = f"{split}{crop:04}"
                entry = body.store(store, start_IJK, config.crop_voxels, volume_key=key, **about)
                entries.append(entry)
                text = body.facts(start_IJK, config.crop_voxels, config.least_ml)
                found.append(
                    Pair.model_validate(
                        {
                            **about,
                            "study_key": key,
                            "volume_keys": (key,),
                            "sections": (Section(name="findings", text=text),),
                            "labels": {name: int(present(name) in text) for name in organs},
                        }
                    )
                )
    write_index(store, entries, entries[0].spacing_mm)
    write_pairs(pairs, found, list(config.organs))


def ask(subject: Subject, found: Embedded) -> Tree:
    """Return what a model knows of crops: recall, laterality and negation.

    Args:
        subject: The model.
        found: Crops and their reports as its vectors.
    """
    pairs, image_ND, text_ND = found.pairs, found.image_ND, found.text_ND
    texts = [pair.text() for pair in pairs]
    digest_N = np.array([text_digest(text) for text in texts])
    own_NN = digest_N[:, None] == digest_N
    similarity_NN = image_ND @ text_ND.T
    recall = {
        way: float(ranking_scores(of, own_NN, ks=(K,))[f"recall@{K}"].mean())
        for way, of in zip(WAYS, (similarity_NN, similarity_NN.T), strict=True)
    }
    chance = ranking_scores(np.zeros_like(similarity_NN), own_NN, ks=(K,))[f"recall@{K}"].mean()
    other = [mirrored_words(text) for text in texts]
    differs_N = np.array([_says_else(a, b) for a, b in zip(texts, other, strict=True)])
    other_ND = subject.embed_words(other)
    margin_N = np.einsum("nd,nd->n", image_ND, text_ND - other_ND)[differs_N]
    negation = {
        organ: value
        for organ in pairs[0].labels
        if (value := _negation(subject, image_ND, pairs, organ)) is not None
    }
    return {
        "crops": len(pairs),
        "recall": {**recall, "chance": float(chance)},
        "laterality": {"crops": int(differs_N.sum()), "right": float((margin_N > 0).mean())},
        "negation": {"organs": negation, "mean": float(np.mean(list(negation.values())))},
    }


def _says_else(text: str, other: str) -> bool:
    """Return whether two reports say something else, in whatever order."""
    return sorted(split_sentences(text)) != sorted(split_sentences(other))


def _negation(
    subject: Subject, image_ND: Floats, pairs: Sequence[Pair], organ: str
) -> float | None:
    """Return the AUROC of "is visible" over "is not visible"; None where crops are too few."""
    there_N = np.array([pair.labels[organ] == 1 for pair in pairs])
    if min(there_N.sum(), (~there_N).sum()) < LEAST:
        return None
    yes_D, no_D = subject.embed_words([present(organ), absent(organ)])
    return float(auroc(there_N.astype(float), image_ND @ (yes_D - no_D)))


def run(config: FactsConfig, data: Path, work: Path) -> list[Tree]:
    """Run what is missing; returns what every seed's model knows."""
    store, pairs = work / "store", work / "pairs"
    write_studies(config, data, store, pairs)
    found, volumes = list[Tree](), CropStore(store)
    for seed in config.seeds:
        out = work / "models" / f"facts-{seed}"
        tree = {**config.pretrain, **QUIET, "store": store, "seed": seed, "out": out}
        tree["pairs"] = {**config.pretrain.get("pairs", {}), "folder": pairs}
        training = validate(PretrainConfig, tree, where=str(SETTINGS))
        pretrain(training)
        subject = load_subject(out, torch.device("cpu"))
        for split in ("val", "test"):
            asked = read_pairs(pairs).split(split)
            embedded = embed_studies(subject, volumes, asked, work / "vectors")
            found.append({"seed": seed, "split": split, **ask(subject, embedded)})
    return found


def table(found: Sequence[Tree]) -> str:
    """Return the means over seeds as Markdown."""
    columns = (
        "crops of", f"recall@{K}, image to text", "text to image", "chance",
        "own report over that with sides exchanged, chance 0.5",
        "visible or not, mean AUROC, chance 0.5",
    )  # fmt: skip
    lines = [
        "# Facts of label maps: the body that is learned from (val), another one (test)",
        "",
        f"| {' | '.join(columns)} |",
        f"| {' | '.join('---' for _ in columns)} |",
    ]
    for split in ("val", "test"):
        rows = [row for row in found if row["split"] == split]
        recalls = [_mean(row["recall"][name] for row in rows) for name in (*WAYS, "chance")]
        crops = rows[0]["laterality"]["crops"]
        lines.append(
            f"| {split} ({rows[0]['crops']}) | {' | '.join(recalls)} | "
            f"{_mean(row['laterality']['right'] for row in rows)} of {crops} crops | "
            f"{_mean(row['negation']['mean'] for row in rows)} |"
        )
    return "\n".join([*lines, ""])


def _mean(values: Any) -> str:
    return f"{np.mean(list(values)):.3f}"


def main(arguments: Sequence[str]) -> None:
    """Run the study; print its table, write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with the volumes and label maps")
    parser.add_argument("--work", type=Path, default=Path("runs/report_facts"))
    parser.add_argument("--config", type=Path, default=SETTINGS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with user_errors_explained():
        config = load(FactsConfig, given.config, given.set)
        found = run(config, given.data.resolve(), given.work.resolve())
    settings = json.loads(config.model_dump_json())
    write_json(
        given.work / "report_facts.json",
        {"machine": describe(), "settings": settings, "rows": found},
    )
    write_text(given.work / "report_facts.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
