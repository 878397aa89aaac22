"""Ten questions at the end of the course; the right answers are computed by the library, never written down."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from sa_lab import analysis, losses
from sa_lab.evaluation import protocols
from sa_lab.evaluation.metrics import evaluate_ranking
from sa_lab.samplers import CrossModalityIdentitySampler

LETTERS = "abcd"


@dataclass(frozen=True)
class Question:
    """A question with four answers.

    Attributes:
        text, why: Markdown without formulas; the reason is shown once the question is answered correctly.
        choices: what is offered, four different answers in order.
        answer: the place of the right one.
    """

    text: str
    choices: tuple[str, ...]
    answer: int
    why: str


def questions() -> list[Question]:
    """The ten questions, in the order of the chapters."""
    return [*_rows(), *_losses(), *_turns(), *_data(), *_gap(), *_retrieval()]


def paper() -> str:
    """The questions as Markdown, each answer with its letter."""
    parts = []
    for number, one in enumerate(questions(), 1):
        offered = "\n".join(f"- **{letter}** {choice}" for letter, choice in zip(LETTERS, one.choices, strict=True))
        parts.append(f"**{number}.** {one.text}\n\n{offered}")
    return "\n\n".join(parts)


def marked(answers: str) -> str:
    """Markdown: which of the answers are right, and why; the questions themselves if nothing is answered.

    Args:
        answers: a letter a to d for each question, "-" for one that is left out; blanks are ignored.
    """
    letters = "".join(answers.split()).lower()
    if not letters:
        return paper()
    asked = questions()
    if len(letters) != len(asked) or set(letters) - set(f"{LETTERS}-"):
        return f"Write {len(asked)} letters, a to d, or - for a question that you leave out; these are {letters!r}."
    lines = []
    for number, (letter, one) in enumerate(zip(letters, asked, strict=True), 1):
        right = letter == LETTERS[one.answer]
        lines.append(f"- {number}. {'✓ ' + one.why if right else '✗ Not ' + letter + '.' if letter != '-' else '○'}")
    count = sum(letter == LETTERS[one.answer] for letter, one in zip(letters, asked, strict=True))
    return "\n".join([f"{count} of {len(asked)} are right.", "", *lines])


def _number(text: str, right: float | int, wrong: tuple[float | int, ...], why: str) -> Question:
    """Numbers are offered in ascending order, with as many digits as tell them apart.

    Raises:
        ValueError: two of them look alike.
    """
    offered = sorted((right, *wrong))
    choices = tuple(f"{number:.3g}" for number in offered)
    if len(set(choices)) < len(offered):
        raise ValueError(f"{text!r} offers {choices}, expected four different numbers")
    return Question(text, choices, offered.index(right), why)


def _rows() -> list[Question]:
    infrared, visible = torch.tensor([3]), torch.tensor([4])
    own, other = (int(rule(infrared, torch.tensor([1]), 10)) for rule in (losses.own_prototype, losses.cross_prototype))
    cross, mine = (int(rule(visible, torch.tensor([0]), 10)) for rule in (losses.cross_prototype, losses.own_prototype))
    return [
        _number(
            "There are 10 identities. Which row of `prototypes` is the *own* one of an infrared image of identity 3?",
            own, (other, 2 * 3 + 1, 10), "The infrared half begins at row 10.",
        ),
        _number(
            "Again 10 identities. To which row is a *visible* image of identity 4 drawn?",
            cross, (mine, 2 * 4 + 1, 10), "The target is the prototype of the same identity in the other spectrum.",
        ),
    ]  # fmt: skip


def _losses() -> list[Question]:
    one = (torch.tensor([0]), torch.tensor([0]))

    def floor(parts: int, mask: float) -> float:
        """L_sa where own and cross prototype coincide and everybody else is far away."""
        rows = 50 * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]).expand(parts, 4, 2)
        logits = losses.prototype_logits(torch.tensor([1.0, 0.0]).expand(1, parts, 2), rows)
        return round(float(losses.sa_softmax_loss(logits, *one, mask)), 4) + 0.0

    def begun(parts: int, identities: int, mask: float = 50.0) -> float:
        return float(losses.sa_softmax_loss(torch.zeros(1, parts, 2 * identities), *one, mask))

    def absolute(degrees: int) -> float:
        direction = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        rows = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        return float(losses.absolute_similarity_loss(direction.expand(1, 1, 2), rows, *one))

    angle = math.cos(math.radians(60))
    return [
        _number(
            "There are two parts and no mask. The two prototypes of each identity coincide. Below which value can "
            "L_sa not fall?",
            floor(2, 0.0), (floor(2, 50.0), floor(1, 0.0), 2 * floor(2, 0.0)),
            "Own and cross prototype share the probability, one half each: log 2 for each part.",
        ),
        _number(
            "At the start all logits are 0. There are 4 parts, 4 identities and a mask of 50. How large is L_sa?",
            begun(4, 4), (begun(1, 4), begun(4, 2), 4 * math.log(4)),
            "The own prototype is masked, so 7 of the 8 rows compete: 4 log 7.",
        ),
        _number(
            "There is one part. An image and its cross prototype are 60 degrees apart. How large is L_as?",
            absolute(60), (1 - angle, 1 - angle**2, absolute(90)), "The cosine is 0.5, and 1 - 0.5 is squared.",
        ),
    ]  # fmt: skip


def _turns() -> list[Question]:
    """Where a gradient arrives, by autograd."""
    places = {(True, True): "at both", (False, True): "at the prototypes alone", (True, False): "at the samples alone",
              (False, False): "at neither"}  # fmt: skip
    criterion, embeddings = losses.SASoftmaxLoss(2, 2), torch.ones(4, 2, requires_grad=True)
    loss = criterion.feature_loss(embeddings, torch.arange(4) % 2, torch.arange(4) // 2)
    loss.backward()  # type: ignore[no-untyped-call]
    reached = (embeddings.grad is not None, criterion.prototypes.grad is not None)
    return [
        Question(
            "You call `feature_loss(...).backward()` of `SASoftmaxLoss`. Where does a gradient arrive?",
            tuple(places.values()), list(places).index(reached), "In the network's step the prototypes are held fixed.",
        )
    ]  # fmt: skip


def _gap() -> list[Question]:
    """Two people whose centroids stand at the corners of a rectangle of 2 by 4, two images each."""
    points = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 4.0], [0.0, 4.0]]).repeat(2, 0)
    points[:, 0] += np.tile([-0.1, 0.1], 4)
    gap = analysis.modality_gap(points, np.repeat([0, 1], 4), np.repeat([0, 1, 0, 1], 2))
    ratio = round(float(gap.stranger_ratio[0]), 6)
    return [
        _number(
            "The centroids of a person's two spectra lie 2 apart; those of strangers in the other spectrum lie 4 away. "
            "How large is the modality gap?",
            ratio, (1 / ratio, ratio**2, 1.0), "Own distance over distance to strangers: 0 where they coincide.",
        )
    ]  # fmt: skip


def _data() -> list[Question]:
    ids, modality = np.repeat(np.arange(10), 8), np.tile([0, 1], 40)
    batch = len(next(iter(CrossModalityIdentitySampler(ids, modality, ids_per_batch=8, images_per_id=2, seed=0))))
    return [
        _number(
            "`ids_per_batch` is 8 and `images_per_id` is 2. How many images has a batch?",
            batch, (8, 16, 64), "Eight identities, two images of each, in two spectra.",
        )
    ]  # fmt: skip


def _retrieval() -> list[Question]:
    similarity = torch.linspace(1, 0, 5)[None]
    matches = torch.tensor([0, 1, 0, 0, 1])
    ranking = evaluate_ranking(similarity, torch.tensor([1]), matches, first_occurrence=False)
    ((_, hidden),) = protocols.SYSU_ALL.hidden_cameras
    return [
        _number(
            "A query has two matches, at places 2 and 5 of its ranking. How large is its average precision?",
            ranking.mean_ap, (float(ranking.cmc(1)[0]), ranking.mean_inp, 1 / int(ranking.first_rank[0])),
            "The mean of 1/2 and 2/5; the second match counts as well as the first.",
        ),
        Question(
            "A query of SYSU-MM01 comes from camera 3. Images of which gallery camera are hidden from it?",
            tuple(f"camera {camera}" for camera in protocols.SYSU_ALL.gallery_cameras or ()),
            (protocols.SYSU_ALL.gallery_cameras or ()).index(hidden),
            "Both cameras watch the same room: the wall behind a person would give the answer away.",
        ),
    ]  # fmt: skip
