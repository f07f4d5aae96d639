"""The page as a person sees it, in a real browser."""

import base64
import csv
import gzip
import itertools
import re

import nibabel
import numpy as np
import pytest

from medssl.errors import InputError
from medssl.inference.outputs.page import Page
from medssl.inference.page import page as page_module
from medssl.inference.predict import PredictConfig, predict
from medssl.inference.predicted import Masks, Predicted
from medssl.io.volume import Volume
from medssl.training.task_model import ModelDescription
from tests.browsers import Visit, needs_browser
from tests.finetuned import affine, finetuned, phantom

RED, BLUE = 0, 2
SIZE_PX = 1000, 760  # small: a volume is drawn without a graphics card
DESCRIPTION = ModelDescription(
    title="Balls",
    task={"name": "segmentation"},
    encoder={"name": "segresnet"},
    network_def=None,
    labels=("background", "shell", "kernel"),
    modality="MR",
    spacing_mm=(1, 1, 1),
    patch_voxels=(16, 16, 16),
    preprocessing=(),
    inferer={},
    postprocessing=(),
    weights_digest="0123456789abcdef" * 4,
)


def predicted(**changes):
    image_IJK, label_IJK = phantom(3)
    facts = {
        "name": "ball",
        "number": 1,
        "volume": Volume(array_IJK=image_IJK, affine_ras=affine(), modality="MR"),
        "masks": Masks(names=("shell", "kernel"), numbers_IJK=label_IJK),
        "description": DESCRIPTION,
        "seconds": 1.0,
    }
    return Predicted(**(facts | changes))


def written(folder, one, **options):
    (path,) = Page.Config(**options).build().write(one, folder)
    return path


def tinted(picture, channel):
    """Return how many pixels are of the overlay's red or blue; those of a scan are grey."""
    inside = picture[:, :600].astype(int)
    other = BLUE if channel == RED else RED
    return int((inside[..., channel] - inside[..., other] > 45).sum())


def embedded(page, part):
    """Return the NIfTI that the page holds."""
    text = re.search(rf'id="{part}">([^<]*)<', page.read_text()).group(1)
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


@pytest.mark.slow  # many pictures of a volume, drawn without a graphics card
@needs_browser
def test_a_browser_shows_scan_and_overlay_and_asks_nobody(tmp_path):
    page = written(tmp_path, predicted(warnings=("It looks unlike the scans.",)))
    with Visit(page, tmp_path, *SIZE_PX) as visit:
        visit.wait("document.documentElement.dataset.ready")
        both = visit.picture()
        visit.value("document.querySelector('[data-label=\"0\"]').click()")
        kernel = visit.picture()
        visit.value("document.querySelector('[data-label=\"1\"]').click()")
        none = visit.picture()
        visit.value("document.querySelector('[data-label=\"0\"]').click()")
        slide = "(e => { e.value = 5; e.dispatchEvent(new Event('input')) })(opacity)"
        visit.value(slide)
        faint = visit.picture()
        looks = {}
        for look in ("axial", "coronal", "sagittal", "3d"):
            visit.value(f"document.querySelector('[data-look=\"{look}\"]').click()")
            looks[look] = visit.picture()
        text = visit.value("document.body.innerText")
        assert visit.errors == []
        assert {url.split(":")[0] for url in visit.requests} == {"file", "data"}
        assert visit.requests.count(page.as_uri()) == 1
    grey = (np.ptp(none[250:600, :600].astype(int), axis=2) < 4) & (none[250:600, :600, 0] > 40)
    assert grey.sum() > 10_000
    assert tinted(both, RED) > 8_000
    assert tinted(both, BLUE) > 1_500
    assert tinted(kernel, RED) < 3_000
    assert tinted(kernel, BLUE) > 1_500
    assert tinted(none, BLUE) < tinted(kernel, BLUE) / 5
    assert tinted(faint, RED) < tinted(both, RED) / 5
    pictures = list(looks.values())
    differ = [(a != b).any(axis=2).sum() for a, b in itertools.pairwise(pictures)]
    assert min(differ) > 5_000
    for said in (
        DESCRIPTION.weights_digest,
        "Not for diagnosis",
        "It looks unlike the scans.",
        "kernel",
        "medssl 0.",
    ):
        assert said in text


@needs_browser
def test_names_are_data(tmp_path):
    evil = "</script><img src=x onerror=document.title='owned'>"
    one = predicted(masks=Masks(names=(evil, "b"), numbers_IJK=phantom(3)[1]), warnings=(evil,))
    page = written(tmp_path, one)
    with Visit(page, tmp_path, *SIZE_PX) as visit:
        visit.wait("document.documentElement.dataset.ready")
        assert "owned" not in visit.value("document.title")
        assert visit.value("document.querySelectorAll('img').length") == 0
        assert evil in visit.value("document.body.innerText")
        assert visit.errors == []


@needs_browser
def test_a_page_reaches_nobody_even_if_it_wanted_to(tmp_path):
    with Visit(written(tmp_path, predicted()), tmp_path, *SIZE_PX) as visit:
        visit.wait("document.documentElement.dataset.ready")
        got = visit.value("fetch('http://127.0.0.1:9/').then(() => 'sent', e => 'refused')")
        assert got == "refused"
        assert any("Content Security Policy" in error for error in visit.errors)


@needs_browser
def test_answers_about_a_whole_volume_have_a_page_too(tmp_path):
    page = written(tmp_path, predicted(masks=None, answers={"yes": 0.75, "no": 0.25}))
    with Visit(page, tmp_path, *SIZE_PX) as visit:
        visit.wait("document.documentElement.dataset.ready")
        assert "0.75" in visit.value("document.body.innerText")
        assert tinted(visit.picture(), RED) < 3_000
        assert visit.errors == []


def test_voxels_and_places_are_those_of_the_scan(tmp_path):
    one = predicted()
    page = written(tmp_path, one)
    scan, mask = embedded(page, "scan"), embedded(page, "mask")
    assert np.array_equal(np.asarray(scan.dataobj), one.volume.array_IJK)
    assert np.array_equal(np.asarray(mask.dataobj), one.masks.painted_IJK)
    assert np.allclose(scan.affine, one.volume.affine_ras)
    assert "coarser" not in page.read_text()


def test_a_large_scan_is_shown_coarser_and_the_page_says_so(tmp_path):
    one = predicted()
    page = written(tmp_path, one, most_mib=0.004)
    scan, mask = embedded(page, "scan"), embedded(page, "mask")
    assert scan.shape == mask.shape
    assert 2 * np.prod(scan.shape) <= 0.004 * 2**20
    assert "Shown coarser than it is:" in page.read_text()
    factors = [-(-n // m) for n, m in zip(one.volume.shape, scan.shape, strict=True)]
    block = one.volume.array_IJK[tuple(slice(f, 2 * f) for f in factors)]
    assert np.asarray(scan.dataobj)[1, 1, 1] == pytest.approx(block.mean(), abs=0.05)
    middle = one.volume.affine_ras @ [*((f - 1) / 2 for f in factors), 1]
    assert np.allclose(scan.affine @ [0, 0, 0, 1], middle, atol=1e-4)
    volumes = one.volumes_ml
    assert f"{volumes['shell']:.2f}" in page.read_text()


def test_fractions_keep_their_value_to_a_step_of_16_bits(tmp_path):
    array = (phantom(3)[0] / 1000).astype(np.float32)
    one = predicted(volume=Volume(array_IJK=array, affine_ras=affine(), modality="MR"))
    scan = embedded(written(tmp_path, one), "scan")
    assert scan.get_data_dtype() == np.int16
    assert np.allclose(scan.get_fdata(), array, atol=np.ptp(array) / 65535)


def test_the_command_writes_a_page_per_volume_without_what_the_input_is_called(tmp_path):
    scan = finetuned().parent / "balls" / "imagesTr" / "ball_0.nii.gz"
    renamed = tmp_path / "WINTERBOTTOM_ADA.nii.gz"
    renamed.write_bytes(scan.read_bytes())
    model = {"model": finetuned() / "pretrained", "inputs": (renamed,), "out": tmp_path / "out"}
    predict(PredictConfig(**model, report=True, tracking={"enabled": False}))
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert "pages/WINTERBOTTOM_ADA.html" in row["files"]
    text = (tmp_path / "out" / "pages" / "WINTERBOTTOM_ADA.html").read_text()
    assert "WINTERBOTTOM" not in re.sub(r'<script type="text/plain".*?</script>', "", text)
    assert str(tmp_path) not in text


def test_another_viewer_than_the_recorded_one_is_refused(tmp_path, monkeypatch):
    folder = page_module.files("medssl.inference.page")
    for name in ("niivue.yaml", "viewer.js", "page.html"):
        (tmp_path / name).write_bytes(folder.joinpath(name).read_bytes())
    (tmp_path / "niivue.umd.js").write_text("alert(1)")
    page_module._viewer.cache_clear()
    monkeypatch.setattr(page_module, "files", lambda _package: tmp_path)
    try:
        with pytest.raises(InputError, match=r"niivue\.umd\.js.* is not the file"):
            written(tmp_path, predicted())
    finally:
        page_module._viewer.cache_clear()
