"""Every dial of an experiment: frozen dataclasses, checked when they are made, saved as JSON with every run."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import cattrs

from sa_lab.dials import markdown, non_negative, positive, require, settle, share, whole_seed
from sa_lab.disk import DamagedFileError, checksum, read_json, write_text

Dataset = Literal["synthetic", "thermal", "roadscene", "folder", "manifest", "sysu", "regdb", "llcm"]
Style = Literal["console", "markdown", "latex", "csv", "html"]
"""What a table is written for."""
LAYOUTS = ("sysu", "regdb", "llcm")
"""Published data sets: they have a layout, protocols and person ids of their own, which a drawn copy shares."""
REGDB_SPLITS = 10
"""RegDB is divided into training and test in ten ways, each a training of its own."""
NUM_TRIALS = 10
"""Galleries that SYSU-MM01 and LLCM average over; so many permutations has SYSU-MM01's own file."""
Augmentation = Literal["none", "light", "random_linear", "channel_mix"]
Resize = Literal["lanczos", "bicubic", "bilinear"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2")
"""Those of torchvision."""


def _reason(error: BaseException, kind: Any) -> str:
    """What is wrong with a value of a config file; our own checks say it themselves."""
    return str(error) if isinstance(error, ValueError) else cattrs.v.format_exception(error, kind)


@dataclass(frozen=True)
class DataConfig:
    """Which images, at what size, and which identities are held back."""

    dataset: Dataset = "thermal"
    """Where the images come from; thermal and synthetic are drawn on the spot, the others are read from root."""
    root: str | None = None
    """Folder of the data set on disk, or the table of a manifest, made absolute; needed by all but synthetic and
    thermal."""
    split: int = 1
    """Which of the ten splits into training and test, 1..10; regdb only."""
    height: int = 64
    """Height of the stored images in pixels."""
    width: int = 32
    """Width of the stored images in pixels."""
    resize: Resize = "lanczos"
    """Filter that brings images to this size; reference, AGW, MMN and DEEN use lanczos, and results depend on it."""
    thermal_range: tuple[float, float] | None = None
    """Values that become black and white in images with more than eight bits; none: the 1st and 99th percentile over
    all such images of the data set."""
    test_fraction: float = 1 / 3
    """Share of the identities kept for testing; only for folder, and for manifest without a column split."""
    train_ids: int = 200
    """Identities for training and validation; synthetic and thermal only."""
    test_ids: int = 80
    """Identities for testing; synthetic and thermal only."""
    images_per_camera: int = 4
    """Images of an identity in each camera; synthetic and thermal only."""
    nir_share: float = 0.65
    """How much of a garment's near-infrared brightness follows its visible luminance, 0..1; synthetic only. The lower,
    the less the two spectra have in common; near 0 as with dyes that only the eye sees."""
    validation_fraction: float = 0.2
    """Share of the training identities held back for model selection, 0 for none."""
    seed: int = 0
    """Seed of the drawings, the crops and the split."""

    def __post_init__(self) -> None:
        settle("data.", self)
        if self.root is not None:
            object.__setattr__(self, "root", str(Path(self.root).expanduser().absolute()))  # wherever the run is read
        splits = REGDB_SPLITS if self.dataset == "regdb" else 1
        require(
            "data", height=positive(self.height, 8192), width=positive(self.width, 8192), seed=whole_seed(self.seed),
            train_ids=positive(self.train_ids, 100_000), test_ids=positive(self.test_ids, 100_000),
            split=(self.split, self.split in range(1, splits + 1), f"1..{splits} for {self.dataset}"),
            images_per_camera=positive(self.images_per_camera, 1000),
            validation_fraction=share(self.validation_fraction),
            nir_share=(self.nir_share, 0 <= self.nir_share <= 1, "a share in [0, 1]"),
            test_fraction=(self.test_fraction, 0 <= self.test_fraction <= 1, "a share in [0, 1]"),
            thermal_range=(self.thermal_range, self.thermal_range is None or _rises(self.thermal_range),
                           "two numbers, the first one lower"),
            root=(self.root, self.root is not None or self.dataset in ("synthetic", "thermal"),
                  f"the {'table' if self.dataset == 'manifest' else 'folder'} of the {self.dataset} data set"),
        )  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """The two-stream network."""

    backbone: str = "mobilenet_v2"
    """Network whose first block is doubled, one stem per spectrum: resnet18, resnet34, resnet50, resnet101 or
    mobilenet_v2 of torchvision; timm/NAME for ResNets, ConvNeXts, EfficientNets and vision transformers of timm (extra
    `timm`); or FILE.py:FUNCTION, see `sa_lab.backbones.two_streams`."""
    num_parts: int = 4
    """Horizontal parts P of the pooled feature map."""
    weights: str = "offline"
    """Where the network starts: offline (ImageNet weights of mobilenet_v2 from the extra `offline`), imagenet (cache or
    download of torchvision or timm, then offline), random, the path of a state file, or a run's model.pt, which also
    brings neck, classifier and prototypes if parts and images are the same."""

    def __post_init__(self) -> None:
        settle("model.", self)
        file, mark, name = self.backbone.rpartition(":")
        own = bool(mark) and file.endswith(".py") and name.isidentifier()
        if own:  # wherever the run is read
            object.__setattr__(self, "backbone", f"{Path(file).expanduser().absolute()}:{name}")
        if Path(self.weights).name == "model.pt":
            object.__setattr__(self, "weights", str(Path(self.weights).expanduser().absolute()))
        require(
            "model", num_parts=positive(self.num_parts, 1024),
            backbone=(self.backbone, own or self.backbone in BACKBONES or self.backbone.startswith("timm/"),
                      f"one of {', '.join(BACKBONES)}, timm/NAME, or FILE.py:FUNCTION"),
        )  # fmt: skip


@dataclass(frozen=True)
class LossConfig:
    """Weights of the feature objective L = (1 - sas_weight) L_id + sas_weight L_sa + similarity_weight L_as, or of the
    terms that are named in place of these."""

    sas_weight: float = 0.7
    """Share of SA-Softmax in the classification loss, 0..1; 0 with similarity_weight 0 is the softmax baseline."""
    similarity_weight: float = 1.0
    """Weight of the absolute-similarity term, at least 0."""
    mask_value: float = 50.0
    """Feature Mask: what is taken off the logit of the own prototype, 0..inf; 0 switches the mask off."""
    warmup_steps: int = 60
    """Number of first steps in which the network follows L_id alone while the prototypes already learn."""
    asynchronous: bool = True
    """Prototypes follow their own loss in a separate step; if off, they follow L together with the network and swap
    sides, which shows what the asynchronous scheme is for."""
    terms: str = ""
    """Terms by name and weight in place of the three above, such as "identity 1 + triplet 0.5"; with
    "identity 0.3 + sa_softmax 0.7 + absolute 1" the objective is that of the paper."""
    margin: float | None = None
    """Margin of the triplets (in units of the features), of cosface (a cosine) or of arcface (radians); none: as in
    their papers, 0.3, 0.35 and 0.5."""
    temperature: float = 0.1
    """Temperature of the contrastive term; above 0."""
    scale: float = 64.0
    """For cosface and arcface, the length that embeddings are scaled to; for running-mean prototypes, their logit at
    cosine 1 with an embedding of usual length; above 0."""
    own: str = ""
    """Name and digest of a loss of your own, the term "own"; `sa_lab.experiment.run` sets it from its argument
    ``own_loss``."""
    target: Literal["cross", "own"] = "cross"
    """Which prototype draws a sample: cross, the other spectrum's; own, that of its own spectrum. The mask is taken off
    the logit of the one that does not draw. With own and mask 0, L_sa is a classifier of 2C classes, which shows what
    crossing is for."""
    prototypes: Literal["learned", "no_rival", "running_mean"] = "learned"
    """What prototypes follow: learned, L_p; no_rival, L_p without the other spectrum's prototype of the same identity
    as a negative; running_mean, no loss but the mean of their own samples' embeddings, scaled to ``scale``."""

    def __post_init__(self) -> None:
        settle("loss.", self)
        require(
            "loss", sas_weight=(self.sas_weight, 0 <= self.sas_weight <= 1, "a share in [0, 1]"),
            similarity_weight=non_negative(self.similarity_weight),
            mask_value=(self.mask_value, self.mask_value >= 0, "a number of at least 0, or inf"),
            warmup_steps=non_negative(self.warmup_steps),
            margin=non_negative(self.margin or 0.0), temperature=positive(self.temperature), scale=positive(self.scale),
        )  # fmt: skip
        weights = self.weights()
        if self.own and not weights.get("own"):
            raise ValueError(
                f"loss.terms is {self.terms!r}, expected one with the term own, which says how much of the identity "
                "loss stays beside a loss of one's own: 'identity 1 + own 1'"
            )
        if weights.get("arcface") and (self.margin or 0.0) >= math.pi:
            raise ValueError(f"loss.margin is {self.margin}, expected an angle below pi for arcface")
        if not self.asynchronous and self.prototypes != "learned":
            raise ValueError(f"loss.prototypes is {self.prototypes!r}, expected learned: loss.asynchronous is off")

    def weights(self) -> dict[str, float]:
        """The weight of each term of the feature objective.

        Raises:
            ValueError: ``terms`` is no sum of names in `TERMS` and weights.
        """
        if not self.terms:
            return {
                "identity": 1 - self.sas_weight, "sa_softmax": self.sas_weight, "absolute": self.similarity_weight
            }  # fmt: skip
        weights: dict[str, float] = {}
        for part in self.terms.split("+"):
            name, *weight = part.split() or [""]
            if name not in TERMS or name in weights or len(weight) > 1 or not _is_weight(*weight):
                raise ValueError(
                    f"loss.terms has {part.strip()!r}, expected a name, once, and a weight of at least 0, joined by +; "
                    f"the names are {', '.join(TERMS)}"
                )
            weights[name] = float(*weight) if weight else 1.0
        if not any(weights.values()):
            raise ValueError(f"loss.terms is {self.terms!r}, expected at least one weight above 0")
        return weights

    def margin_of(self, term: str) -> float:
        """The margin of a term: ``margin``, or that of its paper."""
        return _MARGINS[term] if self.margin is None else self.margin

    def plain(self) -> LossConfig:
        """The same loss, its margin left out if it is that of its paper."""
        own = {_MARGINS[term] for term, weight in self.weights().items() if weight and term in _MARGINS}
        return replace(self, margin=None) if own == {self.margin} else self

    def follows_prototypes(self) -> bool:
        """Whether a term looks at the prototypes, which then have to be warm; a loss of one's own may."""
        weights = self.weights()
        return any(weights.get(name) for name in _FOLLOWING)

    def unused(self) -> tuple[str, ...]:
        """Dials that do not affect this loss, such as the mask for softmax or the margin for SA-Softmax."""
        weights = {name for name, weight in self.weights().items() if weight}
        users = {
            "mask_value": {"sa_softmax"}, "margin": set(_MARGINS), "temperature": {"contrastive"},
            "scale": {"cosface", "arcface"} | (_FOLLOWING if self.prototypes == "running_mean" else set()),
            "warmup_steps": _FOLLOWING, "prototypes": _FOLLOWING, "target": {"sa_softmax", "absolute"},
        }  # fmt: skip
        alone = ("sas_weight", "similarity_weight") if self.terms else ()
        return (*alone, *(dial for dial, terms in users.items() if not weights & terms))


def _rises(bounds: tuple[float, ...]) -> bool:
    return len(bounds) == 2 and -math.inf < bounds[0] < bounds[1] < math.inf


TERMS = (
    "identity", "sa_softmax", "absolute", "triplet", "cross_triplet", "weighted_triplet", "hetero_center",
    "hetero_center_triplet", "contrastive", "center", "mmd", "cosface", "arcface", "own",
)  # fmt: skip
"""Terms of an objective: the paper's three, those of `sa_lab.baselines`, and a loss of one's own."""
_FOLLOWING = {"sa_softmax", "absolute", "own"}
"""Terms that look at the prototypes; a loss of one's own may."""
_MARGINS = {"triplet": 0.3, "cross_triplet": 0.3, "hetero_center_triplet": 0.3, "cosface": 0.35, "arcface": 0.5}
"""Margins of the terms that have one, as in their papers."""


def _is_weight(text: str = "1") -> bool:
    """Whether a text is a number from 0 to a million."""
    try:
        return 0 <= float(text) <= 1e6
    except ValueError:
        return False


@dataclass(frozen=True)
class TrainConfig:
    """Batches, optimisers and schedule."""

    ids_per_batch: int = 32
    """Identities in a batch."""
    images_per_id: int = 1
    """Images of an identity in a batch, in each modality."""
    num_epochs: int = 8
    """Epochs."""
    steps_per_epoch: int | None = 40
    """Iterations in an epoch; none: enough to draw max(#visible, #infrared) images of each modality."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Optimiser of the network and of the prototypes; sgd has Nesterov momentum 0.9."""
    backbone_lr: float = 2e-3
    """Learning rate of stems and trunk."""
    head_lr: float = 1e-3
    """Learning rate of neck and classifier."""
    prototype_lr: float = 2e-3
    """Learning rate of the modality prototypes."""
    weight_decay: float = 5e-4
    """Weight decay."""
    milestones: tuple[int, ...] = (6,)
    """Epochs after which all learning rates are multiplied by 0.1."""
    augmentation: Augmentation = "light"
    """none; light: flip and pad-crop; random_linear: the reference's flip, RandomLinear and Random Erasing;
    channel_mix: flip, pad-crop, channel mixing of visible images and Random Erasing."""
    eval_every: int = 0
    """Epochs between evaluations on the validation identities; 0: after the last epoch only."""
    checkpoint_every: int = 1
    """Epochs between checkpoints."""
    num_probes: int = 9
    """How often the descriptors of a fixed set of people are saved, evenly spread from before the first step to after
    the last, to see how they move; 0 for never."""
    reuse_features: bool = False
    """The prototype step reuses the features of the first forward, without a second one: faster, not the paper's."""
    sync_batch_norm: bool = False
    """On several GPUs, use batch statistics of the whole batch instead of each GPU's share."""
    precision: Precision = "32-true"
    """Numeric precision; 16-mixed scales the losses, for GPUs that have no bfloat16 (V100, T4)."""
    device: Device = "auto"
    """Where to compute; auto takes the best available device."""
    threads: int = 1
    """CPU threads of torch; 0 leaves torch's own choice."""
    log: Literal["none", "tensorboard"] = "none"
    """Where else the rows of metrics.csv go; tensorboard: into the run's folder, with the extra `tensorboard`."""

    def __post_init__(self) -> None:
        settle("train.", self)
        steps = self.steps_per_epoch
        require(
            "train", ids_per_batch=positive(self.ids_per_batch), images_per_id=positive(self.images_per_id),
            num_epochs=positive(self.num_epochs),
            steps_per_epoch=(steps, steps is None or 0 < steps <= 1_000_000, "a number of 1 to 1,000,000, or none"),
            backbone_lr=non_negative(self.backbone_lr), head_lr=non_negative(self.head_lr),
            prototype_lr=non_negative(self.prototype_lr),
            weight_decay=non_negative(self.weight_decay), eval_every=non_negative(self.eval_every),
            num_probes=(self.num_probes, self.num_probes in (0, *range(2, 1001)), "0, or a number of 2 to 1000"),
            checkpoint_every=positive(self.checkpoint_every),
            threads=(self.threads, 0 <= self.threads <= 1024, "0 (torch's own choice) to 1024"),
            milestones=(self.milestones, sorted(self.milestones) == list(self.milestones), "epochs in rising order"),
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class ExperimentConfig:
    """One run: data, model, loss, training and the seed of everything that is drawn in training."""

    data: DataConfig = field(default_factory=DataConfig)
    """Images and splits."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Network."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Objective."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Optimisation."""
    seed: int = 0
    """Seed of initial weights, batches and augmentation."""

    def __post_init__(self) -> None:
        settle("", self)
        require("config", seed=whole_seed(self.seed))

    def __repr__(self) -> str:
        return f"ExperimentConfig({', '.join(f'{name}={value!r}' for name, value in self.changed().items())})"

    def _repr_markdown_(self) -> str:
        """What a notebook shows: the dials that are not those of the preset tiny."""
        rows = [f"| {name} | {markdown(value)} |" for name, value in self.changed().items()]
        return "\n".join(["The preset tiny, but for", "", "| dial | value |", "|---|---|", *(rows or ["| - | - |"])])

    def flat(self) -> dict[str, Any]:
        """All dials by their dotted name."""
        return _flat(asdict(self))

    def changed(self) -> dict[str, Any]:
        """The dials that differ from the preset tiny, by their dotted name."""
        mine, usual = _flat(asdict(self)), _flat(asdict(ExperimentConfig()))
        return {name: value for name, value in mine.items() if value != usual[name]}

    def replace(self, dials: str | Mapping[str, Any], value: Any = None) -> ExperimentConfig:
        """This config with some dials changed, named with dots, as in ``replace("loss.mask_value", 0)``.

        Args:
            dials: the name of one, or several with their values; a value may be a mapping of dials itself.
            value: of a single one.

        Raises:
            ValueError: there is no such dial, or the value does not fit.
        """
        given = _flat({dials: value} if isinstance(dials, str) else dials)
        nested = asdict(self)
        if unknown := [name for name in given if name not in _flat(nested)]:
            raise ValueError(f"there is no dial {', '.join(unknown)}, expected some of {', '.join(_flat(nested))}")
        for name, new in given.items():
            *group, dial = name.split(".")
            (nested[group[0]] if group else nested)[dial] = new
        return structured(nested, "config")

    def dials(self) -> dict[str, Any]:
        """Everything that can change a result, as plain values: all but the place of the images and the logger."""
        dials = asdict(self)
        dials["data"]["root"], dials["train"]["log"] = None, "none"
        return dials

    def changes_from(self, dials: Mapping[str, Any]) -> str:
        """Where other `dials` differ, with both values: "loss.mask_value 50.0 there, 0.0 here"; empty for none."""
        there, here = _flat(_current(dials)), _flat(self.dials())
        names = [name for name in here | there if _listed(there.get(name)) != _listed(here.get(name))]
        return "; ".join(f"{name} {there.get(name)} there, {here.get(name)} here" for name in names)

    def seeded(self, seed: int) -> ExperimentConfig:
        """This config with other people, images and split as well as other weights and batches, so that an interval
        over seeds covers all of them; for a data set on disk, with another split of its people for validation."""
        return replace(self, seed=seed, data=replace(self.data, seed=seed))

    def digest(self) -> str:
        """Eight hexadecimal digits that change with any of `dials`."""
        return hashlib.sha256(json.dumps(self.dials(), sort_keys=True).encode()).hexdigest()[:8]

    def save(self, path: Path) -> None:
        """Write as JSON, atomically, with a sum of all but the place of the images, which may be changed by hand."""
        values = asdict(self)
        write_text(path, json.dumps({**values, _SUM: _sum_without_root(values)}, indent=2))

    @classmethod
    def load(cls, path: Path) -> ExperimentConfig:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not as it was written, has unknown keys or values out of range.
        """
        values = read_json(Path(path))
        if (known := values.pop(_SUM, None)) not in (None, _sum_without_root(values)):
            raise DamagedFileError(f"{path} is damaged, or its dials were edited: their checksum is not {known}")
        data = values.get("data")
        if isinstance(data, dict):
            data.setdefault("resize", "bilinear")  # as 0.5.0 did, which had no such dial
        return structured(values, str(path))


def kinds_of_dials() -> dict[str, Any]:
    """The type of each dial, by its name with dots."""
    groups = {"data.": DataConfig, "model.": ModelConfig, "loss.": LossConfig, "train.": TrainConfig}
    kinds = {f"{group}{name}": kind for group, one in groups.items() for name, kind in get_type_hints(one).items()}
    return {**kinds, "seed": int}


_SUM = "dials_xxh3"


def _sum_without_root(values: dict[str, Any]) -> str:
    data = values.get("data")
    return checksum(values | ({"data": data | {"root": None}} if isinstance(data, dict) else {}))


def structured(values: Any, source: str) -> ExperimentConfig:
    """A config from plain values; ``source``: what an error calls them."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    # the dials look at their values themselves: cattrs would make 2 of 2.5
    converter.register_structure_hook_func(
        lambda kind: not is_dataclass(kind), lambda value, _: tuple(value) if isinstance(value, list) else value
    )
    for plain in (int, bool, str):
        converter.register_structure_hook(plain, lambda value, _: value)
    converter.register_structure_hook(float, lambda value, _: float(value) if type(value) is int else value)
    try:
        return converter.structure(_current(values), ExperimentConfig)
    except cattrs.BaseValidationError as error:
        reasons = cattrs.transform_error(error, format_exception=_reason)
        told = "; ".join(re.sub(r" @ \$\.?(\w*)$", _place, one) for one in reasons)
        # without its causes, a tree of exceptions that a notebook would show in place of the reason
        raise ValueError(f"{source}: {told}") from None


def _place(found: re.Match[str]) -> str:
    """Where a fault is, for those that do not say it themselves."""
    itself = found.string.startswith(f"{found[1]}.") or not found[1]
    return "" if itself else f" in {found[1]}"


def _current(values: Any) -> Any:
    """Nested dials without those that 0.5.0 had besides, as they were unless they were changed."""
    if isinstance(values, dict) and isinstance(train := values.get("train"), dict):
        retired = (("sample_rate", 1.0), ("compile", False))
        values = values | {"train": {name: value for name, value in train.items() if (name, value) not in retired}}
    loss = values.get("loss") if isinstance(values, dict) else None
    if isinstance(loss, dict) and loss.get("own") and "terms" not in loss:  # it stood beside 1 - sas_weight of L_id
        rest = 1 - float(loss.get("sas_weight", LossConfig.sas_weight))
        values = values | {"loss": {**loss, "terms": f"identity {rest:g} + own 1"}}
    return values


def _listed(value: Any) -> Any:
    """Tuples as the lists that they become in a file."""
    return list(value) if isinstance(value, tuple) else value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dials by their name with dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def read_dials(path: Path) -> dict[str, Any]:
    """The dials that a JSON or YAML file names, nested or with dots; all others are left as they are.

    Raises:
        ValueError: the file is neither, or holds no mapping.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        dials = _current(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON or YAML: {' '.join(str(error).split())}") from error
    if isinstance(dials, dict):
        dials.pop(_SUM, None)  # of a run; here its dials are to be changed
    if not isinstance(dials, dict) or not all(isinstance(name, str) for name in dials):
        raise ValueError(f"{path} holds {type(dials).__name__}, expected dials by name, as in a run's config.json")
    return dials


def _small() -> ExperimentConfig:
    return ExperimentConfig(
        data=DataConfig(height=128, width=64),
        model=ModelConfig(backbone="resnet18", num_parts=6, weights="imagenet"),
        train=TrainConfig(
            num_epochs=30, steps_per_epoch=None, ids_per_batch=16, images_per_id=4, milestones=(20,), eval_every=5,
            backbone_lr=3e-4, head_lr=2e-3, augmentation="channel_mix", threads=0,
        ),
    )  # fmt: skip


def _paper() -> ExperimentConfig:
    return ExperimentConfig(
        data=DataConfig(height=384, width=192, validation_fraction=0.0),
        model=ModelConfig(backbone="resnet50", num_parts=12, weights="imagenet"),
        loss=LossConfig(warmup_steps=0),
        train=TrainConfig(
            ids_per_batch=8, images_per_id=8, num_epochs=101, steps_per_epoch=None, optimizer="sgd",
            backbone_lr=0.001, head_lr=0.01, prototype_lr=0.01,
            milestones=(40, 80), augmentation="random_linear", eval_every=10, threads=0,
        ),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], ExperimentConfig]] = {"tiny": ExperimentConfig, "small": _small, "paper": _paper}
"""tiny: one CPU core, minutes; small: one GPU, minutes; paper: the reference's recipe, but for two things: an epoch of
the reference has one more batch, floor(N/64) + 1, and it draws the images of an identity with replacement, so that
nearly every batch has some image twice; ours draws without replacement, in rounds."""

VariantName = Literal[
    "softmax", "no_mask", "no_absolute", "complete", "synchronous", "own_target", "no_rival", "running_mean", "mask_5",
    "mask_500", "triplet", "cross_triplet", "weighted_triplet", "hetero_center",
    "hetero_center_triplet", "contrastive", "center", "mmd", "cosface", "arcface",
]  # fmt: skip

VARIANTS: dict[VariantName, dict[str, float | str]] = {
    "softmax": {"sas_weight": 0.0, "similarity_weight": 0.0},
    "no_mask": {"mask_value": 0.0},
    "no_absolute": {"similarity_weight": 0.0},
    "complete": {},
    "synchronous": {"asynchronous": False},
    "own_target": {"target": "own", "mask_value": 0.0},
    "no_rival": {"prototypes": "no_rival"},
    "running_mean": {"prototypes": "running_mean"},
    "mask_5": {"mask_value": 5.0},
    "mask_500": {"mask_value": 500.0},
    "triplet": {"terms": "identity 1 + triplet 1"},
    "cross_triplet": {"terms": "identity 1 + cross_triplet 1"},
    "weighted_triplet": {"terms": "identity 1 + weighted_triplet 1"},
    "hetero_center": {"terms": "identity 1 + hetero_center 4"},
    "hetero_center_triplet": {"terms": "identity 1 + hetero_center_triplet 1"},
    "contrastive": {"terms": "identity 1 + contrastive 1"},
    "center": {"terms": "identity 1 + center 0.003"},
    "mmd": {"terms": "identity 1 + mmd 1"},
    "cosface": {"terms": "cosface 1"},
    "arcface": {"terms": "arcface 1"},
}
"""Losses by name: what each changes in `LossConfig`. First the paper's, then SA-Softmax with one piece changed, then
those of the field with the weights of their papers, where these give any: center 0.003; hetero-center 0.5 times the 8
identities of its paper's batches, because it is a mean here."""
PAPER: tuple[VariantName, ...] = ("softmax", "no_mask", "no_absolute", "complete")
"""The four losses of the study."""
PIECES: tuple[VariantName, ...] = (
    "complete", "synchronous", "own_target", "running_mean", "no_rival", "no_mask", "mask_5", "mask_500", "no_absolute",
)  # fmt: skip
"""SA-Softmax and its variants with one piece changed, to see what each piece is for."""


def variant(config: ExperimentConfig, name: VariantName) -> ExperimentConfig:
    """``config`` with the loss ``name`` of `VARIANTS`; dials that it does not use get their usual values, so that
    softmax is one config whatever the mask was.

    Raises:
        ValueError: no such variant.
    """
    if name not in VARIANTS:
        raise ValueError(f"variant is {name!r}, expected one of {', '.join(VARIANTS)}")
    loss = replace(config.loss, **{"terms": "", "own": "", **VARIANTS[name]})  # type: ignore[arg-type]
    named = VARIANTS[name]
    usual = {dial: getattr(LossConfig(), dial) for dial in loss.unused() if dial not in named}
    return replace(config, loss=replace(loss, **usual))
