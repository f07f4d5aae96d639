"""The door: identifiers come in, keyed pseudonyms go out, and nothing else passes.

A pseudonym is HMAC-SHA256 under a secret key, cut to 128 bits. Without the key nobody can tell,
or try out, whose it is (a plain hash of a hospital number could be tried out in seconds); with
the key the same patient gets the same pseudonym in every run.
"""

import base64
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from medssl.errors import InputError

_KEY_BYTES = 32
_SHIFT_DAYS = 3650
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Pseudonymizer:
    """Turns identifiers into pseudonyms of 26 letters and digits; the key never shows."""

    _secret: bytes = field(repr=False)

    @classmethod
    def from_key_file(cls, path: Path, *, create: bool = False) -> "Pseudonymizer":
        """Read the key from ``path``, or make a new one there when ``create`` allows it.

        Raises:
            InputError: when there is no key and none may be made, when others than its owner
                may read it, or when its content is not a key.
        """
        path = Path(path)
        if create and not path.exists():
            _create_key(path)
        if not path.is_file():
            raise InputError(
                f"no key file at {path}: pseudonyms cannot be made without one",
                hint="point key_file at your key, or set create_key=true to make a new one",
            )
        if os.name == "posix" and path.stat().st_mode & _OTHERS:
            raise InputError(
                f"the key file {path} can be read by others than its owner",
                hint=f"chmod 600 {path}",
            )
        try:
            secret = bytes.fromhex(path.read_text(encoding="ascii"))
        except ValueError:
            secret = b""
        if len(secret) != _KEY_BYTES:
            raise InputError(
                f"{path} is not a medssl key file (64 hexadecimal digits)",
                hint="point key_file at another path and set create_key=true",
            )
        return cls(secret)

    @classmethod
    def ephemeral(cls) -> "Pseudonymizer":
        """Make one whose key is forgotten with it: to group files, not to name them."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    @property
    def key_id(self) -> str:
        """Names the key without revealing it, so that two keys' pseudonyms never mix."""
        return self._pseudonym("key", "id")

    def patient_key(self, patient_id: str, issuer: str = "") -> str:
        """Return the pseudonym of a patient, by the number of the hospital that issued it."""
        return self._pseudonym("patient", issuer.strip(), patient_id.strip())

    def study_key(self, identifier: str) -> str:
        """Return the pseudonym of a study."""
        return self._pseudonym("study", identifier)

    def series_key(self, identifier: str) -> str:
        """Return the pseudonym of a series."""
        return self._pseudonym("series", identifier)

    def instance_key(self, identifier: str) -> str:
        """Return the pseudonym of one DICOM instance."""
        return self._pseudonym("instance", identifier)

    def frame_key(self, identifier: str) -> str:
        """Return the pseudonym of a coordinate system, or "" where none is named."""
        return self._pseudonym("frame", identifier) if identifier else ""

    def acquisition_key(self, identifier: str) -> str:
        """Return the pseudonym of an acquisition."""
        return self._pseudonym("acquisition", identifier)

    def scanner_key(self, *parts: str) -> str:
        """Return the pseudonym of a scanner, by manufacturer, model and serial number."""
        return self._pseudonym("scanner", *parts)

    def file_key(self, name: str) -> str:
        """Return the pseudonym of a file, by its name within its source."""
        return self._pseudonym("file", name)

    def volume_key(self, *parts: str) -> str:
        """Return the key of the volume that ``parts`` determine."""
        return self._pseudonym("volume", *parts)

    def content_key(self, digest: str) -> str:
        """Return a keyed version of a content digest: equal for equal files, and untraceable."""
        return self._pseudonym("content", digest)

    def uid(self, uid: str) -> str:
        """Return the DICOM UID that stands for ``uid`` wherever it is written or referred to."""
        return f"2.25.{int.from_bytes(self._digest('uid', uid))}"

    def day_shift(self, patient_key: str) -> int:
        """Return by how many days every date of a patient moves: -3650 to -1, never 0."""
        return -1 - int.from_bytes(self._digest("days", patient_key)) % _SHIFT_DAYS

    def _pseudonym(self, kind: str, *parts: str) -> str:
        return base64.b32encode(self._digest(kind, *parts)).decode("ascii").rstrip("=").lower()

    def _digest(self, kind: str, *parts: str) -> bytes:
        # Lengths make ("a", "bc") and ("ab", "c") different messages.
        message = "|".join([kind, *(f"{len(part)}:{part}" for part in parts)])
        encoded = message.encode(errors="surrogateescape")
        return hmac.digest(self._secret, encoded, hashlib.sha256)[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanKeys:
    """Whose scan it is, as pseudonyms."""

    patient: str
    study: str
    series: str
    instance: str
    """The DICOM instance, or the file."""
    frame: str = ""
    """The coordinate system, "" where none is named."""
    patient_known: bool
    """False where nothing names the patient: the study or the file then stands for one."""


def _create_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(_KEY_BYTES) + "\n")


BODY_PARTS = {
    "head": "HEAD BRAIN SKULL FACE ORBIT IAC SINUS SINUSES PITUITARY EAR TEMPORALBONE",
    "neck": "NECK THYROID LARYNX CAROTID",
    "chest": "CHEST THORAX LUNG LUNGS HEART MEDIASTINUM AORTA",
    "breast": "BREAST",
    "abdomen": "ABDOMEN ABD LIVER KIDNEY PANCREAS SPLEEN",
    "pelvis": "PELVIS PROSTATE BLADDER UTERUS HIP RECTUM",
    "spine": "SPINE CSPINE TSPINE LSPINE CSP TSP LSP SSPINE SACRUM CTSPINE TLSPINE LSSPINE",
    "limb": "EXTREMITY ARM LEG KNEE ANKLE FOOT HAND WRIST ELBOW SHOULDER FEMUR TIBIA HUMERUS",
    "whole_body": "WHOLEBODY BODY",
    "chest_abdomen": "CHESTABDOMEN",
    "abdomen_pelvis": "ABDOMENPELVIS",
    "chest_abdomen_pelvis": "CHESTABDPELVIS CHESTABDOMENPELVIS TAP CAP",
    "head_neck": "HEADNECK",
}
"""The vocabulary of ``body_part``: DICOM's defined terms, joined into regions."""

_BODY_PART_OF = {term: part for part, terms in BODY_PARTS.items() for term in terms.split()}

_IMAGE_TYPES = """
ORIGINAL DERIVED PRIMARY SECONDARY AXIAL HELICAL MPR REFORMATTED AVERAGE VOLUME M P R I FFE SE IR
T1 T2 ADC DIFFUSION TRACEW FA PERFUSION NORM DIS2D DIS3D EPI MIXED WATER FAT IN_PHASE OUT_PHASE
"""
_KNOWN_IMAGE_TYPES = frozenset(_IMAGE_TYPES.split())


def body_part(text: str) -> str:
    """Return the region of a DICOM body part, or "" for what the vocabulary does not know.

    The tag is free text in practice, so the text itself never passes.
    """
    return _BODY_PART_OF.get("".join(filter(str.isalnum, text.upper())), "")


def known_body_part(word: str | None) -> str | None:
    """Return a word of a configuration if it is one of ``BODY_PARTS``, or None.

    Raises:
        ValueError: It is neither.
    """
    if word is not None and word not in BODY_PARTS:
        raise ValueError(f"{word!r} is no body part known here; these are: {', '.join(BODY_PARTS)}")
    return word


def image_type(values: tuple[str, ...]) -> str:
    """Return the known words of a DICOM image type, joined by "/"; unknown words are dropped."""
    return "/".join(value.upper() for value in values if value.upper() in _KNOWN_IMAGE_TYPES)
