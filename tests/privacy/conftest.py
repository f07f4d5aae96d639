"""Sources with planted identifiers, and short ways to run the stages on them."""

import pytest

from medssl.privacy.deidentify import DeidentifyConfig, deidentify
from medssl.runs.tracking import TrackingConfig
from tests import canaries


@pytest.fixture
def source(tmp_path):
    """A folder with one planted CT series of the chest."""
    canaries.write(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def clean(tmp_path):
    """Return a function that de-identifies and returns the result and the written files."""

    def run(source, out="out", key="key", **options):
        config = DeidentifyConfig(
            sources=(source,),
            out=tmp_path / out,
            key_file=tmp_path / key,
            create_key=True,
            tracking=TrackingConfig(enabled=False),
            **({"workers": "inline"} | options),
        )
        result = deidentify(config)
        return result, sorted((config.out / "images").rglob("*.dcm"))

    return run
