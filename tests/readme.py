"""README and guides with the numbers of data/results in them: ``make readme`` writes, a test finds them up to date.

The first picture is drawn with them, too; it carries the numbers that it shows, for it differs from browser to browser.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kaleido
from benchmarks import course, gallery, heads, iteration, overlap, ranking
from PIL import Image, PngImagePlugin

from sa_lab.config import ExperimentConfig
from sa_lab.course import claims, figures, surface
from sa_lab.disk import atomic_path, write_text
from sa_lab.reporting import studies, tables
from sa_lab.study import sweeps

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "data" / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "notebooks" / "guides").glob("*.md")))
OPTIONS = ("exact", "reuse_features")
SETS = ("thermal", "synthetic")
NOT_YET = "Not measured yet: `make study`."
PICTURE = RESULTS / "effect.png"


def result(name: str) -> dict[str, Any]:
    """A committed result."""
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())


def known(*names: str) -> dict[str, dict[str, Any]]:
    """Those of some results that there are, by name."""
    return {name: result(name) for name in names if (RESULTS / f"{name}.json").is_file()}


def effect() -> dict[str, dict[str, dict[str, tuple[float, float, float]]]]:
    """What the first picture shows: mAP in % and modality gap of both losses on each data set, with intervals."""
    found: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    for title, measure, scale in (("mAP of unseen people, %", "mean_ap", 100), ("modality gap", "stranger_ratio", 1)):
        for name, study in known(*(f"main-{dataset}" for dataset in SETS)).items():
            for loss, shown in (("softmax", "softmax"), ("complete", "SA-Softmax")):
                one = study["variants"][loss][measure]
                span = tuple(round(scale * one[key], 3) for key in ("mean", "low", "high"))
                found.setdefault(title, {}).setdefault(shown, {})[name.removeprefix("main-")] = span  # type: ignore
    return found


def draw() -> None:
    """Draw the first picture, with its numbers in it."""
    figure = figures.effect(effect(), title="Both losses trained alike: mean and 95 % interval over seeds")
    drawn = Image.open(io.BytesIO(kaleido.calc_fig_sync(figure.to_plotly_json(), opts={"format": "png", "scale": 1.5})))
    numbers = PngImagePlugin.PngInfo()
    numbers.add_text("numbers", json.dumps(effect()))
    with atomic_path(PICTURE) as temporary:
        drawn.convert("RGB").quantize(64).save(temporary, "PNG", pnginfo=numbers, optimize=True)


def summary() -> str:
    """Both losses on both sets, and in three sentences what holds, what does not, and what was not tested."""
    names = {"rank_1": "Rank-1, %", "mean_ap": "mAP, %", "stranger_ratio": "modality gap"}
    rows = []
    for dataset in SETS:
        for loss, title in (("softmax", "softmax"), ("complete", "SA-Softmax")):
            measured = result(f"main-{dataset}")["variants"][loss]
            spans = {shown: claims.span(measured[key], key, sign="") for key, shown in names.items()}
            rows.append({"people": dataset, "loss": title, **spans})
    first, second = (result(f"main-{dataset}") for dataset in SETS)
    real = result("study-roadscene")
    masked = claims.span(claims.paired(real, "complete", "no_mask", "mean_ap"), "mean_ap")
    gains = {"first": _less(first), "second": _less(second), "real": _less(real)}
    cosines = ", ".join(f"{name} {_less(result(f'main-{name}'), 'prototype_alignment')}" for name in SETS)
    return "\n\n".join([
        tables.render(rows, "markdown"),
        f"On generated thermal images, SA-Softmax (`complete` in commands) gains {gains['first']} points of mAP "
        f"({len(first['seeds'])} seeds); a person's spectra come closer. "
        f"Near-infrared images (`synthetic`) show no gain ({gains['second']}; {len(second['seeds'])} seeds). On real "
        f"thermal pairs (RoadScene) the gain is {gains['real']}. With SA-Softmax, an identity's two prototypes end "
        f"further apart (their cosine minus that of softmax: {cosines}). On thermal people, mAP falls without the "
        f"other spectrum's prototype as target and without taking turns; the absolute term shows no effect on mAP, the "
        f"mask only on RoadScene ({masked})."
        f"{_beaten()} Not tested: the paper's benchmarks (licensed images).",
    ])  # fmt: skip


def _beaten() -> str:
    """Which losses of the field were better than SA-Softmax on both sets."""
    better = [
        {row["loss"].split(",")[0] for row in claims.against(found, "complete") if row[""] == "higher"}
        for found in known(*(f"losses-{dataset}" for dataset in SETS)).values()
    ]
    names = sorted(set.intersection(*better)) if better else []
    return (
        f" Of the other common losses, {' and '.join(names)} beat SA-Softmax on both generated sets." if names else ""
    )


def _less(found: dict[str, Any], measure: str = "mean_ap") -> str:
    """What SA-Softmax has more of a measure than softmax, paired by seed."""
    return claims.span(claims.paired(found, "complete", "softmax", measure), measure)


def paper() -> str:
    """The paper's claims, each with the number that bears it out or does not."""
    shown = known("main-thermal", "pieces-thermal", "main-synthetic", "study-roadscene")
    told = {f"{name.split('-')[1]}, {len(one['seeds'])} seeds": one for name, one in shown.items()}
    return tables.render(claims.of_paper(told), "markdown")


def both(dataset: str) -> str:
    """Both main losses on a set, and in a sentence what SA-Softmax gains."""
    found = result(f"main-{dataset}")
    told = f"mAP of SA-Softmax minus that of softmax, {len(found['seeds'])} seeds: {_less(found)} points"
    ours, base = (found["variants"][name]["mean_ap"]["values"] for name in ("complete", "softmax"))
    each = [100 * (one - other) for one, other in zip(ours, base, strict=True)]
    more = sum(one > 0 for one in each)
    told += f" (higher in {more} of {len(each)} seeds, from {min(each):+.1f} to {max(each):+.1f})."
    return f"{told}\n\n{study(f'main-{dataset}')}"


def searched() -> str:
    """Which learning rates were tried for both losses, on validation people."""
    found, dial = sweeps.read(RESULTS / "search-rates"), "train.backbone_lr"
    chosen, top = ExperimentConfig().train.backbone_lr, max(row[dial] for row in found.rows)
    gains = {loss: claims.swept_gain(found, (loss, top), (loss, chosen)) for loss in ("softmax", "complete")}
    return (
        f"{studies.sweep_table(found, names=('mean_ap',), best=True)}\n\n{_made(RESULTS / 'search-rates')}\n\n"
        f"The preset has {chosen:g} for both. With {top:g}, the highest rate tried, softmax changes by "
        f"{gains['softmax']} points and SA-Softmax by {gains['complete']}, paired by "
        "seed. The rates of head and prototypes were not searched here."
    )


def _made(folder: Path) -> str:
    """What a sweep was made with."""
    made = json.loads((folder / "made.json").read_text())
    return f"*{made['machine']}; torch {made['torch']}; {made['date']}, commit {made['commit']}.*"


def parted() -> str:
    """The cosine of an identity's two spectra: of mean embeddings, of prototypes as trained and as fitted anew."""
    found = known("parting-thermal").get("parting-thermal")
    if not found:
        return NOT_YET
    rows = [
        {"cosine of": measure, **{loss: claims.span(one[measure], "") for loss, one in found["losses"].items()}}
        for measure in next(iter(found["losses"].values()))
    ]
    return f"Of people trained on, {len(found['seeds'])} seeds:\n\n{tables.render(rows, 'markdown')}"


def changed() -> str:
    """SA-Softmax with one piece changed."""
    found = result("pieces-thermal")
    return f"{tables.render(claims.against(found, 'complete'), 'markdown')}\n\n*{studies.made_with(found)}*"


def lasting() -> str:
    """Longer trainings, more people, another processor."""
    told = []
    for title, name in (("Steps per epoch (8 epochs)", "longer"), ("People to train on", "people")):
        found = sweeps.read(RESULTS / f"{name}-thermal")
        found.rows.sort(key=lambda row: row[found.dials[0]])
        measures = ("mean_ap", "stranger_ratio", "prototype_alignment")
        told += [
            f"**{title}.** mAP of SA-Softmax minus that of softmax, points, {claims.gains_along(found)}.",
            studies.sweep_table(found, names=measures),
            _made(RESULTS / f"{name}-thermal"),
        ]
        if name == "longer":
            told.append(on_both_machines(found))
    narrow = known("avx2-thermal").get("avx2-thermal")
    rows = claims.processors(result("main-thermal"), narrow) if narrow else []
    shown = tables.render(rows, "markdown") if rows else NOT_YET
    told.append(f"**A processor with narrower registers** (AVX2 in place of AVX512) adds in another order:\n\n{shown}")
    return "\n\n".join(told)


def on_both_machines(longer: sweeps.Sweep) -> str:
    """What the preset gains where it was trained longer, and with the same seeds where the studies were made."""
    steps, seeds = ExperimentConfig().train.steps_per_epoch, sorted({row["seed"] for row in longer.rows})
    here = {(row["loss"], row["seed"]): row["mean_ap"] for row in longer.rows if row[longer.dials[0]] == steps}
    main = result("main-thermal")
    there = {
        (loss, seed): value
        for loss in ("softmax", "complete")
        for seed, value in zip(main["seeds"], main["variants"][loss]["mean_ap"]["values"], strict=True)
    }
    gains = [
        ", ".join(f"{100 * (found['complete', seed] - found['softmax', seed]):+.1f}" for seed in seeds)
        for found in (here, there)
    ]
    return (
        f"The preset has {steps} steps per epoch. With the same seeds it gains {gains[0]} points here, and {gains[1]} "
        "points on the machine of the first tables: between two machines a gain varies about as it does between two "
        "seeds."
    )


def options() -> dict[str, Any]:
    """The complete loss with each option side by side."""
    return claims.joined({name: result(f"option-{name}") for name in OPTIONS})


def study(name: str) -> str:
    """The table of a study, and what it was made with."""
    found = result(name)
    return f"{studies.table(found)}\n\n*{studies.made_with(found)}*"


def rendered(bench: dict[str, Any], *names: str) -> list[str]:
    """Tables of a benchmark as Markdown; those that it lacks are left out."""
    return [tables.render(bench["tables"][name], "markdown") for name in names if name in bench["tables"]]


def playground() -> str:
    """How soon the playground answers."""
    found = result("bench-widgets")
    return (
        f"A key on a dial of the playground is drawn after {found['median']:.0f} ms (median of {found['keys']} keys, "
        f"12 identities); while a dial is dragged, there is a new picture every {found['frame']:.0f} ms."
    )


def gpu() -> str:
    """What `make gpu` has timed, or that it has not run."""
    bench = known("bench-cuda").get("bench-cuda")
    if not bench:
        return "Nothing was timed on a GPU yet: `make gpu` does; what it finds is put here."
    device = next(iter(bench.values()))["run"]["device"]
    return "\n\n".join([f"{device}:", *rendered(bench, "ratios", "limits", "stages", "utilisation")])


def losses() -> str:
    """The losses of the field beside SA-Softmax on both embedded sets, and in a sentence which of them win."""
    told = []
    for dataset in SETS:
        if not (RESULTS / f"losses-{dataset}.json").is_file():
            told.append(f"On {dataset} people: {NOT_YET}")
            continue
        compared = result(f"losses-{dataset}")
        rows = claims.against(compared, "complete")
        more, less = ([row["loss"] for row in rows if row[""] == word] for word in ("higher", "lower"))
        told.append(
            f"On {dataset} people, of the {len(rows)} others (softmax and SA-Softmax's own ablations among them), more "
            f"mAP than SA-Softmax: {', '.join(more) or 'none'}; not told apart: {len(rows) - len(more) - len(less)} "
            f"losses; less mAP: {len(less)} losses. mAP of SA-Softmax "
            f"{100 * compared['variants']['complete']['mean_ap']['mean']:.1f} %."
        )
        told += [tables.render(rows, "markdown"), f"*{studies.made_with(compared)}*"]
    return "\n\n".join(told)


def dials() -> str:
    """How far mask and similarity weight move the mAP."""
    found = surface.read(RESULTS / "surface-thermal.json")
    moves = [
        f"{one['mean']:.1f} points [{one['low']:.1f}, {one['high']:.1f}] along `{dial}`"
        for dial, one in found.effects().items()
    ]
    best = max(found.points(), key=lambda point: point.mean)
    return (
        f"Over mask and similarity weight, mAP on validation people ({len(found.seeds)} seeds) moves by "
        f"{' and by '.join(moves)}. It is highest with mask {best.dials[surface.X]:g} and weight "
        f"{best.dials[surface.Y]:g}, of those tried. Chapter 07 draws the surface."
    )


def pieces() -> dict[str, str]:
    """What stands between ``<!-- name -->`` and ``<!-- end -->``, by name."""
    bench, small = result("bench-cpu"), result("study-gpu")
    return {
        "summary": summary(),
        "search": searched(),
        "main-thermal": both("thermal"),
        "study-thermal": study("study-thermal"),
        "main-synthetic": both("synthetic"),
        "study-roadscene": study("study-roadscene"),
        "claims": paper(),
        "parting": parted(),
        "pieces": changed(),
        "lasting": lasting(),
        "losses": losses(),
        "batches": study("batches-thermal"),
        "surface": dials(),
        "study-gpu": f"The preset small with MobileNetV2, {small['dataset']} people ({small['machine']}, `make gpu`):"
        f"\n\n{study('study-gpu')}",
        "playground": playground(),
        "overlap": overlap.sentence(bench["overlap"]),
        "ranking": ranking.sentence(bench["ranking"]),
        "gallery": gallery.sentence(bench["gallery"]),
        "course": course.sentence(bench["course"]),
        "ratios": rendered(bench, "ratios")[0],
        "stages": rendered(bench, "stages")[0],
        "iteration": iteration.sentence(bench["iteration"]),
        "gpu": gpu(),
        "heads": heads.sentence(bench["heads"]),
        "options": studies.table(options()),
    }


def filled(texts: Mapping[Path, str]) -> dict[Path, str]:
    """The texts of pages with all pieces as the results have them.

    Raises:
        ValueError: a piece has no place in the texts, or more than one.
    """
    found = dict(texts)
    for name, piece in pieces().items():
        place = re.compile(rf"(<!-- {name} -->\s*)\S.*?(\s*<!-- end -->)", re.S)
        if (count := sum(len(place.findall(text)) for text in found.values())) != 1:
            raise ValueError(f"the pages have {count} places for {name}, expected one")
        for page, text in found.items():
            found[page] = place.sub(lambda match, piece=piece: match[1] + piece + match[2], text)
    return found


def texts() -> dict[Path, str]:
    """The pages as they are."""
    return {page: page.read_text(encoding="utf-8") for page in PAGES}


if __name__ == "__main__":
    draw()
    for page, text in filled(texts()).items():
        write_text(page, text.removesuffix("\n"))
