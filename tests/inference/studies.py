"""DICOM studies of several small series."""

from pydicom.uid import generate_uid

from tests import phantoms

SHAPE = (24, 20, 6)


def write_series(folder, study, *, shape=SHAPE, modality="CT", edit=None, **values):
    """Write one series of ``study``; ``values`` are attributes of every slice."""

    def change(ds, k):
        ds.StudyInstanceUID = study
        ds.SliceThickness = 3
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        if edit is not None:
            edit(ds, k)

    affine = phantoms.affine_ras()
    array_IJK = phantoms.phantom(affine, shape)
    return phantoms.write_dicom(folder, array_IJK, affine, modality=modality, edit=change)


def new_study():
    return generate_uid()
