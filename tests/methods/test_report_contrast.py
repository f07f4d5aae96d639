import pytest
import torch
from pydantic import ValidationError

from medssl.data.study_views import StudyViews
from medssl.data.views import Batch, Texts
from medssl.losses.pair_targets import PairTargets
from medssl.methods import _experts as experts
from medssl.methods import _organs as organs
from medssl.methods.report_contrast import ReportContrast, retrieval_scores
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.image_text import ImageTextConfig
from tests.text_folders import tiny_text

WORDS = 30


@pytest.fixture
def build(tmp_path):
    text = tiny_text(tmp_path / "text")

    def make(*, train="full", views=1, images=2, mirrored=0.0, **options):
        torch.manual_seed(0)
        config = ReportContrast.Config(
            views=StudyViews(
                crop_voxels=16, images=images, views=views, mirror_probability=mirrored
            ),
            model=ImageTextConfig(text=text.model_copy(update={"train": train}), dim=8),
            **options,
        )
        return config.build(encoder=SegResNetEncoder.Config.tiny().build()).double()

    return make


def batch_of(method, studies=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    views, images = method.views.views, method.views.images
    present = torch.ones(studies, views, images, dtype=torch.bool)
    present[0, :, 1:] = False
    geometry = {"present_BVS": present, "position_mm_BVS": torch.zeros(present.shape)}
    rows = torch.rand(int(present.sum()), 1, 16, 16, 16, generator=rng, dtype=torch.float64)
    tokens = torch.randint(5, WORDS, (studies, 3, 6), generator=rng)
    mask = torch.ones(tokens.shape, dtype=torch.bool)
    mask[1, 2] = False
    mask[:, :, 4:] = False
    numbers = torch.arange(studies * 3).view(studies, 3).where(mask.any(2), -1)
    texts = Texts(
        token_BSL=tokens,
        token_mask_BSL=mask,
        sentence_BS=numbers,
        study_B=torch.arange(studies),
        text_B=torch.arange(studies),
        normal_B=torch.zeros(studies, dtype=torch.int8),
        label_BF=torch.tensor([[1, 0], [0, -2], [-1, 1], [1, 1]][:studies], dtype=torch.int8),
    )
    return Batch([rows], geometry, texts=texts)


EVERYTHING = {
    "local": "mama",
    "local_weight": 0.5,
    "image_weight": 0.3,
    "gap_weight": 0.2,
    "findings": ("effusion", "nodule"),
    "views": 2,
}


def test_the_parts_add_up_and_the_first_is_the_contrast_of_studies(build):
    method = build(**EVERYTHING)
    output = method.loss(batch_of(method), progress=0.0)
    assert set(output.parts) == {"multi_positive", "mama", "images", "gap_terms", "findings"}
    assert torch.isclose(output.total, sum(output.parts.values()))
    assert output.z_ND.shape == (4, 8)


def test_gloria_reads_words(build):
    method = build(local="gloria")
    output = method.loss(batch_of(method), progress=0.0)
    output.total.backward()
    assert output.parts["gloria"].isfinite()
    assert any(weight.grad is not None for weight in method.text.parameters())


@pytest.mark.parametrize("name", ["info_nce", "multi_positive", "siglip", "dcl"])
def test_every_loss_reaches_both_encoders_and_the_scale(build, name):
    method = build(loss={"name": name})
    method.loss(batch_of(method), progress=0.0).total.backward()
    for part in (method.encoder, method.text):
        assert any(w.grad is not None and w.grad.abs().sum() > 0 for w in part.parameters())
    assert method.model.log_scale.grad.abs() > 0


def test_kept_states_of_a_frozen_text_encoder_give_the_same_loss(build):
    method = build(train="frozen", local="mama").eval()
    batch = batch_of(method)
    read = method.loss(batch, progress=0.0).total
    features = method.model.text_features(batch.texts.token_BSL, batch.texts.token_mask_BSL)
    method.keep_text_states(features.sentences_BSE.flatten(0, 1))
    none = batch.texts.token_BSL[..., :0]
    kept = batch._replace(texts=batch.texts._replace(token_BSL=none, token_mask_BSL=none.bool()))
    assert torch.equal(method.loss(kept, progress=0.0).total, read)


def test_images_a_few_at_a_time_are_the_whole_batch(build, monkeypatch):
    whole, few = build(**EVERYTHING), build(**EVERYTHING, images_at_once=3)
    losses, rows = [], []
    features = few.encoder.features
    monkeypatch.setattr(few.encoder, "features", lambda x: rows.append(len(x)) or features(x))
    for method in (whole, few):
        method.eval()
        loss = method.loss(batch_of(method), progress=0.0).total
        loss.backward()
        losses.append(loss)
    assert max(rows) == 3
    assert torch.allclose(*losses, rtol=0, atol=1e-10)
    for (name, one), two in zip(whole.named_parameters(), few.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, two.grad, rtol=0, atol=1e-10), name


def test_a_bag_of_equal_images_is_one_of_them(build):
    method = build(images=2).eval()
    batch = batch_of(method)
    twice = batch.views_BCIJK[0][:1].expand(2, -1, -1, -1, -1)
    present = torch.ones(1, 2, dtype=torch.bool)
    one, bag = (
        method.model.embed_images(*given)
        for given in ((twice[:1], present[:, :1]), (twice, present))
    )
    assert torch.allclose(one, bag)


def test_the_scale_stays_below_its_limit(build):
    method = build()
    method.model.log_scale.data.fill_(9.0)
    method.before_step(progress=0.0)
    assert method.model.scale.item() == pytest.approx(method.config.model.most_scale)


def test_retrieval_in_a_batch_by_hand():
    image_BD = torch.tensor([[1.0, 0], [0, 1]])
    text_BD = torch.tensor([[0.0, 1], [0, 1]])
    alike = PairTargets(torch.tensor([[1.0, 0], [1, 1]]), torch.zeros(2, 2, dtype=torch.bool))
    found = retrieval_scores(image_BD, text_BD, alike)
    assert found["image_to_text"] == 1.0  # the second image's nearest is a positive of it
    assert found["positive_cosine"] == pytest.approx(2 / 3)
    assert found["negative_cosine"] == 0.0


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValidationError, match=r"views\.views to 2"):
        ReportContrast.Config(image_weight=1.0)
    with pytest.raises(ValidationError, match="gloria reads words"):
        ReportContrast.Config(local="gloria")


def test_a_batch_without_reports_is_refused(build):
    method = build()
    with pytest.raises(ValueError, match="needs the reports"):
        method.loss(batch_of(method)._replace(texts=None), progress=0.0)


SAYS = ["Lung nodule.", "No pleural effusion.", "Lung nodule. Pleural effusion.", "Normal."] * 3


def with_concepts(build, said=SAYS, **options):
    method = build(concepts={"weight": 0.5}, **options)
    method.know_sentences(said)
    return method


@pytest.mark.parametrize("train", ["full", "frozen"])
def test_places_answer_to_the_sentences_that_name_findings(build, train):
    method, plain = with_concepts(build, train=train), build(train=train)
    batch = batch_of(method)
    output = method.loss(batch, progress=0.0)
    assert set(output.parts) == {"multi_positive", "concepts"}
    assert torch.equal(
        output.parts["multi_positive"], plain.loss(batch, progress=0.0).parts["multi_positive"]
    )
    output.parts["concepts"].backward()
    for part in (method.encoder, method.model.image_head, method.model.text_head):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
    assert method.concepts.bias.grad.abs() > 0


def test_concepts_of_reports_are_those_of_the_loop_over_sentences(build):
    matching = with_concepts(build).concepts
    names = matching.ontology.names
    number_BS = torch.tensor([[0, 1, 2], [3, -1, -1], [2, 0, -1]])
    z_BSD = torch.randn(3, 3, 8)
    found = matching.concepts(number_BS, z_BSD)
    assert found.code_BK.shape == (3, 3)
    assert (found.code_BK[1] == -1).all()
    for row in (0, 2):
        named = sorted(names[code] for code in found.code_BK[row])
        assert named == ["lung_nodule", "lung_nodule", "pleural_effusion"]
        for code, z_D in zip(found.code_BK[row], found.z_BKD[row], strict=True):
            said = [SAYS[n] for n in number_BS[row].tolist() if n >= 0]
            (place,) = (n for n in range(len(said)) if torch.equal(z_BSD[row, n], z_D))
            assert names[code].replace("_", " ") in said[place].lower()


def test_padding_of_reports_changes_no_concept(build):
    method = with_concepts(build).eval()
    batch = batch_of(method)
    texts = batch.texts
    longer = texts._replace(
        token_BSL=torch.nn.functional.pad(texts.token_BSL, (0, 2, 0, 2)),
        token_mask_BSL=torch.nn.functional.pad(texts.token_mask_BSL, (0, 2, 0, 2)),
        sentence_BS=torch.nn.functional.pad(texts.sentence_BS, (0, 2), value=-1),
    )
    one = method.loss(batch, progress=0.0).parts["concepts"]
    padded = method.loss(batch._replace(texts=longer), progress=0.0).parts["concepts"]
    assert torch.isclose(one, padded)


def test_reports_that_name_no_finding_add_nothing_and_leave_a_gradient_of_zero(build):
    method = with_concepts(build, said=["Normal."] * 12)
    part = method.loss(batch_of(method), progress=0.0).parts["concepts"]
    part.backward()
    assert part == 0
    assert method.concepts.log_scale.grad == 0


def test_concepts_need_the_sentences(build):
    method = build(concepts={})
    with pytest.raises(ValueError, match="call know_sentences first"):
        method.loss(batch_of(method), progress=0.0)


ORGAN_OPTIONS = {
    "organs": {
        "lung": {"labels": [10, 11], "findings": ["lung_nodule", "consolidation"]},
        "pleura": {"labels": [3], "findings": ["pleural_effusion"]},
    },
    "heads": 2,
}


def with_organs(build, said=SAYS, **options):
    method = build(organs=ORGAN_OPTIONS, **options)
    method.know_sentences(said)
    return method


def organ_batch(method, seed=0, **shape):
    """Every image shows both organs; the first study's lung is cut off."""
    batch = batch_of(method, seed=seed, **shape)
    organ_NIJK = torch.zeros(len(batch.views_BCIJK[0]), 16, 16, 16)
    organ_NIJK[:, 2:7, 2:14, 2:14], organ_NIJK[:, 9:14, 9:14, 9:14] = 1, 2
    organ_NIJK[0, 0, 3, 3] = 1
    return batch._replace(geometry={**batch.geometry, "organ_NIJK": organ_NIJK})


@pytest.mark.parametrize(("train", "views"), [("full", 1), ("frozen", 2)])
def test_organs_answer_to_the_sentences_about_them(build, train, views):
    method = with_organs(build, train=train, views=views)
    plain = build(train=train, views=views)
    batch = organ_batch(method)
    output = method.loss(batch, progress=0.0)
    assert set(output.parts) == {"multi_positive", "organs"}
    assert torch.equal(
        output.parts["multi_positive"], plain.loss(batch, progress=0.0).parts["multi_positive"]
    )
    assert output.parts["organs"] > 0
    output.parts["organs"].backward()
    for part in (method.encoder, method.organs, method.model.image_head, method.model.text_head):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())


def test_what_is_known_of_organs_is_what_the_loop_over_sentences_finds(build, monkeypatch):
    method, seen = with_organs(build), {}
    monkeypatch.setattr(
        organs, "organ_alignment", lambda *args: seen.update(args=args) or torch.zeros(())
    )
    batch = organ_batch(method)
    method.loss(batch, progress=0.0)
    image_BOD, text_BOD, facts = seen["args"][:3]
    assert image_BOD.shape == text_BOD.shape == (4, 2, 8)
    names = [("nodule", "consolidation"), ("effusion",)]
    for b, row in enumerate(batch.texts.sentence_BS.tolist()):
        said = [SAYS[n] for n in row if n >= 0]
        for o, words in enumerate(names):
            about = [s for s in said if any(word in s.lower() for word in words)]
            denied = all(s.startswith("No ") for s in about)
            assert facts.present_BO[b, o] == (bool(about) and (b, o) != (0, 0))
            assert facts.normal_BO[b, o] == (bool(about) and denied)
    z_BSD = method.model.text_features(batch.texts.token_BSL, batch.texts.token_mask_BSL)
    own = [0, 2]  # of study 0 the sentences that name a nodule
    expected = method.model.project_texts(
        z_BSD.sentences_BSE[:1, own], torch.ones(1, 2, dtype=torch.bool)
    )
    torch.testing.assert_close(text_BOD[:1, 0], expected)


@pytest.mark.parametrize("maps", ["none", "empty"])
def test_without_maps_organs_add_nothing(build, maps):
    method = with_organs(build)
    batch = organ_batch(method)
    geometry = dict(batch.geometry)
    organ_NIJK = geometry.pop("organ_NIJK")
    if maps == "empty":
        geometry["organ_NIJK"] = torch.zeros_like(organ_NIJK)
    part = method.loss(batch._replace(geometry=geometry), progress=0.0).parts["organs"]
    assert part == 0
    part.backward()
    assert all(not p.grad.any() for p in method.encoder.parameters() if p.grad is not None)


def test_organs_whose_reports_say_the_same_have_the_same_text(build):
    contrast = with_organs(build, said=["Lung nodule.", "No lung nodule.", "Normal."]).organs
    about = contrast.about_UO[:, 0].tolist(), contrast.abnormal_UO[:, 0].tolist()
    assert about == ([True, True, False], [True, False, False])
    again = with_organs(build, said=["Lung nodule.", "No lung nodule.", "Normal."]).organs
    assert torch.equal(contrast.code_U, again.code_U)
    assert len(set(contrast.code_U.tolist())) == 3


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"organs": {"a": {"labels": [1], "findings": ["no_such"]}}}, "no findings of chest_ct"),
        (
            {
                "organs": {
                    "a": {"labels": [1], "findings": ["lung_nodule"]},
                    "b": {"labels": [1], "findings": ["emphysema"]},
                }
            },
            "labels of more than one organ: 1",
        ),
        ({**ORGAN_OPTIONS, "heads": 3}, "no multiple of organs.heads 3"),
    ],
)
def test_organs_that_do_not_fit_are_refused(build, options, problem):
    with pytest.raises(ValidationError, match=problem):
        build(organs=options)


def test_organs_of_one_side_are_not_mirrored(build):
    with pytest.raises(ValidationError, match="organ maps tell left from right"):
        build(organs=ORGAN_OPTIONS, mirrored=0.5)


def test_organs_need_the_sentences(build):
    method = build(organs=ORGAN_OPTIONS)
    with pytest.raises(ValueError, match="call know_sentences first"):
        method.loss(organ_batch(method), progress=0.0)


EXPERTS = {"patch_voxels": 8, "width": 8, "heads": 2}


def looked_at(method, rows=(0, 2), seed=0):
    batch = batch_of(method, seed=seed)
    heat_NIJK = torch.zeros(len(batch.views_BCIJK[0]), 16, 16, 16)
    for row in rows:
        heat_NIJK[row, 4:9, 4:9, 4:9] = 1
    return batch._replace(geometry={**batch.geometry, "heat_NIJK": heat_NIJK})


def test_first_an_expert_image_learns_to_be_an_image(build):
    method = build(experts=EXPERTS)
    batch = looked_at(method)
    part = method.loss(batch, progress=0.05).parts["experts"]
    rows = [0, 2]
    expected = method.experts.mixing.errors(
        batch.views_BCIJK[0][rows], batch.geometry["heat_NIJK"][rows, None].double()
    )
    torch.testing.assert_close(part, 0.3 * expected.mean())


def test_mixtures_answer_to_the_reports_of_their_studies(build, monkeypatch):
    method, plain = build(experts=EXPERTS), build()
    batch = looked_at(method)
    monkeypatch.setattr(method.experts.mixing, "mixed", lambda x, *_: x)
    monkeypatch.setattr(experts, "expert_share", lambda _: 1.0)
    output, expected = method.loss(batch, progress=0.4), plain.loss(batch, progress=0.4)
    # a mixture that is the image itself is the contrast of images once more
    torch.testing.assert_close(output.parts["experts"], expected.parts["multi_positive"])
    monkeypatch.undo()
    monkeypatch.setattr(experts, "expert_share", lambda _: 1.0)
    part = method.loss(batch, progress=0.4).parts["experts"]
    assert not torch.isclose(part, expected.parts["multi_positive"])
    part.backward()
    for module in (method.encoder, method.experts, method.text):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize("progress", [0.05, 0.4])
def test_where_nobody_looked_experts_add_nothing(build, monkeypatch, progress):
    method = build(experts=EXPERTS)
    monkeypatch.setattr(experts, "expert_share", lambda _: 1.0)
    assert method.loss(looked_at(method, rows=()), progress=progress).parts["experts"] == 0
    assert method.loss(batch_of(method), progress=progress).parts["experts"] == 0


def test_experts_are_for_training_only_and_rare_in_the_end(build, monkeypatch):
    method = build(experts=EXPERTS)
    batch = looked_at(method)
    monkeypatch.setattr(experts, "expert_share", lambda _: 0.0)
    assert method.loss(batch, progress=0.9).parts["experts"] == 0
    assert "experts" not in method.eval().loss(batch, progress=0.4).parts


def test_patches_that_do_not_fit_the_image_are_refused(build):
    with pytest.raises(ValidationError, match=r"no multiple of experts\.patch_voxels 12"):
        build(experts={"patch_voxels": 12})
