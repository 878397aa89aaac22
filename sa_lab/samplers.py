"""Identity-balanced batches over two spectra: P identities x K images x 2 modalities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int


class CrossModalityIdentitySampler:
    """Endless batches of indices, visible half first, the same identities in the same order in both halves.

    Identities come in shuffled rounds, so that after each round every identity was drawn once. Inside an identity,
    images are drawn without replacement while it has enough; one with fewer than K gives all of them, then repeats. The
    batches of an epoch depend on (seed, epoch) alone: the position is two integers, and a resumed sampler goes on in
    the middle of an epoch as if it had never stopped. Every rank plans the same global batches and takes its own
    identities of each.

    Args:
        person_ids: raw identities, (N,).
        modality: 0 visible, 1 infrared, (N,).
        ids_per_batch: P of the global batch.
        images_per_id: K.
        seed: seed of all draws.
        steps_per_epoch: batches of an epoch; None: as many as draw max(#visible, #infrared) images of each modality.
        rank, num_ranks: shard of this process.

    Raises:
        ValueError: fewer identities than ``ids_per_batch``, an identity without one modality, or ``ids_per_batch``
            that the ranks cannot share evenly.
    """

    def __init__(
        self,
        person_ids: Int[np.ndarray, " N"],
        modality: Int[np.ndarray, " N"],
        ids_per_batch: int,
        images_per_id: int,
        seed: int,
        steps_per_epoch: int | None = None,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        identities = np.unique(person_ids)
        if not 1 <= ids_per_batch <= len(identities):
            raise ValueError(
                f"ids_per_batch is {ids_per_batch}, expected 1..{len(identities)}, the number of identities"
            )
        if images_per_id < 1:
            raise ValueError(f"images_per_id is {images_per_id}, expected at least 1")
        if not 0 <= rank < num_ranks or ids_per_batch % num_ranks:
            raise ValueError(f"rank {rank} of {num_ranks} cannot take an even share of ids_per_batch {ids_per_batch}")
        self._pools = [
            [np.flatnonzero((person_ids == person) & (modality == m)) for person in identities] for m in (0, 1)
        ]
        for m, pools in enumerate(self._pools):
            if lonely := [int(i) for i, pool in zip(identities, pools, strict=True) if not len(pool)]:
                raise ValueError(f"identities {lonely[:20]} have no image of modality {m}, expected both")
        if steps_per_epoch is None:
            drawn = max(int((modality == 0).sum()), int((modality == 1).sum()))
            steps_per_epoch = max(1, drawn // (ids_per_batch * images_per_id))
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch is {steps_per_epoch}, expected at least 1 or None")
        self.ids_per_batch, self.images_per_id, self.seed = ids_per_batch, images_per_id, seed
        self.steps_per_epoch, self.rank, self.num_ranks = steps_per_epoch, rank, num_ranks
        self.epoch, self.step = 0, 0

    def __len__(self) -> int:
        """Batches in an epoch, exactly."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[Int[np.ndarray, " B"]]:
        """The batches that are left of the current epoch; moves the position."""
        for batch in self._plan(self.epoch)[self.step :]:
            self.step += 1
            yield batch
        self.epoch, self.step = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """The position: the epoch and the batches of it already given."""
        return {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position that `state_dict` gave."""
        self.epoch, self.step = int(state["epoch"]), int(state["step"])

    def _plan(self, epoch: int) -> list[Int[np.ndarray, " B"]]:
        """All batches of an epoch for this rank."""
        rng = np.random.default_rng([self.seed, epoch])
        share = self.ids_per_batch // self.num_ranks
        mine = slice(self.rank * share, (self.rank + 1) * share)
        plan = []
        for identities in self._identity_rounds(rng):  # P of them; K images each, visible half first: (2PK,)
            drawn = [[self._draw(self._pools[m][i], rng) for i in identities] for m in (0, 1)]
            plan.append(np.concatenate([np.concatenate(half[mine]) for half in drawn]))
        return plan

    def _identity_rounds(self, rng: np.random.Generator) -> Iterator[Int[np.ndarray, " P"]]:
        """``steps_per_epoch`` sets of distinct identities from one shuffled round after another."""
        count = len(self._pools[0])
        queue: list[int] = []
        for _ in range(self.steps_per_epoch):
            while len(queue) < self.ids_per_batch:  # a new round; who still waits comes last in it
                fresh = rng.permutation(count).tolist()
                waiting = set(queue)
                queue += [i for i in fresh if i not in waiting] + [i for i in fresh if i in waiting]
            yield np.array(queue[: self.ids_per_batch])
            queue = queue[self.ids_per_batch :]

    def _draw(self, pool: Int[np.ndarray, " M"], rng: np.random.Generator) -> Int[np.ndarray, " K"]:
        """K images of one identity and modality."""
        rounds = -(-self.images_per_id // len(pool))
        return np.concatenate([rng.permutation(pool) for _ in range(rounds)])[: self.images_per_id]
