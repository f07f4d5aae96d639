"""Organs: cells from label maps, the loss organ by organ and row by row, which organs count."""

import pytest
import torch
from torch.nn import functional as F

from medssl.losses.image_text import multi_positive
from medssl.losses.organ_alignment import OrganFacts, organ_alignment, organ_cells
from medssl.losses.pair_targets import FalseNegativePolicy, pair_targets

SCALE = 5.0


def embeddings(rows=5, organs=3, dim=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, organs, dim, generator=generator, dtype=torch.float64)
    return F.normalize(z, dim=-1).requires_grad_()


def facts():
    """Organ 0 counts; organ 1 is normal everywhere it is present; nobody has organ 2."""
    text = torch.tensor([[0, 0, 0], [1, 1, 1], [0, 2, 2], [3, 3, 3], [4, 4, 4]])
    normal = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]]).bool()
    present = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]]).bool()
    return OrganFacts(torch.arange(5), text, normal, present)


def slow(image, text, known, scale):
    """One organ, one direction, one row after the other."""
    losses = []
    for o in range(image.shape[1]):
        rows = known.present_BO[:, o].nonzero()[:, 0].tolist()
        normal, words = known.normal_BO[:, o], known.text_BO[:, o]

        def alike(i, j, normal=normal, words=words):
            return i == j or bool(words[i] == words[j]) or bool(normal[i] & normal[j])

        anything_wrong = any(not normal[i] for i in rows)
        if not anything_wrong or all(alike(i, j) for i in rows for j in rows):
            continue
        total = 0.0
        for a, b in ((image, text), (text, image)):
            for i in rows:
                logits = {j: scale * a[i, o] @ b[j, o] for j in rows}
                bottom = sum(value.exp() for value in logits.values())
                positives = [j for j in rows if alike(i, j)]
                terms = [(logits[j].exp() / bottom).log() for j in positives]
                total = total - sum(terms) / len(positives)
        losses.append(total / (2 * len(rows)))
    return sum(losses) / len(losses)


def test_value_and_gradients_are_those_of_the_loop_over_organs():
    image, text = embeddings(), embeddings(seed=1)
    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)
    leaves = [image, text, scale]
    fast, expected = (f(image, text, facts(), scale) for f in (organ_alignment, slow))
    torch.testing.assert_close(fast, expected)
    for got, wanted in zip(
        torch.autograd.grad(fast, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_gradients():
    def loss(image, text, scale):
        return organ_alignment(image, text, facts(), scale)

    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (embeddings(), embeddings(seed=1), scale))


def test_one_organ_that_all_have_is_the_loss_of_whole_images():
    known, policy = facts(), FalseNegativePolicy()
    image, text = embeddings(organs=1), embeddings(organs=1, seed=1)
    first = OrganFacts(
        known.study_B, known.text_BO[:, :1], known.normal_BO[:, :1], torch.ones(5, 1).bool()
    )
    whole = pair_targets(policy, known.study_B, known.text_BO[:, 0], known.normal_BO[:, 0])
    torch.testing.assert_close(
        organ_alignment(image, text, first, SCALE, policy),
        multi_positive(SCALE * image[:, 0] @ text[:, 0].T, whole),
    )


@pytest.mark.parametrize("what", ["nothing abnormal", "all say the same", "nobody has it"])
def test_an_organ_with_nothing_to_tell_apart_does_not_count_but_stays_in_the_graph(what):
    known = facts()
    if what == "nothing abnormal":
        known = known._replace(normal_BO=torch.ones(5, 3).bool())
    if what == "all say the same":
        known = known._replace(text_BO=torch.zeros(5, 3, dtype=torch.long))
    if what == "nobody has it":
        known = known._replace(present_BO=torch.zeros(5, 3).bool())
    image, text = embeddings(), embeddings(seed=1)
    loss = organ_alignment(image, text, known, SCALE)
    assert loss == 0
    assert all((grad == 0).all() for grad in torch.autograd.grad(loss, (image, text)))


def test_what_an_absent_organ_holds_does_not_matter():
    image, text = embeddings().detach(), embeddings(seed=1).detach()
    other = image.clone()
    other[~facts().present_BO] = 7.0
    torch.testing.assert_close(
        organ_alignment(other, text, facts(), SCALE), organ_alignment(image, text, facts(), SCALE)
    )


def test_the_order_of_studies_and_organs_does_not_matter():
    image, text, known = embeddings(), embeddings(seed=1), facts()
    rows, organs = torch.tensor([3, 1, 4, 0, 2]), torch.tensor([2, 0, 1])
    moved = OrganFacts(known.study_B[rows], *(part[rows][:, organs] for part in known[1:]))
    torch.testing.assert_close(
        organ_alignment(image[rows][:, organs], text[rows][:, organs], moved, SCALE),
        organ_alignment(image, text, known, SCALE),
    )


def test_cells_of_organs_by_looking_at_every_voxel():
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, 8, 6, 4, dtype=torch.long)
    labels[:, 1:-1, 1:-1, 1:-1] = torch.randint(0, 3, (2, 6, 4, 2), generator=generator)
    found = organ_cells(labels, [1, 2, 9], (4, 3, 2)).view(2, 3, 4, 3, 2)
    for n, organ in enumerate((1, 2, 9)):
        for b in range(2):
            for i in range(4):
                for j in range(3):
                    for k in range(2):
                        box = labels[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
                        assert bool(found[b, n, i, j, k]) is bool((box == organ).any())


@pytest.mark.parametrize(
    "place", [(0, 3, 3), (7, 3, 3), (3, 0, 3), (3, 7, 3), (3, 3, 0), (3, 3, 7)]
)
def test_an_organ_at_the_border_has_no_cells(place):
    labels = torch.zeros(2, 8, 8, 8, dtype=torch.long)
    labels[:, 3:5, 3:5, 3:5] = 1
    labels[0][place] = 1
    cells = organ_cells(labels, [1], (2, 2, 2))
    assert not cells[0].any()
    assert cells[1].all()


def test_a_slice_has_no_border_along_its_single_voxel():
    labels = torch.zeros(1, 8, 8, 1, dtype=torch.long)
    labels[0, 3:5, 3:5] = 1
    assert organ_cells(labels, [1], (2, 2, 1)).all()
