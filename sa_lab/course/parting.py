"""Why the two prototypes of an identity move apart: prototypes refitted to fixed embeddings.

In L_p the prototype of the same identity in the other spectrum is one of the negatives: the two compete. Fitted to the
embeddings of a finished network with and without that rival, they show what the competition alone does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from joblib import Parallel, delayed
from torch.nn import functional
from tqdm.auto import tqdm

from sa_lab import study
from sa_lab.analysis import prototype_alignment
from sa_lab.config import ExperimentConfig, VariantName, variant
from sa_lab.disk import home, write_text
from sa_lab.intervals import student_interval
from sa_lab.losses import own_prototype, prototype_logits, prototype_loss
from sa_lab.schema import Embeddings

LOSSES: tuple[VariantName, ...] = ("softmax", "complete", "no_rival", "running_mean")
DECAYS = (1e-4, 1e-3, 1e-2)
"""Weight decays of a fit, weaker to stronger: half of it times the squared length of all prototypes is added to L_p."""
_KINDS = {"fitted by L_p": True, "fitted without rivals": False}


def fitted(
    points: Float[np.ndarray, "N P D"],
    labels: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    rivals: bool = True,
    weight_decay: float = 1e-3,
    steps: int = 60,
) -> Float[np.ndarray, "P C2 D"]:
    """Prototypes that minimise L_p on fixed embeddings, visible half first.

    With a decay the problem has one solution, which does not depend on where the search begins (at 0, by L-BFGS). It
    lies in the span of the embeddings, so only its coordinates in a basis of that span are searched.

    Args:
        points: embeddings.
        labels: in 0..C-1, each of which is there.
        modality: 0 visible, 1 infrared.
        rivals: whether the prototype of the same identity in the other spectrum is a negative, see
            `sa_lab.losses.prototype_loss`.
        weight_decay: above 0.
        steps: of the search, at most.

    Raises:
        ValueError: ``weight_decay`` is not above 0.
    """
    if not weight_decay > 0:
        raise ValueError(f"weight_decay is {weight_decay}, expected a number above 0: else there are many solutions")
    targets, spectra = torch.from_numpy(labels), torch.from_numpy(modality)
    # (N,P,D) -> an orthonormal basis of each part's span, and the embeddings in it: (P,D,K), (P,K,N) with K = min(N,D)
    basis, inside = torch.linalg.qr(torch.from_numpy(points).double().permute(1, 2, 0))
    embeddings = inside.permute(2, 0, 1)
    shape = len(basis), 2 * (int(labels.max()) + 1), basis.shape[2]
    prototypes = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([prototypes], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def objective() -> torch.Tensor:
        search.zero_grad()
        loss = prototype_loss(prototype_logits(embeddings, prototypes), targets, spectra, rivals)
        total = loss + 0.5 * weight_decay * prototypes.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(objective)  # type: ignore[no-untyped-call]
    return np.asarray(prototypes.detach() @ basis.mT)


def means(
    points: Float[np.ndarray, "N P D"], labels: Int[np.ndarray, " N"], modality: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "P C2 D"]:
    """The mean embedding of each identity and spectrum, laid out as prototypes are."""
    embeddings = torch.from_numpy(points).double()
    count = int(labels.max()) + 1
    rows = own_prototype(torch.from_numpy(labels), torch.from_numpy(modality), count)
    groups = functional.one_hot(rows, 2 * count).double()  # (N,2C)
    return torch.einsum("nk,npd->pkd", groups / groups.sum(0), embeddings).numpy()


def cosines(tested: Embeddings, decays: Sequence[float] = DECAYS) -> dict[str, float]:
    """For people trained on, the cosine between an identity's two spectra, averaged over parts and identities: of its
    mean embeddings, of its prototypes as trained, and of prototypes fitted with each of ``decays``.

    Raises:
        ValueError: there are no prototypes of these people.
    """
    known = tested.prototype_ids
    people, labels = np.unique(tested.person_ids, return_inverse=True)
    if known is None or tested.prototypes is None or not np.isin(people, known).all():
        raise ValueError("embeddings have no prototypes of these people, expected people that were trained on")
    channels = tested.embeddings.shape[2]
    unit = functional.normalize(torch.from_numpy(np.asarray(tested.embeddings, dtype=np.float64)), dim=2)
    points = unit.numpy() * channels**0.5  # about as long as after the neck
    rows = np.searchsorted(known, people)
    modality = tested.modality.astype(np.int64)
    found = {
        "mean embeddings": means(points, labels, modality),
        "prototypes as trained": tested.prototypes[:, [*rows, *(rows + len(known))]],
        **{
            f"{kind}, weight decay {decay:g}": fitted(points, labels, modality, rivals, decay)
            for kind, rivals in _KINDS.items()
            for decay in decays
        },
    }
    return {name: float(prototype_alignment(one).mean()) for name, one in found.items()}


def place(dataset: str) -> Path:
    """Where the answer for a data set is written."""
    return home() / "results" / f"parting-{dataset}.json"


def write(config: ExperimentConfig, seeds: Sequence[int] = study.SEEDS, jobs: int = 1) -> Path:
    """Train what is missing, measure all networks, and write mean and interval over the ``seeds``, at least two."""
    configs = [variant(config, name).seeded(seed) for name in LOSSES for seed in seeds]
    runs = study.run_all(configs, jobs)
    # a quarter of a minute of a core for each network
    found = Parallel(n_jobs=jobs)(delayed(cosines)(run.training_embeddings) for run in tqdm(runs, unit="fit"))
    content: dict[str, Any] = {"dataset": config.data.dataset, "seeds": list(seeds), **study.conditions(), "losses": {}}
    for i, name in enumerate(LOSSES):
        mine = found[i * len(seeds) : (i + 1) * len(seeds)]
        columns = {measure: np.array([one[measure] for one in mine]) for measure in mine[0]}
        content["losses"][name] = {
            measure: {**student_interval(values, (-1.0, 1.0)), "values": values.tolist()}
            for measure, values in columns.items()
        }
    out = place(config.data.dataset)
    write_text(out, json.dumps(content, indent=1))
    return out
