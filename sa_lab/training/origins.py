"""What a run was trained on, itself and the runs it started from, so that nobody trained on passes for a stranger."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from sa_lab.data.store import ImageStore
from sa_lab.disk import read_csv, read_json, tell, write_csv
from sa_lab.schema import NAMED, LeakageError
from sa_lab.weights import state_of_run

if TYPE_CHECKING:
    from sa_lab.training.loop import Training

BEFORE = "trained_before.csv"
"""In a run's folder: images that the runs before it were trained on."""


def trained_people(folder: Path, store: ImageStore) -> Int[np.ndarray, " I"]:
    """Identities of ``store`` of whom a run, or one it started from, had images for training or validation, told by the
    images' content, not by names."""
    trained = _trained(folder)
    return np.unique(store.person_ids[np.array([_of_any_size(one) in trained for one in store.contents], dtype=bool)])


def namesakes(folder: Path, store: ImageStore, same: Int[np.ndarray, " I"]) -> None:
    """Tell of people who are called as those that a run was trained on, where no picture of them is the same: nobody
    but the user knows whether they are the same people. Numbers that data sets give to people are no names.

    Args:
        folder: of the run.
        store: the images.
        same: people known by their pictures, from `trained_people`.
    """
    columns = read_csv(folder / "images.csv", ("person", "part"))
    trained = {int(one) for one, part in zip(columns["person"], columns["part"], strict=True) if part == "train"}
    tested = {one for one in store.person_ids[~store.is_train].tolist() if one >= NAMED}
    if alike := sorted(trained & tested - set(same.tolist())):
        tell(
            f"{len(alike)} test people are called as people that {folder} was trained on, with other pictures (of "
            f"{_pictures_of(alike, store)}); if they are the same people, do not test on them"
        )


def _pictures_of(people: Sequence[int], store: ImageStore) -> str:
    """A picture each of the first three."""
    shown = [store.paths[np.flatnonzero(store.person_ids == one)[0]] for one in people[:3]]
    return ", ".join([*shown, *(["..."] if len(people) > 3 else [])])


def note_origin(weights: str, folder: Path, store: ImageStore, train_ids: Int[np.ndarray, " C"]) -> None:
    """Write into a new run's folder what the run that it starts from was trained on; nothing of other ``weights``.

    Args:
        weights: as `sa_lab.config.ModelConfig.weights`.
        folder: of the new run.
        store: its images.
        train_ids: identities it trains on.

    Raises:
        LeakageError: test people of the store were trained on before, or, of the same images, validation people.
    """
    known, before = state_of_run(weights), Path(weights).parent
    if known is None:
        return
    same = trained_people(before, store)
    strangers = np.setdiff1d(same, store.person_ids[store.is_train])
    if _has_images(before, store):
        strangers = np.union1d(strangers, np.setdiff1d(known["train_ids"].numpy(), train_ids))
    if len(strangers):
        raise LeakageError(
            f"{weights} comes from a run that had images of {len(strangers)} people for training or validation who are "
            f"here for validation or test (of {_pictures_of(strangers.tolist(), store)}: the same "
            "pictures, or copies of them); expected the split of that run, so its data.seed, data.test_fraction and "
            "data.validation_fraction, or other pictures for test"
        )
    namesakes(before, store, same)
    write_csv(folder / BEFORE, [{"content": one} for one in sorted(_trained(before))])


def carry_on(training: Training) -> None:
    """Give a training that starts from a run the classifier and the prototypes of that run, for the people of both, if
    images and parts are the same; the optimisers begin anew."""
    weights = training.config.model.weights
    known, network = state_of_run(weights), training.network
    if known is None or not _has_images(Path(weights).parent, training.store):
        return
    rows, there = known["model"]["classifier"], training.criterion.prototypes
    if rows.shape[::2] != network.classifier.shape[::2]:
        return
    _, old, new = np.intersect1d(known["train_ids"].numpy(), training.train_ids, return_indices=True)
    num_old, num_new = rows.shape[1], len(training.train_ids)
    network.classifier.data[:, new] = rows[:, old].to(network.classifier)
    there.data[:, [*new, *(new + num_new)]] = known["prototypes"][:, [*old, *(old + num_old)]].to(there)


def _has_images(folder: Path, store: ImageStore) -> bool:
    """Whether a run was made of the images of ``store``, at their size."""
    return read_json(folder / "made_of.json").get("data") == store.digest


def _trained(folder: Path) -> set[str]:
    """What the images were that a run, and those before it, had for training and validation."""
    columns = read_csv(folder / "images.csv", ("content", "part"))
    own = {one for one, part in zip(columns["content"], columns["part"], strict=True) if part == "train"}
    before = read_csv(folder / BEFORE, ("content",))["content"] if (folder / BEFORE).is_file() else ()
    return {_of_any_size(one) for one in (*own, *before)}


def _of_any_size(content: str) -> str:
    """What an image is; a drawn person's is the same at another size."""
    return re.sub(r"^(drawing .*), \d+x\d+", r"\1", content)
