"""Do the two spectra overlap? Arrays in, numbers out: nothing here needs torch or images.

``points`` are descriptors, one row per image: one part ``embeddings[:, p]`` or the whole ``embeddings.reshape(N, -1)``.
Every measure is unchanged when all points are rotated together or multiplied by one positive number.
"""

from sa_lab.analysis.definitions import DEFINITIONS, OF_IMAGES, Definition
from sa_lab.analysis.discrepancy import Discrepancy, mmd
from sa_lab.analysis.gap import ModalityGap, global_modality_gap, modality_gap
from sa_lab.analysis.neighbours import (
    CentroidTransfer,
    Neighbourhood,
    Silhouettes,
    centroid_transfer,
    neighbourhood,
    silhouettes,
)  # fmt: skip
from sa_lab.analysis.overlap import measure_overlap
from sa_lab.analysis.pairs import (
    Alignment,
    PairSimilarities,
    Separation,
    alignment,
    overlap_coefficient,
    pair_similarities,
    separation,
    uniformity,
)  # fmt: skip
from sa_lab.analysis.points import NotMeasurable, Reduced, reduce
from sa_lab.analysis.probe import ProbeResult, modality_probe
from sa_lab.analysis.projection import CAUTION, Projection, project, project_along
from sa_lab.analysis.prototypes import (
    PrototypeSimilarities,
    prototype_alignment,
    prototype_cosines,
    prototype_similarities,
    whole_prototypes,
)  # fmt: skip
from sa_lab.intervals import Interval, bootstrap_interval, bootstrap_statistic

__all__ = [
    "CAUTION", "DEFINITIONS", "OF_IMAGES", "Alignment", "CentroidTransfer", "Definition", "Discrepancy", "Interval",
    "ModalityGap", "Neighbourhood", "NotMeasurable", "PairSimilarities", "ProbeResult", "Projection",
    "PrototypeSimilarities", "Reduced", "Separation", "Silhouettes", "alignment", "bootstrap_interval",
    "bootstrap_statistic", "centroid_transfer", "global_modality_gap", "measure_overlap", "mmd", "modality_gap",
    "modality_probe", "neighbourhood", "overlap_coefficient", "pair_similarities", "project", "project_along",
    "prototype_alignment", "prototype_cosines", "prototype_similarities", "reduce", "separation", "silhouettes",
    "uniformity", "whole_prototypes",
]  # fmt: skip
