"""All scores of one encoder's embeddings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medssl.evaluation.frozen import few_shot
from medssl.evaluation.frozen.answers import answers
from medssl.evaluation.frozen.embed import Rows, column
from medssl.evaluation.frozen.linear import linear_probe
from medssl.evaluation.frozen.neighbours import cosines, knn_shares, shared
from medssl.evaluation.frozen.options import (
    FewShotOptions,
    KnnOptions,
    LinearOptions,
    RetrievalOptions,
    ScoreOptions,
)
from medssl.evaluation.frozen.results import OfSet, PerCase, PerDraw, Result
from medssl.evaluation.frozen.retrieval import alike, retrieval_scores
from medssl.evaluation.frozen.spectrum import participation_ratio
from medssl.evaluation.frozen.targets import Targets
from medssl.losses.alignment_uniformity import uniformity
from medssl.training.collapse import effective_rank

Named = Iterator[tuple[str, Result]]
SQUARED_DISTANCE, UNIFORMITY = (0.0, 4.0), (-8.0, 0.0)
"""What these can be, of unit vectors."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What the embeddings are asked, the same of every encoder."""

    targets: Targets
    patients: tuple[str, ...]
    copies: tuple[str, ...]
    """Which near duplicates each case belongs to; "" for none."""
    parts: Mapping[str, NDArray[np.int64]]
    """Rows of `train`, `val` and `test`."""
    seed: int

    def answers_of(self, part: str) -> Tensor:
        """Return the answers of a part's rows, ``(L, C)``."""
        return torch.from_numpy(self.targets.take(self.parts[part]).y_NC)

    def patients_of(self, part: str) -> tuple[str, ...]:
        """Return whose the rows of a part are."""
        return tuple(self.patients[n] for n in self.parts[part])

    def hidden(self, asking: NDArray[np.int64], shown: NDArray[np.int64]) -> Tensor:
        """Return ``(M, L)`` what is of one patient, or a copy."""
        groups = [
            ([names[n] for n in asking], [names[n] for n in shown])
            for names in (self.patients, self.copies)
        ]
        return shared(*groups[0]) | shared(*groups[1])


def measure(rows: Rows, questions: Questions, options: ScoreOptions) -> dict[str, Result]:
    """Return every score that is asked for, by name.

    Args:
        rows: One a case, as ``embed.write_rows`` writes them.
        questions: In the order of the rows.
        options: Which scores.
    """
    z_ND, found = column(rows, "embedding"), dict[str, Result]()
    if options.knn:
        found |= _knn(z_ND, questions, options.knn)
    if options.linear:
        found |= _linear(z_ND, questions, options.linear)
    if options.few_shot and questions.targets.exclusive:
        found |= _few_shot(z_ND, questions, options.few_shot)
    if options.retrieval:
        found |= _retrieval(z_ND, questions, options.retrieval)
    if options.views:
        found |= _views(rows, questions.patients)
    if options.rank:
        found |= _rank(z_ND, questions.patients)
    return found


def _knn(z_ND: Tensor, questions: Questions, options: KnnOptions) -> Named:
    test, train = questions.parts["test"], questions.parts["train"]
    cosine_ML = cosines(z_ND[test], z_ND[train])
    hidden_ML, y_LC = questions.hidden(test, train), questions.answers_of("train")
    for k in (k for k in options.k if k <= len(train)):
        shares_MC = knn_shares(cosine_ML, y_LC, hidden_ML, k=k, temperature=options.temperature)
        for name, result in _answered(shares_MC, questions):
            yield f"knn_{name}@{k}", result


def _linear(z_ND: Tensor, questions: Questions, options: LinearOptions) -> Named:
    learn, choose = ((z_ND[questions.parts[part]], questions.answers_of(part))
                     for part in ("train", "val"))  # fmt: skip
    probe = linear_probe(
        learn,
        choose,
        z_ND[questions.parts["test"]],
        torch.tensor(options.l2, dtype=torch.float64),
        exclusive=questions.targets.exclusive,
    )
    for name, result in _answered(probe.shares_MC, questions):
        yield f"linear_{name}", result
    yield "linear_l2", OfSet(probe.l2, len(set(questions.patients_of("val"))))


def _answered(shares_MC: NDArray[np.float64], questions: Questions) -> Named:
    return answers(
        shares_MC, questions.targets.take(questions.parts["test"]), questions.patients_of("test")
    )


def _few_shot(z_ND: Tensor, questions: Questions, options: FewShotOptions) -> Named:
    train, test = questions.parts["train"], questions.parts["test"]
    classes = len(questions.targets.names)
    labels_L, labels_M = (questions.targets.take(rows).labels() for rows in (train, test))
    for shots in options.shots:
        rng = np.random.default_rng([questions.seed, shots])
        drawn_RS = few_shot.draw_shots(
            labels_L, questions.patients_of("train"), shots, classes, options.draws, rng
        )
        if drawn_RS is None:
            continue
        z_RSD = z_ND[train][torch.from_numpy(drawn_RS)]
        guesses = {
            "mean": few_shot.nearest_mean(z_RSD, z_ND[test], classes),
            "logistic": few_shot.logistic(z_RSD, z_ND[test], classes, options.l2),
        }
        for name, guess_RM in guesses.items():
            yield (
                f"few_shot_{name}@{shots}",
                PerDraw(
                    (guess_RM == labels_M).astype(np.float64),
                    tuple(labels_M.tolist()),
                    questions.patients_of("test"),
                ),
            )


def _retrieval(z_ND: Tensor, questions: Questions, options: RetrievalOptions) -> Named:
    patients, y_NC = questions.patients, torch.from_numpy(questions.targets.y_NC)
    same_NN, copies_NN = shared(patients, patients), shared(questions.copies, questions.copies)
    itself_NN = torch.eye(len(patients), dtype=torch.bool)
    wanted_NN, hidden_NN = (
        (same_NN, copies_NN | itself_NN)
        if options.same_patient == "target"
        else (alike(y_NC, y_NC), same_NN | copies_NN | itself_NN)
    )
    scores = retrieval_scores(cosines(z_ND, z_ND), wanted_NN, hidden_NN, options.k)
    for name, values_N in scores.items():
        yield f"retrieval_{name}", PerCase(values_N.numpy(), patients)


def _views(rows: Rows, patients: tuple[str, ...]) -> Named:
    first_ND, second_ND = (F.normalize(column(rows, f"view_{n}"), dim=1) for n in (0, 1))
    apart_N = ((first_ND - second_ND) ** 2).sum(1).numpy()
    yield "alignment", PerCase(apart_N, patients, SQUARED_DISTANCE)
    yield "uniformity_of_crops", OfSet(float(uniformity(first_ND)), len(set(patients)))
    for name in sorted(rows[0]):
        if name.startswith("dense_"):
            bounds = SQUARED_DISTANCE if "alignment" in name else UNIFORMITY
            yield name, PerCase(column(rows, name).numpy(), patients, bounds)


def _rank(z_ND: Tensor, patients: tuple[str, ...]) -> Named:
    values = {
        "uniformity": float(uniformity(z_ND)),
        "effective_rank": effective_rank(z_ND),
        "participation_ratio": participation_ratio(z_ND),
    }
    for name, value in values.items():
        yield name, OfSet(value, len(set(patients)))
