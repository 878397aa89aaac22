"""Methods side by side: runs and evaluated descriptors in tables, several seeds or RegDB's splits as one method."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sa_lab.analysis import DEFINITIONS, OF_IMAGES
from sa_lab.config import REGDB_SPLITS, Style
from sa_lab.dials import plain
from sa_lab.disk import read_json
from sa_lab.evaluation.reports import Report
from sa_lab.intervals import Interval, student_interval
from sa_lab.reporting import tables
from sa_lab.reporting.studies import ONE_MACHINE
from sa_lab.runs import Measuring, Run, loss_name, measure_folder, source_of
from sa_lab.schema import LeakageError


def tables_of(folders: Sequence[Path], style: Style = "markdown", measure: Measuring = measure_folder) -> str:
    """Retrieval under every protocol that the methods share, published results beside, and overlap.

    Args:
        folders: of finished runs, or of evaluated descriptors and checkpoints.
        style: of the tables. In CSV it is one table, with protocol, re-ranking and data set as columns; in LaTeX what
            is not a table is a comment, in HTML a paragraph.
        measure: gives the overlap of a folder.

    Raises:
        ValueError: a folder is given twice, or the methods share no protocol, data set and splits.
        LeakageError: one checkpoint stands for several splits.
    """
    named = methods(folders)
    reports: dict[tuple[str, ...], dict[str, list[Report]]] = {}
    for name, group in named.items():
        for rules, reports_of in _by_rules(group).items():
            reports.setdefault(rules, {})[name] = reports_of
    shared = [reports_of for reports_of in reports.values() if len(reports_of) == len(named)]
    if not shared:
        answered = "; ".join(sorted(" ".join(filter(None, rules)) for rules in reports))
        raise ValueError(f"the methods share no protocol on the same data set and splits, but answer {answered}")
    parts: list[str | list[tables.TableRow]] = []
    lines: list[tables.TableRow] = []
    for table in shared:
        first = next(iter(table.values()))
        whole = (
            first[0].protocol["split"] is None or len({r.protocol["split"] for r in first}) == REGDB_SPLITS
        )  # as published results are
        rows = tables.with_published(tables.retrieval(table), tables.published_results(first[0]) if whole else [])
        parts += [f"Protocol: {tables.title(first)}.", rows]
        keys = {
            "protocol": tables.protocol_family(first[0]),
            "re-ranking": first[0].reranking,
            "dataset": first[0].dataset,
        }
        lines += [keys | dict(row) for row in rows]
    if style == "csv":
        return tables.render(lines, style)
    runs = {name: group for name, group in named.items() if (group[0] / "config.json").is_file()}
    own = [folder for group in runs.values() for folder in group]
    if runs:
        parts += [
            "How far the spectra overlap on the test identities (prototypes: of those trained on), with 95 % bootstrap "
            "over identities; of several runs with Student's t over these:",
            [_overlap_row(name, group, measure) for name, group in runs.items()],
        ]
    legend = (
        "In %. Of one training: mean ± sample deviation over trials [95 % bootstrap over identities]; it says nothing "
        "about other seeds. Of several seeds: mean ± sample deviation over them [95 % of Student's t]. Of several "
        f"splits: mean ± sample deviation over splits.{_machines(own)}"
    )
    return "\n\n".join(
        _words(part, style) if isinstance(part, str) else tables.render(part, style) for part in [legend, *parts]
    )


def _machines(folders: Sequence[Path]) -> str:
    """Backbones, and what decides the digits of runs besides their seeds, as far as they say so."""
    files = [folder / "made_of.json" for folder in folders]
    made = [read_json(file) for file in files if file.is_file()]
    told = sorted({f"torch {one['torch']}, vector level {one['cpu']}" for one in made if "cpu" in one})
    backbones = {Run(folder).config.model.backbone for folder in folders}
    named = sorted(one.rpartition("/")[2] if ".py:" in one else one for one in backbones)
    network = f" Backbone: {', '.join(named)}." if named else ""
    return network + (f" Trained with {' and with '.join(told)}. {ONE_MACHINE}" if told else "")


def methods(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The folders by method: runs that differ only in their seed, and perhaps in the people that it drew, or in RegDB's
    split, form one method, in the order of the splits.

    Raises:
        ValueError: a folder, or a split of a method, is given twice.
        LeakageError: one checkpoint stands for several splits.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"a folder is given twice: {', '.join(map(str, folders))}")
    groups: dict[tuple[str, ...], list[_Member]] = {}
    named = [_member(folder) for folder in folders]
    same_people = {member.method for member in named if not member.drawn}
    for member in named:
        key = member.drawn if member.drawn and member.method not in same_people else member.method
        groups.setdefault(key, []).append(member)
    members = list(groups.values())
    whole = [group for group in members if len(group) > 1 or group[0].split is not None]
    known = [group[0].label for group in whole] + [group[0].alone for group in members if group not in whole]
    titled: dict[str, list[Path]] = {}
    for group in members:
        group.sort(key=lambda member: (member.split or 0, member.seed or 0))
        for one, other in itertools.pairwise(group):
            if (one.split, one.seed) == (other.split, other.seed):
                which = f", split {one.split}" if one.split else f", seed {one.seed}"
                raise ValueError(
                    f"{one.folder} and {other.folder} are both {one.label}{which}; expected each split once"
                )
        if len({source_of(member.folder).get("sha256", str(member.folder)) for member in group}) < len(group):
            raise LeakageError(
                f"{group[0].label}: one checkpoint stands for several splits; each split needs a training of its own"
            )
        splits, seeds = ({getattr(member, name) for member in group} for name in ("split", "seed"))
        counted = [f"{len(splits)} splits"] * (len(splits) > 1) + [f"{len(seeds)} seeds"] * (len(seeds) > 1)
        if group in whole:
            unlike = "" if known.count(group[0].label) == 1 else "".join(f", {word[:8]}" for word in group[0].method)
            seed = f", seed {group[0].seed}" if len(seeds) == 1 and None not in seeds else ""
            name = f"{group[0].label}{seed}{unlike}" + (f" ({', '.join(counted)})" if counted else "")
        else:
            name = group[0].alone if known.count(group[0].alone) == 1 else str(group[0].folder)
        titled[name] = [member.folder for member in group]
    return titled


class _Member(NamedTuple):
    """A folder as one of those that a method has.

    Attributes:
        method: what all of them share.
        label: what a table calls them.
        split: of the data set; None where there is one only.
        seed: of the training; None where nobody knows.
        folder: itself.
        drawn: what its method is called if the seed has drawn people as well, see `ExperimentConfig.seeded`.
    """

    method: tuple[str, ...]
    label: str
    split: int | None
    seed: int | None
    folder: Path
    drawn: tuple[str, ...] = ()

    @property
    def alone(self) -> str:
        """What a table calls it where it is the only one: a run by its folder."""
        return self.label if self.seed is None else self.folder.name


def _member(folder: Path) -> _Member:
    if source := source_of(folder):
        split = source["split"] if isinstance(source["split"], int) else None
        method = str(source["method"])
        alone = () if split is not None else (str(folder),)
        return _Member((method, *alone), method, split, None, folder)
    if not (folder / "config.json").is_file():
        return _Member((str(folder),), folder.name, None, None, folder)
    config = Run(folder).config
    made = read_json(folder / "made_of.json") if (folder / "made_of.json").is_file() else {}
    same = replace(config, data=replace(config.data, split=1), seed=0)
    others = replace(same, data=replace(same.data, seed=0))
    regdb = config.data.dataset == "regdb"
    drawn = str(made.get("code")), str(config.data.root), others.digest()
    images = "" if regdb else str(made.get("data"))  # each split of RegDB has its own
    return _Member(
        (str(made.get("code")), images, same.digest()), f"{config.data.dataset}, {loss_name(config)}",
        config.data.split if regdb else None, config.seed, folder,
        drawn if config.seed == config.data.seed else (),
    )  # fmt: skip


def _by_rules(group: Sequence[Path]) -> dict[tuple[str, ...], list[Report]]:
    """The reports of a method by protocol, re-ranking, data set and splits."""
    by_rules: dict[tuple[str, ...], list[Report]] = {}
    for report in (report for folder in group for report in Report.load_all(folder)):
        by_rules.setdefault((tables.protocol_family(report), report.reranking, report.dataset), []).append(report)
    splits = {
        rules: ", ".join(dict.fromkeys(str(r.protocol["split"] or "") for r in reports))
        for rules, reports in by_rules.items()
    }
    return {(*rules, splits[rules] and f"splits {splits[rules]}"): reports for rules, reports in by_rules.items()}


def _words(text: str, style: Style) -> str:
    text = plain(text)
    return f"<p>{escape(text)}</p>" if style == "html" else f"% {text}" if style == "latex" else text


def _overlap_row(name: str, folders: Sequence[Path], measure: Measuring) -> tables.TableRow:
    """A method's overlap: of one run with its bootstrap over identities, of several with Student's t over them."""
    per_run = []
    for folder in folders:
        measured = measure(folder)
        of_prototypes = {k: v for k, v in measured.get("training", {}).items() if k not in OF_IMAGES}
        per_run.append(of_prototypes | dict(measured["unseen"]))  # only people trained on have prototypes
    shared = [key for key in per_run[0] if all(key in one for one in per_run)]
    joined = {key: _over_runs([one[key] for one in per_run], key) for key in shared}
    configs = [Run(folder).config for folder in folders]
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(config.seed for config in configs))
    return {"run": name, "loss": loss_name(configs[0]), "seed": seeds, **tables.overlap_columns(joined)}


def _over_runs(intervals: Sequence[Interval], name: str) -> Interval:
    if len(intervals) == 1:
        return intervals[0]
    return Interval(**student_interval(np.array([one.mean for one in intervals]), DEFINITIONS[name].limits))
