"""`fit`: a training in a run folder, with checkpoints, that can be interrupted and goes on where it stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import nn
from tqdm.auto import tqdm

from sa_lab.config import ExperimentConfig
from sa_lab.data.store import ImageStore
from sa_lab.dials import plain
from sa_lab.disk import Refusal, check_seal, reason_of, replace, tell, write_csv
from sa_lab.training import processes
from sa_lab.training.learner import Batch, LogRow, NonFiniteLossError
from sa_lab.training.loop import OtherTrainingError, Training, iterate, start
from sa_lab.training.objective import OwnLoss
from sa_lab.weights import load_state, save_state

Validate = Callable[[nn.Module], dict[str, float]]


def fit(
    config: ExperimentConfig,
    store: ImageStore,
    run: Path,
    validate: Validate | None = None,
    watch: Callable[[LogRow], None] | None = None,
    progress: bool = True,
    own_loss: OwnLoss | None = None,
    probe: Callable[[Training], None] | None = None,
) -> Training:
    """Train in the folder ``run``, going on from its checkpoint where there is one.

    An interrupt waits for the end of the step, saves a checkpoint and is then raised. Of several processes each calls
    this; the first one validates, probes, shows progress and writes the files, which all of them can read.

    Args:
        config: the dials; saved as config.json.
        store: the images.
        run: gets config.json, metrics.csv, checkpoint.pt (to resume; until the end, also the one before it) and
            model.pt (selected on validation identities; the last one where there is no validation). If it was killed
            between any two of its writes, the training goes on; it reports damaged files.
        validate: gives ``mean_ap`` (and more to log) of a model on the validation identities.
        watch: called with every row, for live curves.
        progress: show a bar.
        own_loss: what ``config.loss.own`` names.
        probe: called with the training as it stands, ``config.train.num_probes`` times.

    Raises:
        NonFiniteLossError: with the batch saved in ``run``.
        LostProcessError: another process has died or does not answer.
        ValueError: the checkpoint in ``run`` belongs to another config or to other images.
    """
    first = processes.is_first()
    validate, probe = (validate, probe) if first else (None, None)
    with processes.lost_process_errors():  # they meet for the first time
        training = _resumed(config, store, own_loss, run)
    if first:
        config.save(run / "config.json")
        if training.rows:
            write_csv(run / "metrics.csv", training.rows)  # it may be of the checkpoint before
    total, done = training.num_steps, len(training.rows)
    bar = tqdm(
        total=total, initial=done, unit="step", desc=f"train {plain(run.name)}", disable=not (progress and first)
    )
    probed = set(np.linspace(0, total, config.train.num_probes).round().astype(int).tolist()) if probe else set()
    best = max((row.get("mean_ap", -1.0) for row in training.rows), default=-1.0)
    logged = _logged(config.train.log if first else "none", run)
    with bar, logged as log, _deferred_interrupt() as interrupted, processes.lost_process_errors():
        try:
            if probe and done == 0 and probed:
                probe(training)
            for row in iterate(training, pause_after=probed):
                at_epoch_end = (row["step"] + 1) % len(training.sampler) == 0
                last = row["step"] + 1 == total
                if probe and row["step"] + 1 in probed:
                    probe(training)
                if at_epoch_end and validate and _due(int(row["epoch"]), config.train.eval_every, last):
                    row |= validate(training.network)
                if first and (row.get("mean_ap", -1.0) > best or (last and best < 0)):
                    best = row.get("mean_ap", -1.0)
                    _save_model(training, run / "model.pt")
                if watch:
                    watch(row)
                if log:
                    log.log_metrics(row, int(row["step"]))
                bar.update()
                bar.set_postfix(loss=f"{row['total']:.3f}", refresh=False)
                due = at_epoch_end and _due(int(row["epoch"]), config.train.checkpoint_every, last)
                stop = interrupted.is_set() and row is training.rows[-1]  # not before the step ahead is handled, too
                if first and (stop or due):
                    _save(training, run)
                if stop:
                    raise KeyboardInterrupt(f"stopped after step {int(row['step'])}; the same call goes on from there")
        except NonFiniteLossError as error:
            of = f"_process_{processes.rank()}" if processes.size() > 1 else ""
            file = run / f"failed_step_{len(training.rows)}{of}.pt"
            save_state(file, cast(Batch, error.batch).state_dict())
            message = (
                f"step {len(training.rows)}: {error}; the batch is in {file} (torch.load); try a lower learning rate, "
                "in another run folder"
            )
            raise NonFiniteLossError(message, error.batch) from error
    if first:
        (run / _BEFORE).unlink(missing_ok=True)
    return training


_BEFORE = "checkpoint-before.pt"


def check_log(kind: str) -> None:
    """Refuse a logger that is not installed.

    Raises:
        Refusal: what is missing.
    """
    if kind == "tensorboard" and not find_spec("tensorboard"):
        raise Refusal("train.log is tensorboard, which is not installed: pip install 'sa-lab[tensorboard]', or none")


@contextmanager
def _logged(kind: str, run: Path) -> Iterator[Logger | None]:
    """The engine's logger into ``run``, to which a training that goes on adds."""
    check_log(kind)
    log = TensorBoardLogger(run, "tensorboard", version="") if kind == "tensorboard" else None
    try:
        yield log
    finally:
        if log:
            log.finalize("")


def _resumed(config: ExperimentConfig, store: ImageStore, own_loss: OwnLoss | None, run: Path) -> Training:
    """The training where its last whole checkpoint has left it, or at its start.

    Raises:
        OtherTrainingError: the checkpoint belongs to another config or to other images.
    """
    for file in (run / "checkpoint.pt", run / _BEFORE):
        if not file.is_file():
            continue
        training = start(config, store, own_loss)
        try:
            training.load_state_dict(load_state(file))
            if len(training.rows) == training.num_steps or any("mean_ap" in row for row in training.rows):
                check_seal(run / "model.pt", needed=True)
            return training
        except OtherTrainingError:
            raise
        except Exception as error:  # damaged files fail in many ways
            told = str(error) if str(file) in str(error) else f"{file} is damaged: {reason_of(error)}"
            tell(f"{told}; the training goes back to the previous checkpoint, or to its start")
    return start(config, store, own_loss)


def _due(epoch: int, every: int, last: bool) -> bool:
    return last or (every > 0 and (epoch + 1) % every == 0)


def _save(training: Training, run: Path) -> None:
    last, new = run / "checkpoint.pt", run / "checkpoint-new.pt"
    save_state(new, training.state_dict())
    if last.is_file():
        replace(last, run / _BEFORE)
    replace(new, last)
    write_csv(run / "metrics.csv", training.rows)


def _save_model(training: Training, path: Path) -> None:
    """What evaluation needs: network, prototypes and the identities they were trained on."""
    state = training.state_dict()
    save_state(path, {key: state[key] for key in ("config", "model", "prototypes", "train_ids")})


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Turn Ctrl-C and a plea to end (SIGTERM) into an event that is looked at between two steps.

    Outside the main thread, do nothing. Of several processes the first one looks at it; the others go on until it ends,
    but for SIGTERM, which ends them: then the last checkpoint is that of an epoch's end.
    """
    interrupted = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM) if processes.is_first() else (signal.SIGINT,)
    heed = (lambda *_: interrupted.set()) if processes.is_first() else signal.SIG_IGN
    with processes.signals_handled(heed, *signals):
        yield interrupted
