"""What a DICOM file says about itself, as plain data."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Frame:
    """One plane of a file; what its header does not say is None. Positions are DICOM's, to the left, back and head."""

    path: Path
    index: int
    position: tuple[float, ...] | None  # of the first pixel
    orientation: tuple[float, ...] | None  # along a row, then along a column
    spacing: tuple[float, ...] | None  # between rows, between columns
    rescale: tuple[float, ...] | None  # slope, intercept
    unit: str  # of the rescaled values
    segment: int | None


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says about itself; empty where it says nothing."""

    path: Path
    syntax: str
    instance: str
    modality: str
    image_type: tuple[str, ...]
    patient: str
    study: str
    series: str
    series_number: str
    frame_of_reference: str
    references: tuple[str, ...]  # series that a segmentation is of
    segmentation_type: str
    segments: dict[int, tuple[str, ...]]  # number -> label and the meaning of its code
    full_value: int  # of a fractional segmentation
    colour: str
    samples: int
    rows: int
    columns: int
    bits: tuple[int, int, int]  # allocated, stored, the highest used
    padding: int | None
    acquisition: dict[str, str]
    frames: tuple[Frame, ...]
