"""What ``medssl calibrate`` prints: thresholds, and what they are worth beside the present ones."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from medssl.cli.console import near, say
from medssl.config.load import validate
from medssl.curation.calibrate import CalibrateConfig, calibrate
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.edges import NearDuplicateConfig
from medssl.library.slices import FILE as SLICES
from medssl.runs.folder import write_text


def show(library: Path, overrides: Sequence[str], workers: int, out: Path | None) -> None:
    """Calibrate, print the result, and write the thresholds to ``out``.

    Raises:
        InputError: the library has too few pairs to say anything.
    """
    config = validate(CalibrateConfig, {}, where="the command line", overrides=overrides)
    rows, slices, now = CatalogRows.read(library), library / SLICES, NearDuplicateConfig()
    found = calibrate(
        rows, slices if slices.is_file() else None, library, now, config, workers=workers
    )
    thresholds = {
        "copy_ncc": found.copy_ncc,
        "copy_motion_voxels": found.copy_motion_voxels,
        # Within one patient no less may be asked than between strangers.
        "same_patient_ncc": max(found.copy_ncc, now.same_patient_ncc),
    }
    text = yaml.safe_dump({"near_duplicate": thresholds}, sort_keys=False)
    say(
        f"{found.copies} pairs of one acquisition, {found.strangers} of different patients",
        f"  these thresholds find {found.recall:.1%} of the copies, and "
        f"{found.false_positive_rate:.2%} of the strangers pass",
        f"  the present ones find {found.recall_before:.1%}, and "
        f"{found.false_positive_rate_before:.2%} pass",
        "",
        text.rstrip(),
    )
    if out is not None:
        comment = f"# Thresholds of copies, from {found.copies} pairs of one acquisition\n"
        write_text(out, comment + text)
        say("", f"for `medssl curate --config`: {near(out)}")
