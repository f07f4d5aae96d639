import pytest

from medssl.errors import ConfigError, InputError
from medssl.export.several import check_any, export_several, formats_named
from tests.export.bundles import config
from tests.export.encoders import write_run

NAMES = ["encoder_folder", "monai_bundle", "swin_ssl"]


def configs(run, out, names=NAMES):
    return [config(out / name, run=run, format={"name": name}) for name in names]


def test_formats_are_named_singly_or_all():
    assert formats_named("voco, encoder_folder,voco") == ["voco", "encoder_folder"]
    everything = formats_named("all")
    assert {"encoder_folder", "monai_bundle", "nnunet", "swin_ssl", "voco"} <= set(everything)
    with pytest.raises(ConfigError, match=r"there is no format vocco\n  hint: formats: .*, or all"):
        formats_named("voco,vocco")
    with pytest.raises(ConfigError, match="there is no format named"):
        formats_named(" ,")


def test_each_has_a_folder_and_a_row_and_is_done_once(tmp_path):
    run = write_run(tmp_path / "run", "segresnet")
    first, second, third = export_several(configs(run, tmp_path / "out"))
    assert (first.result, first.verified) == ("exported", "medssl, load_encoder")
    assert first.folder == tmp_path / "out" / "encoder_folder" / "encoder_folder"
    assert first.files == 6
    assert first.size_bytes == sum(p.stat().st_size for p in first.folder.rglob("*"))
    assert (second.result, second.folder) == ("does not fit", None)
    assert "not a task model" in second.why
    assert (third.result, third.folder) == ("does not fit", None)
    assert not (tmp_path / "out" / "swin_ssl").exists()
    check_any([first, second, third])
    again, *_ = export_several(configs(run, tmp_path / "out"))
    assert (again.result, again.files) == ("already done", 6)


def test_one_that_fails_keeps_none_of_the_others(tmp_path):
    run = write_run(tmp_path / "run", "segresnet")
    export_several(configs(run, tmp_path / "out", ["encoder_folder"]))
    other = write_run(tmp_path / "other", "segresnet", seed=6)
    rows = export_several(configs(other, tmp_path / "out", ["encoder_folder"]))
    assert rows[0].result == "failed"
    assert "made otherwise" in rows[0].why
    with pytest.raises(InputError, match="not exported: encoder_folder"):
        check_any(rows)


def test_a_run_that_fits_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="fits none of these formats"):
        check_any(export_several(configs(tmp_path, tmp_path / "out")))
