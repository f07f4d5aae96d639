"""Which texts point to nobody, since they turn up in any file: everyday words, short numbers."""

import re

from medssl.io.deidentify import BODY_PARTS
from medssl.privacy.allow_list import WORDS

_EVERYDAY = """
a an and are at be black blue brown by default description dicom field file folder for frank from
grant green grey gray group head image images img in info is key large left light long medical
medium model name native new nifti no none not number of off on or order other page patient
pattern person phantom plain position price red reference report research right rose scan scanner
series short site slice slices small software stage start stone study system systems test tests
text the title to unit unknown unspecified user value values version view volume white with
without yes young
archive archives backup cases catalog config index journal licence license manifest readme table
data dataset datasets dicoms download downloads examples export final
input output patients project projects results samples scans shared source sources studies training
abdomen abdominal adc angio anterior arterial axial biopsy body bold bone brain breast cardiac
cerebral cervical chest clinical contrast coronal cta ctp delayed diffusion dose dwi dynamic echo
emission enhanced epi expiration fast fat flair fov fse gradient heart helical hips inspiration
kernel knee lateral liver localiser localizer lower lumbar lung lungs mip mpr mprage mra mri multi
neck nuclear oblique oral pelvis perfusion pet phase planar portal post posterior pre prone
prostate protocol pulmonary recon reconstruction relaxation resolution routine sag sagittal scout
screening sequence setup shoulder single slab soft space spin spine spiral spoiled standard stir
supine suv swi tesla thick thin thoracic thorax time tirm tissue tomography topogram tra trace
transverse tse turbo upper vascular venous vibe water weighted whole window
quarantine truncated duplicate missing corrupt damaged skipped trouble copy original derived
siemens philips healthineers toshiba canon hitachi general electric ge uih unihealthcare
"""
_WORDS = frozenset(
    word.lower()
    for text in (*_EVERYDAY.split(), *WORDS, *BODY_PARTS, *" ".join(BODY_PARTS.values()).split())
    for word in re.findall("[A-Za-z]+", text)
)
_LEAST_LETTERS = 3
_LEAST_DIGITS, _LEAST_DIGITS_BESIDE_LETTERS = 6, 5


def says_something(text: str) -> bool:
    """Return whether ``text`` would point to somebody where it is found.

    It does with a word of three letters or more that is not an everyday word of radiology, with
    six digits, or with five beside a letter.
    """
    words = re.findall(r"[^\W\d_]+", text.lower())
    digits = sum(map(str.isdigit, text))
    if any(len(word) >= _LEAST_LETTERS and word not in _WORDS for word in words):
        return True
    return digits >= (_LEAST_DIGITS_BESIDE_LETTERS if words else _LEAST_DIGITS)
