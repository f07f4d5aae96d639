"""The wheel builds, installs into a bare environment, and its command answers at once."""

import os
import site
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel of the tracked files, as they are in the work tree."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "medssl").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = source / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {n for n in names if not n.split("/")[0].endswith(".dist-info")}
    kinds = ("*.py", "*.html", "*.yaml", "py.typed", "page/*.js", "page/*.txt")
    package = {p for kind in kinds for p in (ROOT / "medssl").rglob(kind)}
    assert code == {path.relative_to(ROOT).as_posix() for path in package}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_command_answers_in_under_a_second(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (place,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    here = {
        str(Path(path)) for path in [*site.getsitepackages(), *sys.path] if "site-packages" in path
    }
    (place / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")
    python = tmp_path / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
    quiet = ["--quiet", "--no-index", "--disable-pip-version-check", "--ignore-installed"]
    subprocess.run([*install, *quiet, str(wheel)], check=True, timeout=300)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    took_s = []
    for _ in range(4):
        start = time.perf_counter()
        done = subprocess.run(
            [python.with_name("medssl"), "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=environment,
            timeout=60,
        )
        took_s.append(time.perf_counter() - start)
    assert "pretrain" in done.stdout
    assert min(took_s) < 1
    found = [python, "-c", "import medssl; print(medssl.__file__, medssl.__version__)"]
    said = subprocess.run(
        found, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert said.stdout.startswith(str(tmp_path))
