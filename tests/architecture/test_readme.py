"""Every command of README.md runs, as a reader would type it, in one folder, one after the other.

A block that no test can run (it needs data of the reader's own, or a server) is marked by the line
before it, ``<!-- runs: never (REASON) -->``. One that shows a mistake is marked
``<!-- runs: fails -->`` and must end with exit code 1. ``make`` uses the environment of the test.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
OF_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS", "VENV", "TEST_PROCESSES"}
"""What a ``make`` that runs the tests would hand on to the ``make`` in a block."""
BLOCK = re.compile(r"(?:<!-- runs: (?P<how>[^>]*?) -->\n+)?```bash\n(?P<code>.*?)```", re.DOTALL)


def blocks(text):
    """Return [(how, code)] of the bash blocks of a Markdown text."""
    return [(found["how"] or "", found["code"]) for found in BLOCK.finditer(text)]


def parameters():
    found = []
    for number, (how, code) in enumerate(blocks(README.read_text(encoding="utf-8"))):
        if how.startswith("never"):
            continue
        name = f"{number}-{'-'.join(code.split()[:2])}"
        found.append(pytest.param(runnable(code), 1 if how == "fails" else 0, id=name))
    return found


def runnable(code):
    """Return the part of a block that a test can run; what sets up a checkout is there already."""
    set_up = re.compile(r"(git clone|cd|source|pip|apt|sudo)\b")
    return "\n".join(line for line in code.splitlines() if not set_up.match(line))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder that looks like a clone after ``make install``."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "pipelines", "docker", "medssl", "Makefile", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    (folder / "tests").mkdir()
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    tools = folder / ".venv" / "bin"
    tools.mkdir(parents=True)
    shims = {"medssl": "-m medssl.cli.main", "python": "", "python3": ""}
    for name, start in shims.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n')
        (tools / name).chmod(0o755)
    for tool in Path(sys.executable).parent.iterdir():
        if tool.name not in shims:
            (tools / tool.name).symlink_to(tool)
    (folder / ".venv" / ".installed").touch()
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("code", "ends"), parameters())
def test_a_block_runs(code, ends, checkout):
    path = f"{checkout / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    done = subprocess.run(
        ["/bin/bash", "-eu", "-o", "pipefail", "-c", code],
        cwd=checkout,
        env=environment | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == ends, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_a_block_left_out_says_why():
    text = README.read_text(encoding="utf-8")
    odd = [how for how, _ in blocks(text) if how not in {"", "fails"}]
    assert all(re.fullmatch(r"never \(\w.{8,}\)", how) for how in odd), odd


def test_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert not [link for link in links if not (ROOT / link).exists()]
