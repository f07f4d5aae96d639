"""Pages as a person sees them: photographed by a headless Chromium, which fetches nothing."""

import base64
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import time
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


class Visit:
    """A page under way in a Chromium with WebGL2, driven through its own protocol.

    ``errors`` are what the page complained of, ``requests`` the addresses it asked for.
    """

    def __init__(self, page: Path, folder: Path, width_px: int = 1400, height_px: int = 1000):
        told, self._tell = os.pipe()
        self._listen, said = os.pipe()
        flags = [flag for flag in FLAGS if flag != "--disable-gpu"]
        flags += [
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--ignore-gpu-blocklist",
        ]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={folder / 'visit'}"]
        flags += [f"--window-size={width_px},{height_px}", "about:blank"]  # asks for nothing

        def wire():  # the protocol is spoken over file descriptors 3 and 4
            spare = os.dup(said)
            os.dup2(told, 3)
            os.dup2(spare, 4)

        self._browser = subprocess.Popen(
            [CHROMIUM, *flags], pass_fds=(3, 4, told, said), preexec_fn=wire,  # noqa: PLW1509
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(told)
        os.close(said)
        self._numbers, self._rest = itertools.count(1), b""
        self._session: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []
        (target,) = (
            found["targetId"]
            for found in self._ask("Target.getTargets")["targetInfos"]
            if found["type"] == "page"
        )
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self._ask(f"{domain}.enable")
        self._ask("Page.navigate", url=page.resolve().as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._browser.kill()
        self._browser.wait()
        os.close(self._tell)
        os.close(self._listen)

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until the expression ``condition`` holds in the page."""
        until = time.monotonic() + seconds
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < until, f"never: {condition}; {self.errors}"
            time.sleep(0.1)

    def value(self, expression: str):
        """Return what ``expression`` is in the page."""
        answer = self._ask("Runtime.evaluate", expression=expression, awaitPromise=True)
        return answer["result"].get("value")

    def picture(self) -> np.ndarray:
        """Return (H, W, 3) what is on the screen."""
        drawn = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))"
        self.value(drawn)
        png = base64.b64decode(self._ask("Page.captureScreenshot")["data"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def _ask(self, method: str, **given):
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": given}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._tell, json.dumps(asked).encode() + b"\0")
        while (answer := self._hear()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _hear(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._listen], [], [], 60)
            assert ready, f"the browser is silent; {self.errors}"
            piece = os.read(self._listen, 2**20)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event) -> None:
        about = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(about["exceptionDetails"])[:600])
        if event["method"] == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            self.errors.append(json.dumps(about["args"])[:600])
        if event["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
