"""One run from images to report: a folder that is trained once and reused ever after."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from sa_lab import __version__
from sa_lab.config import REGDB_SPLITS, DataConfig, ExperimentConfig
from sa_lab.data import list_images, prepare
from sa_lab.data.contents import contents_of, digest_of
from sa_lab.data.files import content_of, stamp
from sa_lab.data.store import ImageStore
from sa_lab.disk import (
    DamagedFileError,
    check_folder,
    check_seal,
    home,
    locked,
    read_csv,
    read_json,
    reason_of,
    sweep,
    tell,
    write_csv,
    write_json,
)
from sa_lab.evaluation.embedding import embed
from sa_lab.evaluation.protocols import Protocol, protocols_of
from sa_lab.evaluation.reports import Report
from sa_lab.evaluation.search import evaluate_all
from sa_lab.evaluation.validation import ValidationSet, few_images, first_people
from sa_lab.model import TwoStreamNet
from sa_lab.provenance import TRAINING, code_digest, function_in, function_name, known_as
from sa_lab.runs import PEOPLE_FILES, Run, kept_measures, loss_name
from sa_lab.schema import DataError, Embeddings, Listing, Role
from sa_lab.training import processes
from sa_lab.training.fit import check_log, fit
from sa_lab.training.learner import LogRow
from sa_lab.training.loop import Training, plan
from sa_lab.training.objective import OwnLoss, check_own
from sa_lab.training.origins import BEFORE, note_origin
from sa_lab.weights import WeightsError, check_weights, load_state

_PROBED_PEOPLE, _PROBED_IMAGES = 16, 4
"""Training identities, and as many validation identities, whose descriptors are saved along the training, and images of
each in each spectrum."""


def run_folder(config: ExperimentConfig, listing: Listing | None = None) -> Path:
    """Where the run of this config, these images and this code of the library lives; files are hashed, but not decoded,
    when they are seen for the first time. ``listing``: of the images, where somebody has it."""
    listing = listing or list_images(config.data)
    return _folder(config, _made_of(listing, config, contents_of(listing, home() / "prepared")))


def finished(config: ExperimentConfig, listing: Listing) -> Run | None:
    """The run of this config on these images, if it is finished, whole, evaluated and measured: nothing is computed."""
    made_of = _made_of(listing, config, contents_of(listing, home() / "prepared"))
    found = Run(_folder(config, made_of))
    try:
        _check_reuse(found, config, made_of)
        whole = _is_finished(found, quiet=True) and not _lacks(found, listing)
        return found if whole and kept_measures(found.folder) else None
    except Exception:  # damaged in whatever way: told where it is made again
        return None


def images_digest(data: DataConfig) -> str:
    """A digest that tells these images, at this size, from all others, as in a run's ``made_of.json``."""
    listing = list_images(data)
    return digest_of(listing, data.height, data.width, data.resize, contents_of(listing, home() / "prepared"))


def _folder(config: ExperimentConfig, made_of: dict[str, str]) -> Path:
    split = f"-split{config.data.split}" if config.data.dataset == "regdb" else ""
    loss = re.sub(r"[^\w.-]+", "-", loss_name(config))
    name = f"{config.data.dataset}{split}-{loss[:60]}-seed{config.seed}"
    weights = f"-{made_of['weights'][:8]}" if Path(config.model.weights).is_file() else ""
    backbone = f"-{made_of['backbone']}" if "backbone" in made_of else ""
    return home() / "runs" / f"{name}-{config.digest()}-{made_of['data'][:8]}-{made_of['code'][:8]}{weights}{backbone}"


def _made_of(listing: Listing, config: ExperimentConfig, contents: tuple[str, ...]) -> dict[str, str]:
    """What a run depends on besides its config: hashes of the library's code, of the images and of the weights that it
    starts from; and what decides its digits, or tells which release that was, but makes no other run of it."""
    data, weights = config.data, Path(config.model.weights)
    digest = digest_of(listing, data.height, data.width, data.resize, contents)
    start = content_of(weights, stamp(weights)) if weights.is_file() else str(weights)
    made_of = {"code": code_digest(TRAINING), "data": digest, "weights": start, "library": __version__, **machine()}
    if ".py:" in config.model.backbone:
        made_of["backbone"] = function_name(function_in(config.model.backbone, "model.backbone"))
    return made_of


def machine() -> dict[str, str]:
    """What decides the digits of a result besides its seed: torch's version and the processor's vector width."""
    return {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}


def run(
    config: ExperimentConfig,
    folder: Path | None = None,
    watch: Callable[[LogRow], None] | None = None,
    progress: bool = True,
    own_loss: OwnLoss | None = None,
    num_processes: int = 1,
    keep_checkpoint: bool = False,
) -> Run:
    """Train, embed and evaluate; whatever an earlier call has finished is reused.

    Started by torchrun, every process calls this; they share each batch, and the first one writes the run.

    Args:
        config: the dials.
        folder: of the run; by default `run_folder`.
        watch: called with every row of the training.
        progress: show bars.
        own_loss: a loss of your own, the term own in ``config.loss.terms``; the config takes on its name.
        num_processes: new processes on this machine that share each batch, on GPUs one each; also from a notebook. The
            run equals that of one process, except for rounding, augmentation and batch statistics (`sync_batch_norm`).
        keep_checkpoint: keep checkpoint.pt, with the optimisers' state, when the run is finished; otherwise remove it.

    Raises:
        DataError, WeightsError, NonFiniteLossError, LostProcessError: see `prepare`, `build_model` and `fit`.
        ValueError: ``folder`` holds the run of another config, of other images or of other code of the library;
            ``watch`` with new processes, which it cannot reach.
    """
    if own_loss:
        check_own(own_loss)
        config = replace(config, loss=replace(config.loss, own=function_name(own_loss)))
    processes.check_number(num_processes)
    if num_processes > 1 and watch:
        raise ValueError(f"num_processes is {num_processes}, expected 1 with watch; or start with torchrun")
    processes.fabric_of(config.train)  # a device that is not there is told before the images are prepared
    check_log(config.train.log)
    listing = list_images(config.data)
    first = processes.is_first()
    planned = plan(config, listing)  # what cannot work is told before any image is read
    check_weights(config.model.backbone, config.model.weights)
    contents = contents_of(listing, home() / "prepared", progress and first)
    made_of = _made_of(listing, config, contents)
    folder = folder or _folder(config, made_of)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the run's folder is {folder}, which is a file or a device; expected another one")
    result = Run(folder)
    with _alone(folder):
        if first:
            sweep(folder)
            _check_reuse(result, config, made_of)
        if processes.agree_with_first(first and _is_finished(result)):
            if first:
                _complete(result, listing)
            return result
        check_folder(folder, "choose another folder for the run, or set SA_LAB_HOME to another one for all")
        store = prepare(config.data, progress and first, listing, contents)
        if num_processes > 1:
            processes.launch(_share, (config, folder, progress, keep_checkpoint, own_loss), num_processes)
            return result
        new = first and not (folder / "made_of.json").is_file()
        try:
            if first:
                spans = {"thermal_range": store.thermal_range} if store.thermal_range else {}
                write_json(folder / "made_of.json", {**made_of, **spans})
                _write_images(folder / "images.csv", store)
                note_origin(config.model.weights, folder, store, planned.train_ids)
            _make(result, config, store, watch, progress, own_loss, keep_checkpoint)
        except Exception:
            if new and not (folder / "config.json").is_file():  # refused before the first step
                for name in _SAID:
                    (folder / name).unlink(missing_ok=True)
                with suppress(OSError):
                    folder.rmdir()
            raise
    processes.agree_with_first()  # has evaluated
    return result


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a run: of several processes the one that started them does, or the first one."""
    if processes.is_member():
        yield
    elif processes.is_first():
        with locked(folder, f"trains {folder.name}", lambda: processes.agree_with_first(False)):
            processes.agree_with_first()
            yield
    else:
        while not processes.agree_with_first():
            pass
        yield


def _share(
    config: ExperimentConfig, folder: Path, progress: bool, keep_checkpoint: bool, own_loss: OwnLoss | None
) -> None:
    """What each of the new processes does."""
    if own_loss:
        known_as(own_loss, config.loss.own)
    run(config, folder, None, progress, own_loss, keep_checkpoint=keep_checkpoint)


def run_splits(
    config: ExperimentConfig,
    folder: Path | None = None,
    progress: bool = True,
    num_processes: int = 1,
    keep_checkpoint: bool = False,
    own_loss: OwnLoss | None = None,
) -> list[Run]:
    """RegDB as ten trainings, one per split, in ``folder``/split1..10 or folders named after the config.

    Raises:
        ValueError: the data set has one split only.
    """
    if config.data.dataset != "regdb":
        raise ValueError(f"dataset is {config.data.dataset!r}, expected regdb: only it has {REGDB_SPLITS} splits")
    shown = progress and processes.is_first()
    return [
        run(
            split,
            folder / f"split{split.data.split}" if folder else None,
            None,
            progress,
            own_loss,
            num_processes,
            keep_checkpoint,
        )
        for split in tqdm(of_every_split(config), "splits", unit="split", disable=not shown)
    ]


def of_every_split(config: ExperimentConfig) -> list[ExperimentConfig]:
    """The config on each split of its data set: ten for regdb, itself for any other."""
    if config.data.dataset != "regdb":
        return [config]
    return [replace(config, data=replace(config.data, split=split)) for split in range(1, REGDB_SPLITS + 1)]


def _check_reuse(run: Run, config: ExperimentConfig, made_of: dict[str, str]) -> None:
    """Raise unless the run's folder is empty or holds a run of this config, and of what the run is made of."""
    advice = f"remove {run.folder}, or choose another folder"
    try:
        there = run.config.dials() if (run.folder / "config.json").is_file() else config.dials()
        if changes := config.changes_from(there):
            raise ValueError(f"{run.folder / 'config.json'} is of a run of another config: {changes}; {advice}")
        file = run.folder / "made_of.json"
        known = read_json(file) if file.is_file() else None
    except DamagedFileError as error:
        raise ValueError(f"{error}; {advice}") from error
    left = [name for name in _LEFT if (run.folder / name).is_file()]
    if left and (known is None or not (run.folder / "config.json").is_file()):
        raise ValueError(f"{run.folder} holds a {left[0]} that does not say what it was made of; {advice}")
    if known is not None:
        kinds = {"code": "code of the library", "data": "images than these", "weights": "weights to start from"}
        kinds |= {"backbone": "code of the backbone"} if "backbone" in made_of else {}
        changed = [
            f"{kind} ({name} {str(known.get(name))[:8]} there, {made_of[name][:8]} here)"
            for name, kind in kinds.items()
            if known.get(name) != made_of[name]
        ]
        if changed:
            raise ValueError(f"{file}: the run was made of other {' and other '.join(changed)}; {advice}")


_SAID = ("made_of.json", "images.csv", BEFORE, "cost.json")
"""What says of what a run is made, before it has made a step."""
_LEFT = ("report.json", "embeddings.npz", "model.pt", "checkpoint.pt", "checkpoint-before.pt", "config.json")
"""What a run may hold that was lost, or moved, without the files that say what it is."""


def _is_finished(run: Run, quiet: bool = False) -> bool:
    """Whether everything that a run leaves behind is there and whole; what is damaged is told, to be made again, unless
    ``quiet``."""
    if not (run.folder / "report.json").is_file():
        return False
    try:
        _ = run.report, run.metrics()
        for name in (*PEOPLE_FILES.values(), "model.pt"):
            check_seal(run.folder / name, needed=True)
    except FileNotFoundError:
        return False
    except ValueError as error:
        if not quiet:
            tell(f"{error}; it is made again")
        return False
    return True


def _complete(run: Run, listing: Listing) -> None:
    """Evaluate where a report is missing or damaged, or the galleries that the data set prescribes are others: their
    file may have been fetched, or mended, after the run."""
    file = run.folder / "embeddings.npz"
    match _lacks(run, listing):
        case "reports":
            _evaluate(run, Embeddings.load(file, mapped=True))
        case "galleries":
            tested = Embeddings.load(file, mapped=True)
            (run.folder / "report.json").unlink()  # killed from here on, the run counts as not yet evaluated
            replace(tested, gallery_order=_galleries(listing, tested)).save(file)
            _evaluate(run, Embeddings.load(file, mapped=True))


def _lacks(run: Run, listing: Listing) -> Literal["", "reports", "galleries"]:
    """What of a finished run's evaluation is not there, or is another one."""
    tested = Embeddings.load(run.folder / "embeddings.npz", mapped=True)
    if listing.gallery_order is not None:
        known = tested.gallery_order if tested.gallery_order is not None else ()
        if not np.array_equal(_galleries(listing, tested), known):
            return "galleries"
    with suppress(DataError):
        there = {report.protocol["name"] for report in Report.load_all(run.folder)}
        if there.issuperset(one.name for one in _protocols(tested)):
            return ""
    return "reports"


def _galleries(listing: Listing, tested: Embeddings) -> np.ndarray:
    """Of each described image, in which galleries the data set puts it."""
    assert listing.gallery_order is not None
    place = {path: row for row, path in enumerate(listing.paths)}
    return np.asarray(listing.gallery_order[[place[path] for path in tested.paths]])


def _protocols(tested: Embeddings) -> tuple[Protocol, ...]:
    found = protocols_of(tested.dataset, tested.split, tested.gallery_order is not None)
    if tested.roles is None:
        return found
    asks, searched = ({int(m) for m in tested.modality[tested.roles != no]} for no in (Role.GALLERY, Role.QUERY))
    return tuple(one for one in found if one.query_modality in asks and one.gallery_modality in searched)


def _evaluate(run: Run, tested: Embeddings) -> None:
    """The reports of all protocols, that of the first one last."""
    first, *others = evaluate_all(tested, _protocols(tested))
    for report in others:
        report.save(run.folder, f"-{report.protocol['name']}")
    first.save(run.folder)


def _write_images(path: Path, store: ImageStore) -> None:
    """What each image of the data set was, and on which side of the split."""
    columns = zip(store.paths, store.contents, store.person_ids, store.modality, store.is_train, strict=True)
    parts = ("test", "train")
    write_csv(
        path,
        [
            {"path": path, "content": content, "person": person, "modality": code, "part": parts[int(train)]}
            for path, content, person, code, train in columns
        ],
    )


def _make(
    run: Run,
    config: ExperimentConfig,
    store: ImageStore,
    watch: Callable[[LogRow], None] | None,
    progress: bool,
    own_loss: OwnLoss | None,
    keep_checkpoint: bool,
) -> None:
    """Train, embed and evaluate into the run's folder."""
    held = ValidationSet.of(config, store)

    def validate(model: nn.Module) -> dict[str, float]:
        return held.grade(held.embed(model))

    def probe(training: Training) -> None:
        known = training.train_ids
        unseen = np.unique(store.person_ids[held.index])
        index = [few_images(store, people, _PROBED_PEOPLE, _PROBED_IMAGES) for people in (known, unseen)]
        rows = np.flatnonzero(np.isin(known, store.person_ids[index[0]]))
        embed(
            training.network, training.store, np.concatenate(index), training.fabric.device,
            training.criterion.prototypes[:, [*rows, *(rows + len(known))]], known[rows], known, progress=False,
            out=run.folder / "probes" / f"step-{len(training.rows):06}.npz",
        )  # fmt: skip

    if not processes.agree_with_first(processes.is_first() and _is_trained(run, config, store)):
        with _cost_noted(run.folder / "cost.json", processes.is_first()):
            fit(config, store, run.folder, validate if len(held) else None, watch, progress, own_loss, probe)
    if not processes.is_first():
        return
    model, prototypes, train_ids = load_model(run.folder)
    device = processes.fabric_of(config.train).device
    store = store.on(device)
    place(model, device, config)
    seen = np.unique(store.person_ids[store.is_train])
    parts = {"training_embeddings": first_people(store, train_ids, 600), "embeddings": np.flatnonzero(~store.is_train)}
    for name, index in parts.items():
        file = run.folder / f"{name}.npz"
        tested = embed(model, store, index, device, prototypes, train_ids, seen, progress=progress, out=file)
    if not keep_checkpoint:  # before the report, with which the run is finished
        (run.folder / "checkpoint.pt").unlink(missing_ok=True)
    _evaluate(run, tested)


@contextmanager
def _cost_noted(file: Path, first: bool) -> Iterator[None]:
    """Add the seconds of a training to those of the calls before, and note the most memory that one has taken."""
    began = time.monotonic()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # on Linux: the peak begins anew
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    try:
        yield
    finally:
        if first:
            known: dict[str, float] = {}
            with suppress(FileNotFoundError, DamagedFileError):
                known = read_json(file)
            peak = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else _peak_megabytes()
            seconds = known.get("seconds", 0.0) + time.monotonic() - began
            write_json(file, {"seconds": round(seconds, 2), "peak_mb": round(max(known.get("peak_mb", 0.0), peak))})


def _peak_megabytes() -> float:
    """The most memory that this process has taken since its peak began anew, or since its start."""
    with suppress(OSError):
        told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
        if told:
            return int(told[1]) / 1000
    import resource  # not on Windows

    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _is_trained(run: Run, config: ExperimentConfig, store: ImageStore) -> bool:
    """Whether a run without checkpoint has been trained to its end, so that its descriptors or reports are missing."""
    if (run.folder / "checkpoint.pt").is_file():
        return False
    try:
        check_seal(run.folder / "model.pt", needed=True)
        steps = len(run.metrics()["step"])
    except (FileNotFoundError, ValueError):
        return False
    return steps == config.train.num_epochs * len(plan(config, store).sampler)


def place(model: nn.Module, device: torch.device, config: ExperimentConfig) -> None:
    """Bring a loaded network to the device and precision it was trained in."""
    model.to(device, torch.float64 if config.train.precision == "64-true" else torch.float32)


def data_of(folder: Path) -> str:
    """The digest of the images that a run was made of.

    Raises:
        DamagedFileError: its file does not say.
    """
    made_of = read_json(folder / "made_of.json")
    if "data" not in made_of:
        raise DamagedFileError(
            f"{folder / 'made_of.json'} is damaged: it does not say which images the run was made of"
        )
    return str(made_of["data"])


def thermal_range_of(folder: Path) -> tuple[float, float] | None:
    """The values that a run made black and white in images with more than eight bits; None if it had no such images."""
    bounds = read_json(folder / "made_of.json").get("thermal_range")
    return (float(bounds[0]), float(bounds[1])) if bounds else None


def images_of(folder: Path, progress: bool = False) -> ImageStore:
    """The images that a run was made of.

    Raises:
        DataError: they are not where they were, or no longer the same: people may have come or gone, so that those
            trained on could pass for others.
    """
    data, known = Run(folder).config.data, data_of(folder)
    listing, there = list_images(data), read_csv(folder / "images.csv", ("path",))["path"]
    here = "other names"
    if sorted(there) == sorted(listing.paths):  # else nothing of them is read
        contents = contents_of(listing, home() / "prepared", progress)
        here = digest_of(listing, data.height, data.width, data.resize, contents)
        if here == known:
            return prepare(data, progress, listing, contents)
    raise DataError(
        f"{folder} was made of other images than those in {data.root or listing.name} (data {known[:8]} there, "
        f"{here[:11]} here); expected the same, or the run trained anew"
    )


def load_model(folder: Path) -> tuple[TwoStreamNet, torch.Tensor, np.ndarray]:
    """Network, prototypes (P,2C,D) and training identities (C,) of a run.

    Raises:
        FileNotFoundError: no model was selected yet.
        WeightsError: the file is damaged.
    """
    config = Run(folder).config
    state = load_state(folder / "model.pt")
    try:
        train_ids = state["train_ids"].numpy()
        model = TwoStreamNet(len(train_ids), config.model.backbone, config.model.num_parts)
        model.load_state_dict(state["model"])
        return model, state["prototypes"], train_ids
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        told = f"{folder / 'model.pt'} does not fit the config.json beside it: {reason_of(error)}"
        raise WeightsError(told) from error
