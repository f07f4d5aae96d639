"""The exclusion rules that apply where a configuration names none.

Each objects to what is worth nothing to any study. Rules of taste stand in ``rules`` as well, and
are switched on by naming them: slice thickness, orientation, uneven gaps, derived images and other
image types, several images of one place, field strength, b-value.
"""

from typing import Final

from medssl.curation.rules.base import Rule
from medssl.curation.rules.burned_in import BurnedIn
from medssl.curation.rules.constant_or_empty import ConstantOrEmpty
from medssl.curation.rules.damaged_volume import DamagedVolume
from medssl.curation.rules.field_of_view import FieldOfView
from medssl.curation.rules.foreground_share import ForegroundShare
from medssl.curation.rules.implausible_hu import ImplausibleHu
from medssl.curation.rules.localizer import Localizer
from medssl.curation.rules.modality import Modality
from medssl.curation.rules.projection import Projection
from medssl.curation.rules.saturation import Saturation
from medssl.curation.rules.secondary_capture import SecondaryCapture
from medssl.curation.rules.slice_count import SliceCount
from medssl.curation.rules.spacing import Spacing
from medssl.curation.rules.stated_spacing import StatedSpacing

RULES: Final = "medssl.curation.rules"

DEFAULT_RULES: Final[tuple[Rule.Config, ...]] = (
    DamagedVolume.Config(),
    Modality.Config(),
    Localizer.Config(),
    SecondaryCapture.Config(),
    BurnedIn.Config(),
    Projection.Config(),
    SliceCount.Config(),
    FieldOfView.Config(),
    Spacing.Config(),
    StatedSpacing.Config(),
    ConstantOrEmpty.Config(),
    ForegroundShare.Config(),
    Saturation.Config(),
    ImplausibleHu.Config(),
)
"""Applied in this order: what cannot be judged first, then what kind it is, how it lies, and what
it shows."""
