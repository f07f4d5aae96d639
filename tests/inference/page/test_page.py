"""The page as a person sees it, in a real browser."""

import base64
import csv
import gzip
import json
import re

import nibabel
import numpy as np
import pytest
from PIL import Image

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
PLANES = "axial", "coronal", "sagittal"
LEAST_OVERLAP = 0.92
"""Dice coefficient on the screen; edges are soft, over the width of a voxel."""
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


def lopsided(**changes):
    """Return what no turning and no mirroring leaves alike, on a grid that is turned itself."""
    numbers_IJK = np.zeros((14, 16, 18), np.uint8)
    numbers_IJK[2:8, 2:11, 4:15] = 1
    numbers_IJK[4:11, 4:8, 3:10] = 2
    image_IJK = np.array([200, 500, 900], np.int16)[numbers_IJK]
    image_IJK[10:13, 11:15, 12:16] = 0
    affine_ras = np.array([[0, -1.5, 0, 10], [0, 0, 1, 20], [2, 0, 0, -30], [0, 0, 0, 1]])
    facts = {
        "volume": Volume(array_IJK=image_IJK, affine_ras=affine_ras, modality="MR"),
        "masks": Masks(names=("shell", "kernel"), numbers_IJK=numbers_IJK),
    }
    return predicted(**(facts | changes))


def alone(**changes):
    """Return the same in a scan that is dark elsewhere: nothing hides it in 3D."""
    one = lopsided()
    image_IJK = np.where(one.masks.numbers_IJK > 0, 900, 0).astype(np.int16)
    volume = Volume(array_IJK=image_IJK, affine_ras=one.volume.affine_ras, modality="MR")
    return lopsided(**({"volume": volume} | changes))


def looks(visit, *names):
    """Return what the viewer shows of the three planes, or of what is named."""
    visit.value("document.getElementById('view').scrollIntoView()")
    where = "document.getElementById('view').getBoundingClientRect()"
    left, top, width, height = (
        round(visit.value(f"{where}.{side}")) for side in ("left", "top", "width", "height")
    )
    shown = {}
    for look in names or PLANES:
        visit.value(f"document.querySelector('[data-look=\"{look}\"]').click()")
        shown[look] = visit.picture()[top : top + height, left : left + width].astype(int)
        assert shown[look].shape == (height, width, 3)
    return shown


def switch(visit, *labels):
    for label in labels:
        visit.value(f"document.querySelector('[data-label=\"{label}\"]').click()")


def slide(visit, percent):
    visit.value(f"(e => {{ e.value = {percent}; e.dispatchEvent(new Event('input')) }})(opacity)")


def tint(shown, none):
    """Return by how much pixels became redder than blue."""
    change = shown - none
    return change[..., RED] - change[..., BLUE]


def coloured(shown, none, colour):
    """Return the pixels of a structure of that colour.

    A tint of 75 is usual; at the edge both colour and opacity are half.
    """
    return (tint(shown, none) if colour == RED else -tint(shown, none)) > 20


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def overlaps(one, page, both, none):
    """Return how well the coloured pixels lie where the masks of ``one`` are, plane by plane.

    That is where the slices through the page's first place have them, as radiologists hang them.
    """
    image = nibabel.Nifti1Image(one.masks.numbers_IJK, one.volume.affine_ras)
    image = nibabel.as_closest_canonical(image)
    told = json.loads(re.search(r'id="facts">([^<]*)<', page.read_text()).group(1))
    i, j, k = np.rint(np.linalg.inv(image.affine) @ [*told["place_mm"], 1])[:3].astype(int)
    numbers_IJK = np.asarray(image.dataobj)
    slices = {
        "axial": numbers_IJK[::-1, ::-1, k].T,
        "coronal": numbers_IJK[::-1, j, ::-1].T,
        "sagittal": numbers_IJK[i, :, ::-1].T,
    }
    found = []
    for look, numbers in slices.items():
        grey = (none[look].min(axis=2) > 20) & (np.ptp(none[look], axis=2) < 10)
        rows, columns = (np.flatnonzero(grey.mean(axis=axis) > 0.3) for axis in (1, 0))
        wide, high = np.ptp(columns) + 1, np.ptp(rows) + 1
        large = np.asarray(Image.fromarray(numbers).resize((wide, high), Image.Resampling.NEAREST))
        for colour, number in ((RED, 1), (BLUE, 2)):
            if (numbers == number).any():
                shown = coloured(both[look], none[look], colour)
                shown = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                found.append(dice(shown, large == number))
    return found


def in_3d(folder, one):
    """Return the 3D picture with the masks, and the one without."""
    with Visit(written(folder, one), folder, *SIZE_PX) as visit:
        visit.wait("document.documentElement.dataset.ready")
        both = looks(visit, "3d")["3d"]
        switch(visit, 0, 1)
        return both, looks(visit, "3d")["3d"]


def glow_overlap(both, none):
    """Return how well the pixels that the masks change are those where the scan itself glows."""
    glows = (none.max(axis=2) > 40) & (np.ptp(none, axis=2) < 10)
    return dice(glows, np.abs(both - none).max(axis=2) > 12)


def embedded(page, part):
    """Return the NIfTI that the page holds."""
    text = re.search(rf'id="{part}">([^<]*)<', page.read_text()).group(1)
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


@needs_browser
def test_a_browser_shows_the_masks_where_they_are_and_asks_nobody(tmp_path):
    one = lopsided(warnings=("It looks unlike the scans.",))
    page = written(tmp_path, one)
    with Visit(page, tmp_path, *SIZE_PX) as visit:
        visit.wait("document.documentElement.dataset.ready")
        both = looks(visit)
        switch(visit, 0)
        kernel = looks(visit)
        switch(visit, 1)
        none = looks(visit)
        switch(visit, 0)
        slide(visit, 10)
        faint = looks(visit)
        text = visit.value("document.body.innerText")
        assert visit.errors == []
        assert {url.split(":")[0] for url in visit.requests} == {"file", "data"}
        assert visit.requests.count(page.as_uri()) == 1
    assert min(overlaps(one, page, both, none)) > LEAST_OVERLAP
    for look in PLANES:
        shell = coloured(both[look], none[look], RED)
        inner = coloured(both[look], none[look], BLUE)
        assert not coloured(kernel[look], none[look], RED).any()
        assert not coloured(faint[look], none[look], BLUE).any()
        if inner.any():
            assert dice(coloured(kernel[look], none[look], BLUE), inner) > LEAST_OVERLAP
        strong, weak = (tint(shown[look], none[look])[shell].mean() for shown in (both, faint))
        assert 3 < strong / weak < 7  # opacities of 50 % and of 10 %
    for said in (
        DESCRIPTION.weights_digest,
        "Not for diagnosis",
        "It looks unlike the scans.",
        "kernel",
        "medssl 0.",
    ):
        assert said in text


@needs_browser
def test_masks_glow_in_3d_where_the_scan_does(tmp_path):
    both, none = in_3d(tmp_path, alone())
    assert glow_overlap(both, none) > LEAST_OVERLAP
    assert coloured(both, none, RED).sum() > 20_000
    assert coloured(both, none, BLUE).sum() > 5_000


@pytest.mark.slow  # two browsers for each
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("fault", ["mirrored", "shifted"])
@needs_browser
def test_a_mask_out_of_its_place_would_be_seen(tmp_path, fault, axis):
    one = lopsided()
    numbers_IJK = {
        "mirrored": np.flip(one.masks.numbers_IJK, axis),
        "shifted": np.roll(one.masks.numbers_IJK, 1, axis),
    }[fault]
    masks = Masks(names=("shell", "kernel"), numbers_IJK=np.ascontiguousarray(numbers_IJK))
    page = written(tmp_path, lopsided(masks=masks))
    with Visit(page, tmp_path, *SIZE_PX) as visit:
        visit.wait("document.documentElement.dataset.ready")
        both = looks(visit)
        switch(visit, 0, 1)
        none = looks(visit)
    assert sum(overlap < LEAST_OVERLAP - 0.04 for overlap in overlaps(one, page, both, none)) >= 2
    if fault == "mirrored":  # one voxel is too little to see in 3D
        assert glow_overlap(*in_3d(tmp_path, alone(masks=masks))) < LEAST_OVERLAP - 0.06


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
        assert coloured(visit.picture().astype(int), 0, RED).sum() < 3_000
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
