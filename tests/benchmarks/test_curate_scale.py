import json

from medssl.curation.catalog_rows import CatalogRows
from pipelines.benchmarks import curate_scale


def test_it_prints_what_a_release_and_a_new_day_cost(tmp_path, capsys):
    out = tmp_path / "numbers.json"
    code = curate_scale.main(["--rows", "300", "--newcomers", "20", "--out", str(out)])
    assert code == 0
    assert "at most 4000 MB: yes" in capsys.readouterr().out
    first, second = json.loads(out.read_text())["readings"]
    assert first["rows"] == second["rows"] == 300
    assert first["s"] > first["draw_splits"] > 0


def test_the_first_rows_do_not_depend_on_how_many_there_are(tmp_path):
    for count in (50, 60):
        curate_scale.write_catalog(tmp_path / str(count), count)
    few, many = (CatalogRows.read(tmp_path / str(count)) for count in (50, 60))
    for key in few.keys:
        assert dict(few.row(key)) == dict(many.row(key))
