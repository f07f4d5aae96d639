"""Answers about a whole scan as a DICOM structured report (PS3.16 TID 1500) beside its series."""

from collections.abc import Mapping, Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from medssl.io.dicom.derived import MAKER, made_by, series_of, source_headers
from medssl.io.dicom.slices import SliceHeader
from medssl.io.dicom.structure_codes import CodeConfig, own_code
from medssl.io.untrusted import untrusted

_LONGEST = 64
_PROCEDURES = {
    "CT": codes.LN.CTUnspecifiedBodyRegion,
    "MR": codes.LN.MRIUnspecifiedBodyRegion,
    "PT": codes.LN.PETUnspecifiedBodyRegion,
}


def report_object(
    slices: Sequence[SliceHeader],
    answers: Mapping[str, float],
    *,
    modality: str,
    model: str,
    conclusions: Mapping[str, str | bool] | None = None,
    codes_of: Mapping[str, CodeConfig] | None = None,
) -> Dataset:
    """Return what a model says of a scan as a Comprehensive SR: one measurement per answer.

    Probabilities and numbers have no unit: what a number means is in its name. What they come down
    to is a qualitative evaluation each, whose value is a class, or Present or Absent.

    Args:
        slices: What the scan was read from.
        answers: Probability of every class, or every number, by name.
        modality: Of the scan: ``CT``, ``MR``, ``PT``.
        model: Title of the model.
        conclusions: Class by the name of its column, or whether a finding is there, by name.
        codes_of: Codes that the user wants for some names; others have codes of our own scheme.

    Raises:
        RejectedFileError: The headers lack what a report refers to.
    """
    headers = source_headers(slices)
    with untrusted("not_for_dicom"):
        observer = ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=generate_uid(prefix=None),
                name=MAKER,
                manufacturer_name=MAKER,
                model_name=model[:_LONGEST],
            ),
        )
        measurements = [
            Measurement(name=_name(name, codes_of), value=value, unit=codes.UCUM.NoUnits)
            for name, value in answers.items()
        ]
        group = MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(
                uid=generate_uid(prefix=None), identifier=model[:_LONGEST]
            ),
            algorithm_id=AlgorithmIdentification(name=model[:_LONGEST], version=made_by()),
            measurements=measurements,
            qualitative_evaluations=[
                QualitativeEvaluation(name=_name(name, codes_of), value=_value(value, codes_of))
                for name, value in (conclusions or {}).items()
            ],
            source_images=[_source(headers[0])],
        )
        content = MeasurementReport(
            observation_context=ObservationContext(observer_device_context=observer),
            procedure_reported=_PROCEDURES.get(modality, codes.SCT.ImagingProcedure),
            imaging_measurements=[group],
            title=codes.DCM.ImagingMeasurementReport,
        )
        return ComprehensiveSR(
            evidence=headers,
            content=content,
            is_complete=True,
            is_final=False,
            series_description=f"Answers: {model}"[:_LONGEST],
            **series_of(headers),
        )


def _name(name: str, codes_of: Mapping[str, CodeConfig] | None) -> CodedConcept:
    given = (codes_of or {}).get(name)
    return given.concept() if given else own_code(name)


def _value(value: str | bool, codes_of: Mapping[str, CodeConfig] | None) -> CodedConcept:
    if isinstance(value, str):
        return _name(value, codes_of)
    return CodedConcept.from_code(codes.SCT.Present if value else codes.SCT.Absent)


def _source(header: Dataset) -> SourceImageForMeasurementGroup:
    return SourceImageForMeasurementGroup(
        referenced_sop_class_uid=header.SOPClassUID,
        referenced_sop_instance_uid=header.SOPInstanceUID,
    )
