"""Do the two spectra overlap? Arrays in, numbers out: nothing here needs torch or images.

``points`` are descriptors, one row an image: one part ``embeddings[:, p]`` or the whole ``embeddings.reshape(N, -1)``.
Every measure is unchanged when all points are rotated together or multiplied by one positive number.
"""

from sa_lab.analysis.cameras import CameraPairs, camera_pairs
from sa_lab.analysis.gap import (
    ModalityGap,
    ProbeResult,
    global_modality_gap,
    modality_gap,
    modality_probe,
    prototype_alignment,
    whole_prototypes,
)
from sa_lab.analysis.pairs import PairSimilarities, overlap_coefficient, pair_similarities
from sa_lab.analysis.projection import Projection, project
from sa_lab.intervals import Interval, bootstrap_interval

__all__ = [
    "CameraPairs",
    "Interval",
    "ModalityGap",
    "PairSimilarities",
    "ProbeResult",
    "Projection",
    "bootstrap_interval",
    "camera_pairs",
    "global_modality_gap",
    "modality_gap",
    "modality_probe",
    "overlap_coefficient",
    "pair_similarities",
    "project",
    "prototype_alignment",
    "whole_prototypes",
]
