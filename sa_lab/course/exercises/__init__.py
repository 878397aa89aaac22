"""Checks for the exercises of the course: each takes the reader's function and says what is wrong with it.

A function whose body is still `return ...` leaves its exercise open, so an untouched chapter runs from top to bottom.
Right answers come from the library's own functions, so the course cannot drift from them.
"""

from sa_lab.course.exercises.absolute import check_absolute_term
from sa_lab.course.exercises.benchmark import check_average_precision, check_hidden, check_rank_k
from sa_lab.course.exercises.checking import Verdict
from sa_lab.course.exercises.comparison import check_hetero_center_triplet, check_main_effects
from sa_lab.course.exercises.data import check_batch, check_normalise, check_split
from sa_lab.course.exercises.derivation import check_cross_prototype, check_masked_loss, check_prototype_gradient
from sa_lab.course.exercises.design import check_design, check_pulls_together
from sa_lab.course.exercises.histograms import check_overlap
from sa_lab.course.exercises.overlap import check_modality_gap, check_prototype_alignment
from sa_lab.course.exercises.start import check_cosine, check_logits
from sa_lab.course.exercises.training import check_feature_objective, check_prototype_objective, check_warmup

__all__ = [
    "Verdict",
    "check_absolute_term",
    "check_average_precision",
    "check_batch",
    "check_cosine",
    "check_cross_prototype",
    "check_design",
    "check_feature_objective",
    "check_hetero_center_triplet",
    "check_hidden",
    "check_logits",
    "check_main_effects",
    "check_masked_loss",
    "check_modality_gap",
    "check_normalise",
    "check_overlap",
    "check_prototype_alignment",
    "check_prototype_gradient",
    "check_prototype_objective",
    "check_pulls_together",
    "check_rank_k",
    "check_split",
    "check_warmup",
]
