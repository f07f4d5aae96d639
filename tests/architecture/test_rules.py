"""The rules that a reviewer should not have to remember, on the text of the source."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "medssl").rglob("*.py"))
SOURCES = [*PACKAGE, *sorted((ROOT / "pipelines").rglob("*.py"))]
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "core", "tools", "stuff"}
MOST_LINES = 350
IDENTIFIER_READERS = {
    "medssl/io/deidentify.py",
    "medssl/io/dicom/acquisition.py",
    "medssl/io/dicom/derived.py",
    "medssl/io/dicom/headers.py",
    "medssl/io/dicom/vocabulary.py",
    "medssl/privacy/header.py",
}
IDENTIFIERS = {"PatientName", "PatientID", "PatientBirthDate", "patient_id", "patient_name"}


def relative(path):
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(path):
    """Yield (dotted name, keywords, line) of every call in the file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: k.value for k in node.keywords}, node.lineno


def offenders(rule, paths):
    """Return {file: what is wrong} of the files in which ``rule`` finds something."""
    return {relative(path): found for path in paths if (found := rule(path))}


def test_modules_are_named_for_what_they_hold():
    assert not offenders(lambda path: path.stem in VAGUE, SOURCES)


def test_modules_are_small():
    def too_long(path):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        return lines if lines > MOST_LINES else None

    assert not offenders(too_long, SOURCES), "two things in one file?"


def test_modules_say_what_they_are():
    assert not offenders(lambda path: ast.get_docstring(tree(path)) is None, PACKAGE)


def _unsafe(name, keywords):
    """Return why a call is not allowed, or an empty string."""
    if name == "torch.load":
        safe = keywords.get("weights_only")
        if not (isinstance(safe, ast.Constant) and safe.value is True):
            return "torch.load without weights_only=True runs what is in the file"
    if name in {"eval", "exec", "compile", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}:
        return "data is never evaluated; yaml.safe_load reads YAML"
    if name.split(".")[0] in {"pickle", "cPickle", "dill", "joblib"} and "load" in name:
        return "unpickling runs what is in the file"
    if name.endswith("load") and getattr(keywords.get("allow_pickle"), "value", False):
        return "unpickling runs what is in the file"
    if getattr(keywords.get("shell"), "value", False) or name in {"os.system", "os.popen"}:
        return "no shell: what is in a name would be run"
    return ""


def unsafe_calls(path):
    """Return a line for every call that could run what a file holds."""
    return [f"line {line}: {why}" for name, k, line in calls(path) if (why := _unsafe(name, k))]


def test_nothing_read_from_a_file_is_ever_run():
    assert not offenders(unsafe_calls, SOURCES)


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        ("torch.load(f)", False),
        ("torch.load(f, weights_only=False)", False),
        ("torch.load(f, weights_only=True)", True),
        ("yaml.load(f, Loader=L)", False),
        ("yaml.safe_load(f)", True),
        ("pickle.loads(b)", False),
        ("np.load(f, allow_pickle=True)", False),
        ("np.load(f)", True),
        ("eval('1')", False),
        ("model.eval()", True),
        ("subprocess.run(c, shell=True)", False),
        ("json.load(f)", True),
    ],
)
def test_the_rule_against_running_data_sees_it(tmp_path, call, allowed):
    (tmp_path / "a.py").write_text(call)
    assert (not unsafe_calls(tmp_path / "a.py")) is allowed


def words(path):
    """Return the names and string constants of the code."""
    found = set()
    for node in ast.walk(tree(path)):
        found |= {getattr(node, kind, None) for kind in ("id", "attr", "arg")}
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def test_identifiers_are_named_only_where_headers_are_read():
    others = [path for path in PACKAGE if relative(path) not in IDENTIFIER_READERS]
    assert not offenders(lambda path: words(path) & IDENTIFIERS, others)


def test_only_the_command_line_exits_prints_or_sets_up_logging():
    edge = {"print", "sys.exit", "exit", "quit", "logging.basicConfig", "input", "breakpoint"}
    others = [path for path in PACKAGE if not relative(path).startswith("medssl/cli/")]
    assert not offenders(lambda path: {name for name, _, _ in calls(path)} & edge, others)


def imported(path):
    """Return the top-level packages that the file imports, wherever it does."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_nothing_but_a_source_opens_a_connection():
    clients = {"requests", "urllib", "http", "socket", "httpx", "aiohttp", "huggingface_hub"}
    clients |= {"pynetdicom"}
    others = [path for path in PACKAGE if not relative(path).startswith("medssl/io/sources/")]
    assert not offenders(lambda path: imported(path) & clients, others)


def test_no_file_names_the_machine_it_was_written_on():
    here = {f"{ROOT}/", f"{Path.home()}/"} - {"//"}
    texts = [*SOURCES, *(ROOT / "configs").rglob("*.yaml"), *(ROOT / "docker").glob("*")]
    assert not offenders(lambda path: [h for h in here if h in path.read_text()], texts)
