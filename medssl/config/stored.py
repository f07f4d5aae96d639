"""Components that a file beside weights describes: data from elsewhere, so never more than data."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from medssl.config.choice import Configurable, available, find
from medssl.errors import InputError


def read_component(
    package: str, section: Mapping[str, Any], *, trust_names: bool
) -> Configurable.Config:
    """Return the configuration of the component of ``package`` that ``section`` describes.

    Args:
        package: Where its kind of component lives, such as ``medssl.models.encoders``.
        section: Its options and its ``name``, as read from a file.
        trust_names: Allow a third party's component, whose module is then imported by the name
            the file gives. Set it for your own runs, not for models from elsewhere.

    Raises:
        InputError: There is no such component, it is not to be trusted, or options do not fit.
    """
    options = dict(section)
    name = str(options.pop("name", ""))
    if name not in available(package) and not (trust_names and "." in name):
        raise InputError(
            f"the model is built from {name!r}, which {package} does not have",
            hint="a third party's component is only loaded from a run of your own",
        )
    try:
        return find(package, name).Config.model_validate(options)
    except ValidationError as error:
        raise InputError(
            f"the stored options of {name!r} do not fit this version of medssl",
            hint="export the model again with this version",
        ) from error
