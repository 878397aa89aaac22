"""What the measures of overlap are called, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True)
class Definition:
    """What a measure is called and how it is read.

    Attributes:
        title: heading of a table column or an axis.
        range: of its values.
        better: the direction in which spectra overlap more, or persons are told apart better across spectra.
        meaning: one sentence.
    """

    title: str
    range: str
    better: Literal["higher", "lower"]
    meaning: str

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest possible value."""
        return {"[0,1]": (0.0, 1.0), "[-1,1]": (-1.0, 1.0), "[0,∞)": (0.0, inf)}.get(self.range, (-inf, inf))


DEFINITIONS: dict[str, Definition] = {
    "stranger_ratio": Definition(
        "modality gap", "[0,∞)", "lower",
        "Distance of a person's two centroids over that to other persons' in the other spectrum; 0: they coincide.",
    ),
    "modality_gap": Definition(
        "modality gap in spreads", "[0,∞)", "lower",
        "Distance of a person's two centroids in standard deviations of the images within person and spectrum.",
    ),
    "global_gap": Definition(
        "global gap in spreads", "[0,∞)", "lower",
        "Distance of the two spectra's centroids in standard deviations of the images within a spectrum.",
    ),
    "modality_probe": Definition(
        "modality probe", "[0,1]", "lower",
        "Accuracy of a linear classifier that guesses the spectrum of unseen persons' images; 0.5: chance.",
    ),
    "mmd": Definition(
        "squared MMD", "about [0,2]", "lower",
        "Squared maximum mean discrepancy of the two spectra; 0: they fill the sphere alike.",
    ),
    "neighbour_ratio": Definition(
        "neighbours of other spectrum", "[0,∞)", "higher",
        "Share of the other spectrum among the ten nearest images over its share of all; 0: islands, 1: mixed. "
        "It falls with more people.",
    ),
    "silhouette_identity": Definition(
        "silhouette by identity", "[-1,1]", "higher",
        "How much closer an image is to its own person than to the nearest other; 1: tight and apart. "
        "It falls with more people.",
    ),
    "silhouette_modality": Definition(
        "silhouette by spectrum", "[-1,1]", "lower",
        "How much closer an image is to its own spectrum than to the other; 0: mixed, 1: apart.",
    ),
    "pair_overlap": Definition(
        "overlap, same or other person across spectra", "[0,1]", "lower",
        "Area that the similarities of one person and of two persons across spectra share; 0: told apart.",
    ),
    "pair_auc": Definition(
        "AUC, same or other person across spectra", "[0,1]", "higher",
        "Chance that two images of one person across spectra are more similar than two of different persons.",
    ),
    "pair_d_prime": Definition(
        "d', same or other person across spectra", "(-∞,∞)", "higher",
        "Difference of the mean similarities of one person and of two across spectra, in standard deviations.",
    ),
    "alignment": Definition(
        "alignment (Wang and Isola)", "[0,4]", "lower",
        "Mean squared distance of a person's images across spectra on the unit sphere; 0: they coincide.",
    ),
    "uniformity": Definition(
        "uniformity (Wang and Isola)", "[-8,0]", "lower",
        "Logarithm of the mean Gaussian potential of different persons' images; low: spread over the sphere.",
    ),
    "centroid_transfer": Definition(
        "nearest centroid across spectra", "[0,1]", "higher",
        "Share of the images whose nearest centroid, of those in the other spectrum, is their person's. "
        "It falls with more people.",
    ),
    "prototype_alignment": Definition(
        "prototype cosine", "[-1,1]", "higher",
        "Cosine of a person's visible and infrared prototype; 1: they coincide, which no term of the loss asks for.",
    ),
    "own_similarity": Definition(
        "cosine with own prototype", "[-1,1]", "higher",
        "Cosine of an image with its person's prototype in its spectrum.",
    ),
    "cross_similarity": Definition(
        "cosine with cross prototype", "[-1,1]", "higher",
        "Cosine of an image with its person's prototype in the other spectrum.",
    ),
    "other_similarity": Definition(
        "cosine with hardest other prototype", "[-1,1]", "lower",
        "Cosine of an image with the most similar prototype of another person, in either spectrum.",
    ),
    "cross_margin": Definition(
        "margin of cross prototype", "[-2,2]", "higher",
        "Cosine with the cross prototype minus that with the hardest other; above 0 it alone names the person.",
    ),
}  # fmt: skip
OF_IMAGES = tuple(DEFINITIONS)[:14]
"""The measures that need no prototypes, so that unseen people have them too."""
