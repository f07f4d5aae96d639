"""Every loss of images and texts over several processes: the value and gradients of one."""

import sys

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

from medssl.losses.alignment_uniformity import contrastive_gap
from medssl.losses.concept_alignment import NO_CONCEPT, Concepts, concept_alignment
from medssl.losses.gather import gather_uneven
from medssl.losses.image_text import ImageTextLoss
from medssl.losses.local_alignment import Parts, symmetric_local, word_region
from medssl.losses.organ_alignment import OrganFacts, organ_alignment
from medssl.losses.pair_targets import FalseNegativePolicy, negatives, pair_targets
from medssl.losses.report_labels import report_label_loss
from medssl.models.organ_attention import OrganAttention
from medssl.training.launch import joined
from tests.training.processes import together

ROWS, WIDTH, PARTS, ORGANS = 9, 6, 3, 2
GLOBAL = {
    "info_nce": ImageTextLoss(name="info_nce"),
    "multi_positive": ImageTextLoss(smoothing=0.1),
    "siglip": ImageTextLoss(name="siglip"),
    "dcl": ImageTextLoss(name="dcl"),
    "dcl, intra": ImageTextLoss(name="dcl", intra=True),
}
LOSSES = [*GLOBAL, "gap", "symmetric", "word_region", "concepts", "organs", "labels"]


class Towers(nn.Module):
    """Two linear towers on parts, a head for labels, organs, scale and bias."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(WIDTH, 5), nn.Linear(WIDTH, 5)
        self.label, self.organ = nn.Linear(5, 3), OrganAttention(WIDTH, ORGANS, 5, heads=2)
        self.scale, self.bias = (nn.Parameter(torch.tensor(v)) for v in (4.0, -1.0))
        self.double()


def studies():
    """Nine studies; all abnormal organs are in the first rows, all concepts too."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, ROWS, PARTS, WIDTH, generator=generator, dtype=torch.float64)
    row = torch.arange(ROWS)
    normal = (row > 2)[:, None].expand(ROWS, ORGANS).clone()
    code = torch.full((ROWS, PARTS), NO_CONCEPT)
    code[:3] = torch.randint(0, 3, (3, PARTS), generator=generator)
    return {
        "x": x,
        "y": y,
        "study": row // 2 * 2,
        "text": torch.randint(0, 6, (ROWS,), generator=generator),
        "normal": torch.rand(ROWS, generator=generator) > 0.5,
        "there": torch.rand(ROWS, PARTS, generator=generator) > 0.3,
        "organ_text": torch.randint(0, 9, (ROWS, ORGANS), generator=generator),
        "organ_normal": normal,
        "organ_cells": torch.rand(ROWS, ORGANS, PARTS, generator=generator) > 0.4,
        "code": code,
        "label": torch.randint(-1, 2, (ROWS, 3), generator=generator),
    }


def losses_of(towers, own):
    """Return every loss of the whole batch from the rows of one process."""
    places_BPD, parts_BPD = towers.image(own["x"]), towers.text(own["y"])
    image_BD, text_BD = (
        gather_uneven(F.normalize(z.mean(1), dim=1)) for z in (places_BPD, parts_BPD)
    )
    said_BF = gather_uneven(towers.label(places_BPD.mean(1)))
    organ_BOD = gather_uneven(towers.organ(own["x"], own["organ_cells"]))
    organ_text_BOD = gather_uneven(F.normalize(parts_BPD[:, :ORGANS], dim=-1))
    places_BPD, parts_BPD = gather_uneven(places_BPD), gather_uneven(parts_BPD)
    known = {name: gather_uneven(x) for name, x in own.items() if name not in {"x", "y"}}
    targets = pair_targets(FalseNegativePolicy(), known["study"], known["text"], known["normal"])
    places = Parts(places_BPD, known["there"])
    parts = Parts(parts_BPD, known["there"].flip(1))
    facts = OrganFacts(
        torch.arange(len(image_BD)),
        known["organ_text"],
        known["organ_normal"],
        known["organ_cells"].any(2),
    )
    found = {
        name: loss.of(image_BD, text_BD, targets, towers.scale, towers.bias)
        for name, loss in GLOBAL.items()
    }
    concepts = Concepts(parts_BPD, known["code"])
    return {
        **found,
        "gap": sum(contrastive_gap(image_BD, text_BD, negatives(targets)).values()),
        "symmetric": symmetric_local(places, parts, targets, towers.scale),
        "word_region": word_region(places, parts, targets),
        "concepts": concept_alignment(places, concepts, targets, towers.scale, towers.bias),
        "organs": organ_alignment(organ_BOD, organ_text_BOD, facts, towers.scale),
        "labels": report_label_loss(said_BF, known["label"]),
    }


def measured(own):
    """Return value and gradients of every loss, by the losses' names."""
    towers = Towers()
    weights = dict(towers.named_parameters())
    found = {}
    for name, loss in losses_of(towers, own).items():
        slopes = torch.autograd.grad(
            loss, weights.values(), materialize_grads=True, retain_graph=True
        )
        found[name] = {"value": loss.detach(), **dict(zip(weights, slopes, strict=True))}
    return found


def part_of(rank, world, *, even):
    """Return which rows a process holds; unevenly, the last one has few, or none of four."""
    if even:
        count = (ROWS - 1) // world
        return slice(rank * count, (rank + 1) * count)
    most = 3 if world > 2 else 6
    return slice(rank * most, min(ROWS, (rank + 1) * most))


def whole(*, even):
    rows = slice(0, ROWS - 1) if even else slice(0, ROWS)
    return {name: x[rows] for name, x in studies().items()}


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)], ids=["two", "four"])
def test_processes_have_the_value_and_gradients_of_one_for_every_loss(world, tmp_path):
    together(world, __file__, tmp_path)
    for even in (True, False):
        expected = measured(whole(even=even))
        assert list(expected) == LOSSES
        parts = [torch.load(tmp_path / f"{rank}-{even}.pt") for rank in range(world)]
        for name in LOSSES:
            assert expected[name]["value"] > 1e-3 or name == "gap", name
            for part in parts:
                torch.testing.assert_close(
                    part[name].pop("value"), expected[name]["value"], rtol=1e-12, atol=1e-12
                )
            for weight, slope in expected[name].items():
                if weight != "value":
                    averaged = sum(part[name][weight] for part in parts) / world
                    torch.testing.assert_close(
                        averaged, slope, rtol=1e-10, atol=1e-12, msg=f"{name}: {weight}"
                    )


def _part(folder):
    rank, world = dist.get_rank(), dist.get_world_size()
    for even in (True, False):
        rows = part_of(rank, world, even=even)
        own = {name: x[rows] for name, x in studies().items()}
        torch.save(measured(own), f"{folder}/{rank}-{even}.pt")


if __name__ == "__main__":
    with joined(gpu=False):
        _part(sys.argv[1])
