"""Whether an artefact is still what was exported, and by whom: without running anything of it."""

from dataclasses import dataclass
from pathlib import Path

from medssl.export.checksums import Differences, compare, read_checksums
from medssl.export.signature import Signed, check_signature, read_public_key
from medssl.export.structure import look_into

_SAYS = {
    "valid": "signed by the key you gave ({key})",
    "valid, by the key beside it": "signed by {key}; give --public-key to know whose key that is",
    "absent": "not signed",
    "by another key": "signed by another key than the one you gave ({key})",
    "wrong": "the signature is not of this list of files",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found."""

    differences: Differences
    signed: Signed
    signer: str
    """Fingerprint of the key that signed, or ""."""
    strange: tuple[tuple[str, str], ...]
    """Files that are not what they seem, and why."""
    expected_signer: bool
    """Whether a key was given that it should be signed by."""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong: no difference, nothing strange, and signed where asked for."""
        unsigned = self.signed == "absent" and not self.expected_signer
        fine = self.signed in ("valid", "valid, by the key beside it") or unsigned
        return fine and not self.differences and not self.strange

    def lines(self) -> list[str]:
        """Return one line for everything that was found."""
        found = self.differences
        told = [f"{name}: changed since it was exported" for name in found.changed]
        told += [f"{name}: missing" for name in found.missing]
        told += [f"{name}: added since it was exported" for name in found.added]
        told += [f"{name}: {problem}" for name, problem in self.strange]
        same = found.files - len(found.changed) - len(found.missing)
        signature = _SAYS[self.signed].format(key=self.signer)
        return [*told, f"{same} of {found.files} files as they were exported; {signature}"]


def check_artefact(folder: Path, public_key: Path | None = None) -> Check:
    """Compare an artefact with its list of digests, and look at what its files are.

    Args:
        folder: What ``medssl export`` made.
        public_key: Of the one it should be signed by; None: anybody or nobody.

    Raises:
        InputError: There is no list of digests, or the key cannot be read.
    """
    trusted = read_public_key(public_key) if public_key is not None else None
    expected = read_checksums(folder)
    differences = compare(folder, expected)
    signed, signer = check_signature(folder, trusted)
    there = [name for name in expected if name not in differences.missing]
    added = [name for name in differences.added if not (folder / name).is_symlink()]
    return Check(
        differences=differences,
        signed=signed,
        signer=signer,
        strange=tuple(look_into(folder, [*there, *added])),
        expected_signer=public_key is not None,
    )
