import csv
import math

import matplotlib.image

from medssl.runs.compare import compare, draw_curves, unique_labels, write_table
from medssl.runs.record import Record


def run(label="a", **facts):
    return Record(label=label, stage="finetune", **facts)


def by_name(rows, kind):
    return {row.name: row.values for row in rows if row.kind == kind}


def test_settings_that_differ_are_shown_and_those_that_do_not_are_not():
    rows = compare(
        [
            run(settings={"lr": "0.1", "seed": "1", "out": "x", "tracking.uri": "u"}),
            run(settings={"lr": "0.2", "seed": "1", "out": "y", "output": "z"}),
        ]
    )
    assert by_name(rows, "setting") == {"lr": ("0.1", "0.2"), "output": ("-", "z")}


def test_every_final_number_is_shown_in_six_digits():
    rows = compare([run(numbers={"dice": 1 / 3, "n": 1e9}), run(numbers={"dice": math.nan})])
    assert by_name(rows, "number") == {"dice": ("0.333333", "nan"), "n": ("1e+09", "-")}


def test_digests_that_differ_are_shown_by_their_beginning():
    rows = compare([run(digests={"input.a": "1" * 64, "b": "x"}), run(digests={"b": "x"})])
    assert by_name(rows, "digest") == {"input.a": ("1" * 12, "-")}


def test_three_runs_give_three_columns():
    records = [run(settings={"lr": str(n)}) for n in range(3)]
    assert by_name(compare(records), "setting") == {"lr": ("0", "1", "2")}


def test_runs_of_one_name_are_told_apart():
    assert unique_labels([run("a"), run("b"), run("a")]) == ["a (1)", "b", "a (3)"]


def test_the_table_is_csv(tmp_path):
    records = [run("a", settings={"x": "1, 2"}), run("b", settings={"x": "3"})]
    write_table(tmp_path / "t.csv", records, compare(records))
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["kind", "name", "a", "b"],
            ["setting", "x", "1, 2", "3"],
        ]


def test_curves_that_most_runs_have_come_first_and_points_alone_are_no_curve(tmp_path):
    line = [(1, 1.0), (2, 0.5)]
    records = [
        run("a", curves={"own": line, "loss": line, "point": [(1, 1.0)]}),
        run("b", curves={"loss": [(1, math.nan), *line]}),
    ]
    assert draw_curves(tmp_path / "c.png", records) == ["loss", "own"]
    assert matplotlib.image.imread(tmp_path / "c.png").std() > 0


def test_without_a_curve_nothing_is_drawn(tmp_path):
    assert draw_curves(tmp_path / "c.png", [run(curves={"x": [(1, math.nan)] * 3})]) == []
    assert not (tmp_path / "c.png").exists()


def test_at_most_twelve_curves_are_drawn(tmp_path):
    curves = {f"n{number}": [(1, 0.0), (2, 1.0)] for number in range(20)}
    assert len(draw_curves(tmp_path / "c.png", [run(curves=curves)])) == 12
