import pytest
import torch

from medssl.evaluation.paired.subject import load_subject
from tests.evaluation.paired.bright_studies import write_model, write_studies


@pytest.fixture(scope="session")
def bright(tmp_path_factory):
    """A folder with ``model``, ``store`` and ``pairs``."""
    pytest.importorskip("transformers", reason="texts need the extra `text`")
    folder = tmp_path_factory.mktemp("bright")
    write_model(folder)
    write_studies(folder)
    return folder


@pytest.fixture(scope="session")
def subject(bright):
    return load_subject(bright / "model", torch.device("cpu"))
