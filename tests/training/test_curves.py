"""What is drawn, and where."""

from matplotlib.image import imread

from medssl.training.curves import draw_curves, pretraining_panels

ROWS = [
    {"step": 1, "loss": 3.0, "intra": 2.0, "intra_constant": 1.5, "lr": 0.1},
    {"step": 2, "loss": 2.0, "val/loss": 2.0, "positive_cosine": 0.9, "gradient_norm": 4.0},
    {"step": 2, "speed/crops_per_s": 10.0, "probe/knn": 0.5, "probe/majority_constant": 0.4},
]


def test_numbers_of_one_kind_share_a_panel_and_empty_panels_are_left_out():
    assert pretraining_panels(name for row in ROWS for name in row) == {
        "training": ["intra", "intra_constant", "loss"],
        "unseen volumes": ["val/loss"],
        "probe on labelled volumes": ["probe/knn", "probe/majority_constant"],
        "collapse watch: spread and cosines": ["positive_cosine"],
        "gradient before clipping": ["gradient_norm"],
        "speed: crops per second": ["speed/crops_per_s"],
    }


def test_the_picture_holds_every_panel_and_bounds_are_dashed_in_their_own_colour(
    tmp_path, monkeypatch
):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: drawn.append(self) or save(self, *a, **k)
    )
    panels = pretraining_panels(name for row in ROWS for name in row)
    draw_curves(tmp_path / "curves.png", ROWS, panels)
    assert imread(tmp_path / "curves.png").ndim == 3
    (figure,) = drawn
    titled = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(titled) == list(panels)
    lines = {line.get_label(): line for line in titled["training"].lines}
    assert lines["intra_constant"].get_linestyle() == "--"
    assert lines["intra_constant"].get_color() == lines["intra"].get_color()
    assert lines["loss"].get_color() != lines["intra"].get_color()


def test_one_panel_and_none_of_its_numbers(tmp_path):
    draw_curves(tmp_path / "curves.png", [{"step": 1}], {"validation Dice": ["val/dice"]})
    assert (tmp_path / "curves.png").stat().st_size > 0
