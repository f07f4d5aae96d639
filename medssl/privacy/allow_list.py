"""The DICOM attributes that may leave, and the words that they may say: all else is removed.

The list holds what an image of CT, MR or PET needs to be read, measured and compared: geometry,
pixels, how they were acquired. Attributes of numbers may hold numbers only, attributes of terms
the standard's terms only; free text never passes.
"""

_NUMBERS = """
InstanceNumber SeriesNumber AcquisitionNumber ImagesInAcquisition
ImagePositionPatient ImageOrientationPatient SliceLocation SliceThickness
SpacingBetweenSlices PixelSpacing ImagerPixelSpacing ReconstructionDiameter
ReconstructionTargetCenterPatient ReconstructionPixelSpacing ReconstructionFieldOfView
DataCollectionCenterPatient DistanceSourceToDetector DistanceSourceToPatient
DistanceSourceToDataCollectionCenter GantryDetectorTilt TableHeight TablePosition
TableTraverse
SamplesPerPixel Rows Columns NumberOfFrames BitsAllocated BitsStored HighBit
PixelRepresentation PlanarConfiguration PixelPaddingValue PixelPaddingRangeLimit
SmallestImagePixelValue LargestImagePixelValue WindowCenter WindowWidth RescaleSlope
RescaleIntercept LossyImageCompressionRatio PixelAspectRatio RealWorldValueFirstValueMapped
RealWorldValueLastValueMapped RealWorldValueIntercept RealWorldValueSlope
KVP XRayTubeCurrent XRayTubeCurrentInmA ExposureTime ExposureTimeInms Exposure
ExposureInmAs ExposureInuAs ExposureTimeInuS XRayTubeCurrentInuA FocalSpots GeneratorPower
DataCollectionDiameter SingleCollimationWidth TotalCollimationWidth TableSpeed
TableFeedPerRotation SpiralPitchFactor CTDIvol EstimatedDoseSaving RevolutionTime
ReconstructionAngle CalciumScoringMassFactorDevice WaterEquivalentDiameter
RepetitionTime EchoTime EffectiveEchoTime InversionTime InversionTimes NumberOfAverages
ImagingFrequency TransmitterFrequency EchoNumbers MagneticFieldStrength
NumberOfPhaseEncodingSteps EchoTrainLength PercentSampling PercentPhaseFieldOfView
PixelBandwidth AcquisitionMatrix FlipAngle SAR dBdt TriggerTime NominalInterval
TemporalResolution TemporalPositionIdentifier NumberOfTemporalPositions
TemporalPositionIndex TriggerWindow LowRRValue HighRRValue IntervalsAcquired
IntervalsRejected HeartRate CardiacNumberOfImages GradientEchoTrainLength RFEchoTrainLength
ParallelReductionFactorInPlane ParallelReductionFactorOutOfPlane
ParallelReductionFactorSecondInPlane MRAcquisitionFrequencyEncodingSteps
MRAcquisitionPhaseEncodingStepsInPlane MRAcquisitionPhaseEncodingStepsOutOfPlane
NumberOfKSpaceTrajectories SlabThickness SlabOrientation MidSlabPosition
SpecificAbsorptionRateValue GradientOutput AcquisitionDuration VelocityEncodingDirection
VelocityEncodingMinimumValue VelocityEncodingMaximumValue
NominalCardiacTriggerDelayTime ActualCardiacTriggerDelayTime NominalPercentageOfCardiacPhase
DiffusionBValue DiffusionGradientOrientation DiffusionBValueXX DiffusionBValueXY
DiffusionBValueXZ DiffusionBValueYY DiffusionBValueYZ DiffusionBValueZZ
FrameReferenceTime ActualFrameDuration NumberOfSlices NumberOfTimeSlices NumberOfTimeSlots
NumberOfRRIntervals NumberOfRotations NumberOfEnergyWindows NumberOfDetectors
ImageIndex DecayFactor DoseCalibrationFactor ScatterFractionFactor DeadTimeFactor
SliceSensitivityFactor AxialAcceptance AxialMash TransverseMash DetectorElementSize
CoincidenceWindowWidth EnergyWindowLowerLimit EnergyWindowUpperLimit FieldOfViewDimensions
RadionuclideTotalDose RadionuclideHalfLife RadionuclidePositronFraction
RadiopharmaceuticalVolume RadiopharmaceuticalSpecificActivity PrimaryPromptsCountsAccumulated
SecondaryCountsAccumulated CountsAccumulated TableHeight TimeSliceVector SliceVector
FrameAcquisitionNumber FrameAcquisitionDuration DimensionIndexValues InStackPositionNumber
DimensionIndexPointer FunctionalGroupPointer FrameIncrementPointer
ConcatenationFrameOffsetNumber InConcatenationNumber InConcatenationTotalNumber
ReferencedFrameNumber TubeAngle
"""
NUMBERS = frozenset(_NUMBERS.split())

_TERMS = """
ImageType FrameType Modality PhotometricInterpretation PatientPosition Laterality
ImageLaterality FrameLaterality LossyImageCompression LossyImageCompressionMethod
BurnedInAnnotation RotationDirection ExposureModulationType ScanOptions FilterType
ScanningSequence SequenceVariant MRAcquisitionType AngioFlag InPlanePhaseEncodingDirection
VariableFlipAngleFlag PulseSequenceName BeatRejectionFlag
SeriesType Units CountsSource RandomsCorrectionMethod DecayCorrection CorrectedImage
CollimatorType TypeOfDetectorMotion FieldOfViewShape AttenuationCorrected ScatterCorrected
DecayCorrected DeadTimeCorrected GantryMotionCorrected PatientMotionCorrected
CountLossNormalizationCorrected RandomsCorrected NonUniformRadialSamplingCorrected
SensitivityCalibrated DetectorNormalizationCorrection ReprojectionMethod SUVType
PixelPresentation VolumetricProperties VolumeBasedCalculationTechnique
ComplexImageComponent AcquisitionContrast ContentQualification ResonantNucleus
KSpaceFiltering ApplicableSafetyStandardAgency EchoPulseSequence InversionRecovery
FlowCompensation FlowCompensationDirection MultipleSpinEcho MultiPlanarExcitation
PhaseContrast TimeOfFlightContrast ArterialSpinLabelingContrast SteadyStatePulseSequence
EchoPlanarPulseSequence Spoiling SaturationRecovery SpectrallySelectedExcitation
SpectrallySelectedSuppression SpatialPresaturation Tagging OversamplingPhase T2Preparation
MagnetizationTransfer BloodSignalNulling GeometryOfKSpaceTraversal SegmentedKSpaceTraversal
RectilinearPhaseEncodeReordering CoverageOfKSpace PartialFourier PartialFourierDirection
ParallelAcquisition ParallelAcquisitionTechnique TransmitCoilType ReceiveCoilType
QuadratureReceiveCoil SpecificAbsorptionRateDefinition GradientOutputType
DiffusionDirectionality DiffusionAnisotropyType RespiratoryMotionCompensationTechnique
CardiacSynchronizationTechnique CardiacSignalSource RespiratorySignalSource
CardiacBeatRejectionTechnique BulkMotionCompensationTechnique BulkMotionStatus
AcquisitionType ConstantVolumeFlag FluoroscopyFlag
ReconstructionAlgorithm ImageFilter MultienergyCTAcquisition RescaleType
PresentationLUTShape DimensionOrganizationType SpatialLocationsPreserved
RespiratoryTriggerType OperatingModeType OperatingMode MultiCoilElementUsed
"""
TERMS = frozenset(_TERMS.split())

_DATES = """
StudyDate SeriesDate AcquisitionDate ContentDate StudyTime SeriesTime AcquisitionTime
ContentTime AcquisitionDateTime FrameReferenceDateTime FrameAcquisitionDateTime
StartAcquisitionDateTime EndAcquisitionDateTime RadiopharmaceuticalStartDateTime
RadiopharmaceuticalStopDateTime RadiopharmaceuticalStartTime RadiopharmaceuticalStopTime
DecayCorrectionDateTime DateOfSecondaryCapture TimeOfSecondaryCapture
"""
DATES = frozenset(_DATES.split())

CLASSES = frozenset({"SOPClassUID", "ReferencedSOPClassUID"})
"""UIDs that must be the standard's own."""

_UIDS = """
SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID
ReferencedSOPInstanceUID ReferencedFrameOfReferenceUID DimensionOrganizationUID
AcquisitionUID ConcatenationUID SOPInstanceUIDOfConcatenationSource
SynchronizationFrameOfReferenceUID IrradiationEventUID
"""
UIDS = frozenset(_UIDS.split())
"""UIDs that get new values, the same wherever they stand."""

_SEQUENCES = """
SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PixelMeasuresSequence
PlanePositionSequence PlaneOrientationSequence PixelValueTransformationSequence
FrameVOILUTSequence FrameContentSequence FrameAnatomySequence RealWorldValueMappingSequence
CTImageFrameTypeSequence CTAcquisitionTypeSequence CTAcquisitionDetailsSequence
CTTableDynamicsSequence CTPositionSequence CTGeometrySequence CTReconstructionSequence
CTExposureSequence CTXRayDetailsSequence
MRImageFrameTypeSequence MRTimingAndRelatedParametersSequence
MRFOVGeometrySequence MREchoSequence MRModifierSequence MRImagingModifierSequence
MRReceiveCoilSequence MRTransmitCoilSequence MRDiffusionSequence
DiffusionGradientDirectionSequence DiffusionBMatrixSequence MRAveragesSequence
MRVelocityEncodingSequence MRSpatialSaturationSequence SpecificAbsorptionRateSequence
OperatingModeSequence MultiCoilDefinitionSequence
PETFrameTypeSequence PETFrameAcquisitionSequence PETFrameCorrectionFactorsSequence
PETPositionSequence PETReconstructionSequence PETDetectorMotionDetailsSequence
CardiacSynchronizationSequence RespiratorySynchronizationSequence TemporalPositionSequence
DimensionOrganizationSequence DimensionIndexSequence
RadiopharmaceuticalInformationSequence RadiopharmaceuticalUsageSequence
EnergyWindowRangeSequence EnergyWindowInformationSequence
ReferencedImageSequence SourceImageSequence ReferencedSeriesSequence
ReferencedStudySequence ReferencedInstanceSequence ReferencedImageEvidenceSequence
SourceImageEvidenceSequence ReferencedSOPSequence DerivationImageSequence
ConversionSourceAttributesSequence
UnassignedSharedConvertedAttributesSequence UnassignedPerFrameConvertedAttributesSequence
"""
SEQUENCES = frozenset(_SEQUENCES.split())
"""Sequences whose items are held to the same list."""

_CODES = """
AnatomicRegionSequence AnatomicRegionModifierSequence PrimaryAnatomicStructureSequence
ViewCodeSequence ViewModifierCodeSequence PatientOrientationCodeSequence
PatientOrientationModifierCodeSequence PatientGantryRelationshipCodeSequence
RadionuclideCodeSequence RadiopharmaceuticalCodeSequence
AdministrationRouteCodeSequence PurposeOfReferenceCodeSequence DerivationCodeSequence
MeasurementUnitsCodeSequence ContrastBolusAgentSequence AcquisitionContextSequence
"""
CODES = frozenset(_CODES.split())
"""Sequences of codes, kept where the standard knows the code, with the standard's meaning."""

_EMPTIED = """
PositionReferenceIndicator ContrastBolusAgent Radiopharmaceutical
ReceiveCoilManufacturerName TransmitCoilManufacturerName
"""
EMPTIED = frozenset(_EMPTIED.split())
"""Type 2 attributes: empty where the source has them."""

EMPTIED_ALWAYS = frozenset({"ReferringPhysicianName", "StudyID", "AccessionNumber"})
"""Type 2 attributes of every study."""

DUMMIES = {
    "Manufacturer": "UNKNOWN",
    "ManufacturerModelName": "UNKNOWN",
    "DeviceSerialNumber": "0",
    "SoftwareVersions": "0",
    "ReceiveCoilName": "UNKNOWN",
    "TransmitCoilName": "UNKNOWN",
    "MultiCoilElementName": "UNKNOWN",
    "ConvolutionKernel": "UNKNOWN",
    "LUTLabel": "UNKNOWN",
    "LUTExplanation": "UNKNOWN",
    "StackID": "1",
    "RescaleType": "US",
}
"""What stands in for a text that is required and not a known term."""

MANUFACTURERS = (
    *("SIEMENS", "GE MEDICAL SYSTEMS", "PHILIPS", "TOSHIBA", "CANON", "HITACHI", "FUJIFILM"),
    *("UIH", "NEUSOFT", "SAMSUNG", "MINFOUND", "SHIMADZU", "HYPERFINE", "BRUKER", "CTI", "CPS"),
    *("MARCONI", "PICKER", "ELSCINT", "ESAOTE", "VARIAN", "ELEKTA", "TERARECON", "VITAL"),
)
"""A manufacturer is named by the word of this list that its name holds."""

KERNEL = r"(?:[A-Z][a-z]?\d{2,3}[a-z]{0,2}|FC\d{2}|[A-Z]{1,2}|[12345])"
"""The kernels that are codes, as of Siemens, Toshiba and Philips; words are in WORDS."""

_WORDS = """
YES NO NONE UNKNOWN ORIGINAL DERIVED PRIMARY SECONDARY AXIAL HELICAL SPIRAL SEQUENCED VOLUME
LOCALIZER REFORMATTED AVERAGE RESAMPLED REFERENCE MPR MIP MIXED RECON CSA CSAPARALLEL OTHER
M P R I M_FFE M_SE M_IR FFE SE IR GR EP RM GE PCA FE T1 T2 T2_STAR PD ADC EADC FA TRACEW
TRACE B0 DIFFUSION PERFUSION NORM NORMALIZED DIS2D DIS3D EPI WATER FAT IN_PHASE OUT_PHASE
OPP_PHASE PHASE MAGNITUDE REAL IMAGINARY MOSAIC FMRI ND SH FIL FIL2 FM FFT COMBINED DIXON
W F IP OP MFSPLIT DET SUB TTEST TENSOR ISO DWI ASL SWI MNIP PHASE_MAP FIELD_MAP VELOCITY
T1_MAP T2_MAP T2_STAR_MAP PROTON_DENSITY FLOW_ENCODED FLUID_ATTENUATED STIR TAGGING TOF
DIFFUSION_ANISO MULTIECHO RELCBV RELCBF RELMTT
CT MR PT MONOCHROME1 MONOCHROME2
HFS HFP HFDR HFDL FFS FFP FFDR FFDL LFP LFS RFP RFS AFDR AFDL PFDR PFDL
L B U ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_15444_15
CW CC HELIOS SEQUENTIAL HELICAL_MODE CONSTANT_ANGLE STATIONARY FREE
SK MTC SS TRSS SP MP OSP TOF PER RG CG PPG PFF PFP SFP CARDIAC_GATED FS SAT1 SAT2 ACC_GEMS
PFF_GEMS EDR_GEMS VASCTOF_GEMS FAST_GEMS SEQ_GEMS FILTERED_GEMS TRF_GEMS FC FR RO RESP
2D 3D 2D_3D ROW COL ROW_COLUMN COLUMN PHASE_AND_FREQ
STATIC DYNAMIC GATED WHOLE IMAGE REPROJECTION BODY CNTS NETC BQML GML CM2ML PROPCNTS PROPCPS
CPS 1CM EMISSION TRANSMISSION DLYD SING START ADMIN DECY ATTN SCAT DTIM MOTN PMOT CLN RAN
RADL DCAL NORM RING STEP CONTINUOUS WOBBLE CLAMSHELL CYLINDRICAL HEXAGONAL MULTIPLE_PLANAR
STEP_AND_SHOOT SUM MAX_PIXEL BSA BW LBM LBMJANMA LBMJAMES128 IBW
MONOCHROME COLOR TRUE_COLOR SAMPLED DISTORTED MAX_IP MIN_IP VOLUME_RENDER SURFACE_RENDER
PRODUCT RESEARCH SERVICE 1H 3HE 7LI 13C 19F 23NA 31P 129XE COSINE COSINE_SQUARED FERMI
GAUSSIAN HAMMING HANNING LORENTZIAN LRNTZ_GSS_TRNSFM RIESZ IEC FDA
SPIN GRADIENT BOTH ACCELERATION VELOCITY FREQUENCY SLICE_SELECT SLICE_AND_FREQ SLICE_AND_PHASE
FREE_PRECESSION TRANSVERSE TIME_REVERSED LONGITUDINAL RF RF_AND_GRADIENT
FAT_AND_WATER SILICON_GEL WATER_AND_FAT SLAB TAGGED GRID LINE OFF_RESONANCE ON_RESONANCE
RECTILINEAR RADIAL SINGLE PARTIAL FULL LINEAR CENTRIC SEGMENTED REVERSE_LINEAR
REVERSE_CENTRIC CYLINDRICAL_WEDGE FREQUENCY_AND_PHASE COMBINATION PILS SENSE SMASH GRAPPA
SURFACE HEAD MULTICOIL EXTREMITY IEC_WHOLE_BODY IEC_PARTIAL_BODY IEC_HEAD IEC_LOCAL DB_DT
ELECTRIC_FIELD PER_NERVE_STIM GRADIENT_OUTPUT DIRECTIONAL BMATRIX ISOTROPIC
FRACTIONAL RELATIVE VOLUME_RATIO BREATH_HOLD REALTIME GATING TRACKING PHASE_ORDERING
PHASE_RESCANNING RETROSPECTIVE CORRECTION PROSPECTIVE PACED ECG VCG PP MR_SIGNAL
BELT NASAL_PROBE CO2_SENSOR NAVIGATOR MR_PHASE SPIROMETER RR_INTERVAL QRS_LOOP PVC
FILTER_BACK_PROJ ITER_RECON ITERATIVE STANDARD_HEAD DELTA
HU US OD MGML Z_EFF ED EDW HU_MOD PCT MAGNETIZATION IDENTITY INVERSE
3D_TEMPORAL TILED_FULL TILED_SPARSE REORIENTED_ONLY DEPTH
STANDARD SOFT DETAIL BONE BONEPLUS LUNG EDGE CHEST STND BRAIN SMOOTH SHARP WEDGE FLAT
BODY_FILTER LARGE SMALL MEDIUM NOT_APPLICABLE DOSE_INFO POST PROCESSED ADDITION DIVISION
MASK MEAN CUBE UPRIGHT XYZ_EC Z_EC ANGULAR N Y ELLIPTICAL 00 01 IEC_NORMAL IEC_FIRST_LEVEL
IEC_SECOND_LEVEL HZ EPI_GEMS SMS UNSPECIFIED ADD NORMAL
"""
WORDS = frozenset(_WORDS.split()) | {
    "STATIC FIELD",
    "AXIAL MODE",
    "HELICAL MODE",
    "HEAD FILTER",
    "BODY FILTER",
    "CSA MPR",
}
"""The values that attributes of terms may have: the standard's, and the scanners' own codes."""

CONFORMANCE = {
    "113100": "Basic Application Confidentiality Profile",
    "113102": "Clean Recognizable Visual Features Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
"""Codes of PS3.15 Annex E that say what was done."""

_BY_DESIGN = """
Manufacturer CodeValue CodingSchemeDesignator CodingSchemeVersion MappingResource
MappingResourceName ContextIdentifier ContextUID ImplementationClassUID ImplementationVersionName
SpecificCharacterSet TimezoneOffsetFromUTC DeidentificationMethod PatientSex
TransferSyntaxUID PixelData LongitudinalTemporalInformationModified PatientIdentityRemoved
"""
BY_DESIGN = frozenset(_BY_DESIGN.split()) | NUMBERS
"""Attributes that point to nobody, which an audit need not search for."""
