"""Methods side by side: runs and evaluated descriptors in tables, ten RegDB trainings as one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from sa_lab.analysis import OF_IMAGES
from sa_lab.config import REGDB_SPLITS, Style
from sa_lab.dials import plain
from sa_lab.disk import read_json
from sa_lab.evaluation.reports import Report
from sa_lab.intervals import Interval
from sa_lab.reporting import tables
from sa_lab.reporting.studies import ONE_MACHINE
from sa_lab.runs import Measuring, Run, loss_name, measure_folder
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
        whole = first[0].protocol["split"] is None or len(first) == REGDB_SPLITS  # as published results are
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
    own = [folder for folder in folders if (folder / "config.json").is_file()]
    if own:
        parts += [
            "How far the spectra overlap on the test identities (prototypes: of those trained on), with 95 % bootstrap "
            "over identities:",
            [_overlap_row(folder, measure(folder)) for folder in own],
        ]
    legend = (
        "In %. Of one training: mean ± sample deviation over trials [95 % bootstrap over identities]; it says nothing "
        f"about other seeds. Of several splits: mean ± sample deviation over splits.{_machines(own)}"
    )
    return "\n\n".join(
        _words(part, style) if isinstance(part, str) else tables.render(part, style) for part in [legend, *parts]
    )


def _machines(folders: Sequence[Path]) -> str:
    """What decides the digits of runs besides their seeds, as far as they say so."""
    files = [folder / "made_of.json" for folder in folders]
    made = [read_json(file) for file in files if file.is_file()]
    told = sorted({f"torch {one['torch']}, vector level {one['cpu']}" for one in made if "cpu" in one})
    return f" Trained with {' and with '.join(told)}. {ONE_MACHINE}" if told else ""


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
    by_rules: dict[tuple[str, ...], list[Report]] = {}
    for report in (report for folder in group for report in Report.load_all(folder)):
        by_rules.setdefault((tables.protocol_family(report), report.reranking, report.dataset), []).append(report)
    splits = {rules: ", ".join(str(r.protocol["split"] or "") for r in reports) for rules, reports in by_rules.items()}
    return {(*rules, splits[rules] and f"splits {splits[rules]}"): reports for rules, reports in by_rules.items()}


def _words(text: str, style: Style) -> str:
    text = plain(text)
    return f"<p>{escape(text)}</p>" if style == "html" else f"% {text}" if style == "latex" else text


def _source(folder: Path) -> dict[str, str | int | None]:
    """What `sa-lab evaluate` noted of a checkpoint or of descriptors; nothing for a run."""
    file = folder / "source.json"
    return read_json(file) if file.is_file() else {}


def _method_and_split(folder: Path) -> tuple[str, int | None]:
    """What the trainings of several splits have in common, and the split; None where there is one split only."""
    if source := _source(folder):
        return str(source["method"]), source["split"] if isinstance(source["split"], int) else None
    if not (folder / "config.json").is_file():
        return folder.name, None
    config = Run(folder).config
    if config.data.dataset != "regdb":
        return folder.name, None
    same = replace(config, data=replace(config.data, split=1))
    return f"regdb, {loss_name(config)}, seed {config.seed}, {same.digest()}", config.data.split


def _overlap_row(folder: Path, measured: Mapping[str, Mapping[str, Interval]]) -> tables.TableRow:
    config = Run(folder).config
    of_prototypes = {k: v for k, v in measured.get("training", {}).items() if k not in OF_IMAGES}
    prototypes = of_prototypes | dict(measured["unseen"])  # only people trained on have prototypes
    return {
        "run": folder.name, "loss": loss_name(config), "seed": str(config.seed), **tables.overlap_columns(prototypes)
    }  # fmt: skip
