"""Pages as a person sees them: photographed by a headless Chromium, which fetches nothing."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here (Debian: apt install chromium)"
)


def photograph(page: Path, folder: Path, width_px: int = 1280, height_px: int = 3000) -> np.ndarray:
    """Return (H, W, 3) what the browser shows of ``page``; its profile lies in ``folder``."""
    picture = folder / f"{page.stem}-{width_px}.png"
    arguments = (
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width_px},{height_px}",
        f"--screenshot={picture}",
        page.resolve().as_uri(),
    )
    subprocess.run([CHROMIUM, *FLAGS, *arguments], check=True, capture_output=True, timeout=120)
    return np.asarray(Image.open(picture).convert("RGB"))


def document(page: Path, folder: Path) -> str:
    """Return the HTML of ``page`` after the browser has read it."""
    arguments = (f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.resolve().as_uri())
    done = subprocess.run(
        [CHROMIUM, *FLAGS, *arguments], check=True, capture_output=True, timeout=120, text=True
    )
    return done.stdout


def shows(picture: np.ndarray, colour: str, within: int = 6) -> int:
    """Return how many pixels have about the colour ``#rrggbb``."""
    wanted = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    return int((np.abs(picture.astype(int) - wanted) <= within).all(axis=2).sum())
