"""Thousands of damaged files: each ends with an outcome, quickly, in little memory."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from tests import fuzz

MOST_SECONDS, MOST_MIB = 10, 1024
BATCH = 1000

READ_EACH = """
import re, sys, time, warnings
from pathlib import Path
from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import read_series
from medssl.io.identify import identify
from medssl.io.limits import Limits
from medssl.io.nifti import read_nifti_checked

warnings.simplefilter("ignore")
key, limits = Pseudonymizer.ephemeral(), Limits(least_slices=1)
for path in sorted(Path(sys.argv[1]).iterdir())[int(sys.argv[2]):]:
    started = time.monotonic()
    try:
        if identify(path) == "nifti":
            read_nifti_checked(path, "CT", limits)
        else:
            list(read_series(read_headers(path, path.name, key, limits), limits))
    except RejectedFileError:
        pass
    peak_mib = int(re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
    print(time.monotonic() - started, peak_mib, flush=True)
"""

INGEST_ALL = """
import json, re, resource, sys
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.runs.tracking import TrackingConfig

if __name__ == "__main__":
    source, library, key = sys.argv[1:]
    summary = ingest(IngestConfig(sources=(source,), library=library, key_file=key, create_key=True,
        min_slices=1, tracking=TrackingConfig(enabled=False))).summary
    own = re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
    peaks = [int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
    print(json.dumps(summary | {"peak_mib": max(peaks) / 1024}))
"""


def start(program, *arguments, timeout_s):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def read_each(folder, count):
    """Return the longest seconds, the highest MiB, and how many files killed their process.

    A decoder that ends the process ends it here as well: ingest has processes of their own for it.
    """
    slowest_s, peak_mib, done, crashes = 0.0, 0.0, 0, 0
    while done < count:
        child = start(READ_EACH, folder, done, timeout_s=count * MOST_SECONDS)
        for line in child.stdout.splitlines():
            seconds, mib = map(float, line.split())
            slowest_s, peak_mib, done = max(slowest_s, seconds), max(peak_mib, mib), done + 1
        assert child.returncode <= 0, child.stderr[-3000:]  # no exception: a signal at the worst
        crashes += child.returncode < 0
        done += child.returncode < 0
    return slowest_s, peak_mib, crashes


def check(folder, count, seed):
    """Read every file by itself, then ingest them all; return what the ingest said."""
    fuzz.write(folder / "files", count, seed=seed)
    slowest_s, peak_mib, crashes = read_each(folder / "files", count)
    assert slowest_s < MOST_SECONDS
    assert peak_mib < MOST_MIB
    child = start(
        INGEST_ALL,
        folder / "files",
        folder / "library",
        folder / "key",
        timeout_s=MOST_SECONDS * 60,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    said = json.loads(child.stdout.splitlines()[-1])
    assert said["peak_mib"] < MOST_MIB
    assert said["converted"] + said["skipped"] + said["quarantined"] == said["files"]
    assert said.get("reason.decoder_crashed", 0) == crashes
    archived = Counter("archive" in path.name for path in (folder / "files").iterdir())
    assert said["files"] >= archived[False]
    return said | {"slowest_s": slowest_s, "peak_mib": max(said["peak_mib"], peak_mib)}


def test_damaged_files(tmp_path):
    said = check(tmp_path, 260, seed=1)
    assert said["quarantined"] > 50
    assert said["converted"] > 10  # else everything was hurt beyond reading


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_damaged_files(tmp_path, capsys):
    total, worst = Counter(), Counter()
    for seed in range(10):
        said = check(tmp_path / str(seed), BATCH, seed=100 + seed)
        worst |= Counter({name: said.pop(name) for name in ("slowest_s", "peak_mib")})
        total.update(said)
    with capsys.disabled():
        sys.stdout.write("\n" + json.dumps(total | worst, indent=1) + "\n")
