import pytest

from medssl.config.base import Config
from medssl.config.load import load, validate
from medssl.errors import ConfigError


class Optimizer(Config):
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)


class Whole(Config):
    steps: int
    optimizer: Optimizer = Optimizer()
    stages: tuple[Optimizer, ...] = ()


def write(path, text):
    path.write_text(text)
    return path


def message(*args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def test_a_file_becomes_a_config(tmp_path):
    path = write(tmp_path / "a.yaml", "steps: 3\noptimizer: {lr: 1e-3}\n")
    assert load(Whole, path) == Whole(steps=3, optimizer=Optimizer(lr=0.001))


def test_an_empty_file_is_all_defaults(tmp_path):
    assert load(Optimizer, write(tmp_path / "a.yaml", "# nothing\n")) == Optimizer()


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optimizer.lr=1e-3", lambda c: c.optimizer.lr == 0.001),
        ("optimizer.betas=[0.5, 0.6]", lambda c: c.optimizer.betas == (0.5, 0.6)),
        ("stages.1.lr=7", lambda c: [s.lr for s in c.stages] == [1, 7]),
        ("optimizer={lr: 4}", lambda c: c.optimizer.lr == 4),
    ],
)
def test_an_override_replaces_one_value(tmp_path, override, read):
    path = write(tmp_path / "a.yaml", "steps: 3\nstages: [{lr: 1}, {lr: 2}]\n")
    assert read(load(Whole, path, [override]))


def test_overrides_apply_in_order_and_leave_the_file_as_it_was(tmp_path):
    path = write(tmp_path / "a.yaml", "steps: 3\n")
    assert load(Whole, path, ["steps=4", "steps=5"]).steps == 5
    assert path.read_text() == "steps: 3\n"


def test_validate_does_not_change_the_tree_it_is_given():
    tree = {"steps": 1, "optimizer": {"lr": 1}}
    assert validate(Whole, tree, where="here", overrides=["optimizer.lr=2"]).optimizer.lr == 2
    assert tree == {"steps": 1, "optimizer": {"lr": 1}}


def test_every_mistake_is_listed_at_once_also_those_in_overrides(tmp_path):
    path = write(tmp_path / "a.yaml", "optimizer: {lr: fast, beta: 1}\nstages: [{lr: 1}]\n")
    text = message(Whole, path, ["nonsense", "optimiser.lr=3", "stages.4.lr=1", "steps.a.b=1"])
    assert text.splitlines() == [
        f"{path}: 6 problems",
        "  cannot read the override 'nonsense'; write section.key=value",
        "  stages.4.lr: stages.4 is not a section that can be overridden, found nothing there",
        "  steps: should be a whole number, found {'a': {'b': 1}}",
        "  optimizer.lr: should be a number, found 'fast'",
        "  optimizer.beta: unknown key. Did you mean 'betas'?",
        "  optimiser: unknown key. Did you mean 'optimizer'?",
    ]


def test_an_override_of_a_key_inside_a_value_says_so(tmp_path):
    path = write(tmp_path / "a.yaml", "steps: 3\n")
    assert "steps.a: steps is not a section that can be overridden, found 3" in message(
        Whole, path, ["steps.a=1"]
    )


def test_an_override_that_is_not_yaml_says_so(tmp_path):
    path = write(tmp_path / "a.yaml", "steps: 3\n")
    assert "optimizer.betas: the value '[1,' is not valid YAML" in message(
        Whole, path, ["optimizer.betas=[1,"]
    )


def test_an_item_that_a_list_does_not_have(tmp_path):
    path = write(tmp_path / "a.yaml", "steps: 3\nstages: [{lr: 1}]\n")
    assert "stages.x: there is no item x; the list has 1, counted from 0" in message(
        Whole, path, ["stages.x=1"]
    )


def test_a_missing_file(tmp_path):
    assert message(Whole, tmp_path / "no.yaml").endswith("no.yaml: there is no such file")


def test_a_folder_is_not_a_file(tmp_path):
    assert "cannot be read as text" in message(Whole, tmp_path)


def test_a_syntax_error_says_where(tmp_path):
    path = write(tmp_path / "a.yaml", "steps: 3\noptimizer: {lr: 1\n")
    assert "this is not valid YAML at line 3, column 1" in message(Whole, path)


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "just text", "3: 4"])
def test_what_is_not_a_mapping(tmp_path, text):
    assert "should hold sections and keys" in message(Whole, write(tmp_path / "a.yaml", text))


def test_a_key_given_twice_is_an_error_with_its_line(tmp_path):
    path = write(tmp_path / "a.yaml", "steps: 3\noptimizer:\n  lr: 1\n  lr: 2\n")
    assert "a key is given twice\n  line 4: lr" in message(Whole, path)


def test_yaml_is_data_and_never_code(tmp_path):
    path = write(tmp_path / "a.yaml", "steps: !!python/object/apply:os.getpid []\n")
    assert "not valid YAML" in message(Whole, path)


def test_extends_merges_sections_and_the_own_file_wins(tmp_path):
    (tmp_path / "base").mkdir()
    write(tmp_path / "base" / "b.yaml", "steps: 1\noptimizer: {lr: 5, betas: [0, 1]}\n")
    path = write(tmp_path / "a.yaml", "extends: base/b.yaml\noptimizer: {lr: 6}\n")
    assert load(Whole, path) == Whole(steps=1, optimizer=Optimizer(lr=6, betas=(0, 1)))


def test_extends_has_one_level(tmp_path):
    write(tmp_path / "c.yaml", "extends: d.yaml\nsteps: 1\n")
    path = write(tmp_path / "a.yaml", "extends: c.yaml\n")
    assert "extends c.yaml, which extends d.yaml; one level is allowed" in message(Whole, path)


def test_extends_of_a_missing_file_names_it(tmp_path):
    path = write(tmp_path / "a.yaml", "extends: gone.yaml\n")
    assert "gone.yaml: there is no such file" in message(Whole, path)


def test_extends_of_several_files(tmp_path):
    path = write(tmp_path / "a.yaml", "extends: [b.yaml, c.yaml]\n")
    assert "extends: should be the name of one file" in message(Whole, path)
