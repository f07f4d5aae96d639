"""What a run ran on: versions, commit, hardware; nothing that names a person or a machine."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "medssl",
    "torch",
    "lightning",
    "monai",
    "mlflow",
    "numpy",
    "scipy",
    "nibabel",
    "pydicom",
    "blosc2",
)


def describe() -> dict[str, str]:
    """Return python, platform, package versions, the code's git commit, CPU count and GPU."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": str(len(os.sched_getaffinity(0))),
        "gpu": _gpu(),
        "git_commit": _git_commit(),
    }
    return found | {f"package.{name}": _version(name) for name in _PACKAGES}


def rank() -> int:
    """Return this process's place among those that train together; 0 does all the telling."""
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        value = os.environ.get(variable, "")
        if value.isdecimal():
            return int(value)
    return 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpu() -> str:
    torch = sys.modules.get("torch")  # a stage that has not imported it does not use a GPU
    if torch is None or not torch.cuda.is_available():
        return "none"
    count = torch.cuda.device_count()
    return ", ".join(torch.cuda.get_device_name(index) for index in range(count))


def _git_commit() -> str:
    """Return the commit of the checkout this package is run from, or how it was built."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return os.environ.get("MEDSSL_GIT_COMMIT", "unknown")
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        said = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.strip()
