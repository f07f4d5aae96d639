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
import json, resource, sys, time, warnings
from pathlib import Path
from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import read_series
from medssl.io.identify import identify
from medssl.io.limits import Limits
from medssl.io.nifti import read_nifti_checked

warnings.simplefilter("ignore")
key, limits, slowest = Pseudonymizer.ephemeral(), Limits(least_slices=1), (0.0, "")
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.monotonic()
    try:
        if identify(path) == "nifti":
            read_nifti_checked(path, "CT", limits)
        else:
            list(read_series(read_headers(path, path.name, key, limits), limits))
    except RejectedFileError:
        pass
    slowest = max(slowest, (time.monotonic() - started, path.name))
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"slowest_s": slowest[0], "slowest": slowest[1], "peak_mib": peak_mib}))
"""

INGEST_ALL = """
import json, resource, sys
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.runs.tracking import TrackingConfig

if __name__ == "__main__":
    source, library, key = sys.argv[1:]
    summary = ingest(IngestConfig(sources=(source,), library=library, key_file=key, create_key=True,
        min_slices=1, tracking=TrackingConfig(enabled=False))).summary
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF,
        resource.RUSAGE_CHILDREN)]
    print(json.dumps(summary | {"peak_mib": max(peaks) / 1024}))
"""


def run(program, *arguments, timeout_s):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(folder, count, seed):
    """Read every file by itself, then ingest them all; return what the ingest said."""
    fuzz.write(folder / "files", count, seed=seed)
    each = run(READ_EACH, folder / "files", timeout_s=count * MOST_SECONDS)
    assert each["slowest_s"] < MOST_SECONDS, each["slowest"]
    assert each["peak_mib"] < MOST_MIB
    said = run(INGEST_ALL, folder / "files", folder / "library", folder / "key", timeout_s=600)
    assert said["peak_mib"] < MOST_MIB
    assert said["converted"] + said["skipped"] + said["quarantined"] == said["files"]
    archived = Counter("archive" in path.name for path in (folder / "files").iterdir())
    assert said["files"] >= archived[False]
    return said | {"slowest_s": each["slowest_s"]}


def test_damaged_files(tmp_path):
    said = check(tmp_path, 260, seed=1)
    assert said["quarantined"] > 50
    assert said["converted"] > 10  # else everything was hurt beyond reading


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_damaged_files(tmp_path, capsys):
    total = Counter()
    for seed in range(10):
        said = check(tmp_path / str(seed), BATCH, seed=100 + seed)
        worst = {name: max(total[name], said[name]) for name in ("peak_mib", "slowest_s")}
        total.update({k: v for k, v in said.items() if k not in worst})
        total.update({name: value - total[name] for name, value in worst.items()})
    with capsys.disabled():
        sys.stdout.write("\n" + json.dumps(total, indent=1) + "\n")
