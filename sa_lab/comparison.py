"""Methods side by side: runs and evaluated descriptors in tables, ten RegDB trainings as one method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from sa_lab import experiment, overlap, tables
from sa_lab.analysis import DEFINITIONS
from sa_lab.config import REGDB_SPLITS
from sa_lab.evaluation import evaluate
from sa_lab.protocols import protocols_of
from sa_lab.reports import Report
from sa_lab.reports import compare as compare_reports
from sa_lab.schema import LeakageError


def compare(folders: Sequence[Path], style: tables.Style = "markdown") -> str:
    """Retrieval under every protocol that the methods share, published results beside, and overlap.

    Args:
        folders: of finished runs, or of evaluated descriptors and checkpoints.
        style: of the tables. In CSV it is one table, with protocol, re-ranking and data set as columns; in LaTeX what
            is not a table is a comment, in HTML a paragraph.

    Raises:
        ValueError: a folder is given twice, or the methods share no protocol, data set and splits.
        LeakageError: one checkpoint stands for several splits.
    """
    named = methods(folders)
    reports: dict[tuple[str, ...], dict[str, list[Report]]] = {}
    for name, group in named.items():
        for rules, found in _by_rules(group).items():
            reports.setdefault(rules, {})[name] = found
    shared = [found for found in reports.values() if len(found) == len(named)]
    if not shared:
        answered = "; ".join(sorted(" ".join(filter(None, rules)) for rules in reports))
        raise ValueError(f"the methods share no protocol on the same data set and splits, but answer {answered}")
    parts: list[str | list[tables.Row]] = []
    lines: list[tables.Row] = []
    for table in shared:
        first = next(iter(table.values()))
        whole = first[0].protocol["split"] is None or len(first) == REGDB_SPLITS  # as published results are
        rows = tables.together(tables.retrieval(table), tables.published(first[0]) if whole else [])
        parts += [f"Protocol: {tables.title(first)}.", rows]
        keys = {"protocol": tables.family(first[0]), "re-ranking": first[0].reranking, "dataset": first[0].dataset}
        lines += [keys | dict(row) for row in rows]
    if style == "csv":
        return tables.render(lines, style)
    if own := [folder for folder in folders if (folder / "config.json").is_file()]:
        parts += [
            "How far the spectra overlap on the test identities (prototypes: of those trained on), with 95 % bootstrap "
            "over identities:",
            [_overlap_row(folder) for folder in own],
        ]
    legend = (
        "In %. Of one training: mean ± sample deviation over trials [95 % bootstrap over identities]; it says nothing "
        "about other seeds. Of several splits: mean ± sample deviation over splits."
    )
    return "\n\n".join(
        _words(part, style) if isinstance(part, str) else tables.render(part, style) for part in [legend, *parts]
    )


def report_card(runs: Mapping[str, experiment.Run], style: tables.Style = "markdown", progress: bool = True) -> str:
    """How designs of a loss compare on the validation identities, so that the test identities stay unseen.

    Args:
        runs: finished runs by name, trained and validated on the same identities; the first is the one to judge.
        style: of the tables.
        progress: show a bar.

    Returns:
        Retrieval and overlap of each, and the paired difference of the first to each other one, in words too.

    Raises:
        ValueError: a run held no identities back, or the runs differ in theirs.
    """
    found = {name: experiment.embed_validation(run, progress) for name, run in runs.items()}
    rules = [protocols_of(one.dataset, one.split)[0] for one in found.values()]
    graded = {name: evaluate(one, rule) for (name, one), rule in zip(found.items(), rules, strict=True)}
    (mine, own), *others = graded.items()
    count = f"{own.num_identities} validation identities"
    overlaps = [
        {"method": name, **_overlap(overlap.of_embeddings(one, only=overlap.QUICK))} for name, one in found.items()
    ]
    parts = [
        f"Retrieval of the {count}, in %; {tables.title([own])}.",
        tables.render(tables.retrieval({name: [report] for name, report in graded.items()}), style),
        "How far their spectra overlap (prototypes: of the training identities), with 95 % bootstrap over identities.",
        tables.render(overlaps, style),
    ]
    for name, report in others:
        change = compare_reports(report, own)["mean_ap"]
        told = "higher" if change.low > 0 else "lower" if change.high < 0 else "not told apart"
        span = f"{100 * change.mean:+.1f} points [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
        parts.append(f"{mine} minus {name}: mAP {span}, {told} (paired, 95 % bootstrap over identities; one seed).")
    return "\n\n".join(parts)


def methods(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The folders by method: RegDB trainings that differ in their split alone are one, in the order of the splits.

    Raises:
        ValueError: a folder, or a split of a method, is given twice.
        LeakageError: one checkpoint stands for several splits.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"a folder is given twice: {', '.join(map(str, folders))}")
    known = [_method_and_split(folder) for folder in folders]
    groups: dict[str, dict[int, Path]] = {}
    for folder, (name, split) in zip(folders, known, strict=True):
        alone = split is not None or known.count((name, None)) == 1
        group = groups.setdefault(name if alone else str(folder), {})
        if (split or 0) in group:
            raise ValueError(
                f"{folder} and {group[split or 0]} are both {name}, split {split}; expected each split once"
            )
        group[split or 0] = folder
    for name, group in groups.items():
        sources = {_source(folder).get("sha256", str(folder)) for folder in group.values()}
        if len(sources) < len(group):
            raise LeakageError(
                f"{name}: one checkpoint stands for several splits; each split needs a training of its own"
            )
    titled = {f"{name} ({len(group)} splits)" if len(group) > 1 else name: group for name, group in groups.items()}
    return {name: [folder for _, folder in sorted(group.items())] for name, group in titled.items()}


def _by_rules(group: Sequence[Path]) -> dict[tuple[str, ...], list[Report]]:
    """The reports of a method by protocol, re-ranking, data set and splits."""
    found: dict[tuple[str, ...], list[Report]] = {}
    for report in (report for folder in group for report in Report.load_all(folder)):
        found.setdefault((tables.family(report), report.reranking, report.dataset), []).append(report)
    splits = {rules: ", ".join(str(one.protocol["split"] or "") for one in reports) for rules, reports in found.items()}
    return {(*rules, splits[rules] and f"splits {splits[rules]}"): reports for rules, reports in found.items()}


def _words(text: str, style: tables.Style) -> str:
    return f"<p>{escape(text)}</p>" if style == "html" else f"% {text}" if style == "latex" else text


def _source(folder: Path) -> dict[str, str | int | None]:
    """What `sa-lab evaluate` noted of a checkpoint or of descriptors; nothing for a run."""
    file = folder / "source.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def _method_and_split(folder: Path) -> tuple[str, int | None]:
    """What the trainings of several splits have in common, and the split; None where there is one split only."""
    if source := _source(folder):
        return str(source["method"]), source["split"] if isinstance(source["split"], int) else None
    if not (folder / "config.json").is_file():
        return folder.name, None
    config = experiment.Run(folder).config
    if config.data.dataset != "regdb":
        return folder.name, None
    same = replace(config, data=replace(config.data, split=1))
    return f"regdb, {experiment.loss_name(config)}, seed {config.seed}, {same.digest()}", config.data.split


def _overlap_row(folder: Path) -> tables.Row:
    run, found = experiment.Run(folder), overlap.of_folder(folder, progress=False)
    quick = _overlap(found.get("training", {}) | found["unseen"])  # only people trained on have prototypes
    return {"run": folder.name, "loss": experiment.loss_name(run.config), "seed": str(run.config.seed), **quick}


def _overlap(found: overlap.Measures) -> dict[str, str | None]:
    """How far the spectra overlap, under the tables' titles; None where it cannot be measured."""
    return {DEFINITIONS[name].title: tables.interval(found.get(name)) for name in overlap.QUICK}
