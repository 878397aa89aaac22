"""README.md with the numbers of data/results in it: ``make readme`` writes them, a test finds them up to date.

The first picture is drawn with them, too; it carries the numbers that it shows, for it differs from browser to browser.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import kaleido
from benchmarks import heads, iteration, overlap, ranking
from PIL import Image, PngImagePlugin

from sa_lab.course import claims, figures, surface
from sa_lab.disk import atomic_path, write_text
from sa_lab.reporting import studies, tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "data" / "results"
OPTIONS = ("exact", "reuse_features")
SETS = ("synthetic", "thermal")
PICTURE = RESULTS / "effect.png"


def result(name: str) -> dict[str, Any]:
    """A committed result."""
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())


def known(*names: str) -> dict[str, dict[str, Any]]:
    """Those of some results that there are, by name."""
    return {name: result(name) for name in names if (RESULTS / f"{name}.json").is_file()}


def effect() -> dict[str, dict[str, dict[str, tuple[float, float, float]]]]:
    """What the first picture shows: mAP in % and modality gap of both losses on each data set, with intervals, at the
    learning rates at which softmax was best."""
    found: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    for title, measure, scale in (("mAP of unseen people, %", "mean_ap", 100), ("modality gap", "stranger_ratio", 1)):
        for name, study in known(*(f"rates-{dataset}" for dataset in SETS)).items():
            for loss, shown in (("softmax", "softmax"), ("complete", "SA-Softmax")):
                one = study["variants"][loss][measure]
                span = tuple(round(scale * one[key], 3) for key in ("mean", "low", "high"))
                found.setdefault(title, {}).setdefault(shown, {})[name.removeprefix("rates-")] = span  # type: ignore
    return found


def draw() -> None:
    """Draw the first picture, with its numbers in it."""
    figure = figures.effect(effect(), title="Both losses at rates that suit softmax: mean and 95 % interval over seeds")
    drawn = Image.open(io.BytesIO(kaleido.calc_fig_sync(figure.to_plotly_json(), opts={"format": "png", "scale": 1.5})))
    numbers = PngImagePlugin.PngInfo()
    numbers.add_text("numbers", json.dumps(effect()))
    with atomic_path(PICTURE) as temporary:
        drawn.convert("RGB").quantize(64).save(temporary, "PNG", pnginfo=numbers, optimize=True)


def paper() -> str:
    """The paper's claims, each with the number that bears it out or does not."""
    shown = known("study-synthetic", "rates-synthetic", "rates-thermal", "pieces-synthetic")
    told = {f"{name}, {len(one['seeds'])} seeds": one for name, one in shown.items()}
    return tables.render(claims.of_paper(told), "markdown")


def rates() -> str:
    """Both losses at the learning rates at which softmax was best of those tried, and in a sentence what is left."""
    told = []
    for dataset in SETS:
        found = result(f"rates-{dataset}")
        span = claims.paired(found, "complete", "softmax", "mean_ap")
        mean, low, high = (100 * span[key] for key in ("mean", "low", "high"))
        told += [
            f"{dataset.capitalize()} people, {len(found['seeds'])} seeds: mAP of SA-Softmax less that of softmax "
            f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}].",
            study(f"rates-{dataset}"),
        ]
    return "\n\n".join(told)


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


def gpu() -> str:
    """What `make gpu` has found, or that it has not run."""
    names = ("bench-cuda", "study-gpu")
    bench, small = (result(name) if (ROOT / "data" / "results" / f"{name}.json").is_file() else None for name in names)
    told = []
    if bench:
        told += [
            f"On a GPU ({next(iter(bench.values()))['run']['device']}, `make gpu`):",
            *rendered(bench, "ratios", "limits", "stages", "utilisation"),
        ]
    else:
        told += ["Nothing was timed on a GPU yet: `make gpu` does; what it finds is put here."]
    if small:
        machine = small["machine"]
        told += [f"The preset small with MobileNet V2, on drawn people ({machine}, `make gpu`):", study("study-gpu")]
    return "\n\n".join(part for part in told if part)


def losses() -> str:
    """The losses of the field beside SA-Softmax on both embedded sets, and in a sentence which of them win."""
    told = []
    for dataset in ("synthetic", "thermal"):
        if not (ROOT / "data" / "results" / f"losses-{dataset}.json").is_file():
            told.append(f"On {dataset} people they were not compared yet: `make study`.")
            continue
        compared = result(f"losses-{dataset}")
        rows = claims.against(compared, "complete")
        more, less = ([row["loss"] for row in rows if row[""] == word] for word in ("higher", "lower"))
        told.append(
            f"On {dataset} people, of the {len(rows)} others (softmax and SA-Softmax's own ablations among them), more "
            f"mAP than SA-Softmax: {', '.join(more) or 'none'}; not told apart: {len(rows) - len(more) - len(less)}; "
            f"less: {len(less)}. mAP of SA-Softmax {100 * compared['variants']['complete']['mean_ap']['mean']:.1f} %."
        )
        told += [tables.render(rows, "markdown"), f"*{studies.made_with(compared)}*"]
    found = surface.read(ROOT / "data" / "results" / "surface-synthetic.json")
    moves = [
        f"{one['mean']:.1f} points [{one['low']:.1f}, {one['high']:.1f}] along `{dial}`"
        for dial, one in found.effects().items()
    ]
    best = max(found.points(), key=lambda point: point.mean)
    told.append(
        f"Over mask and similarity weight, mAP on validation identities (synthetic, {len(found.seeds)} seeds) moves by "
        f"{' and by '.join(moves)}; it is highest with mask {best.dials[surface.X]:g} and weight "
        f"{best.dials[surface.Y]:g}, of those tried."
    )
    return "\n\n".join(told)


def pieces() -> dict[str, str]:
    """What stands between ``<!-- name -->`` and ``<!-- end -->``, by name."""
    bench = result("bench-cpu")
    return {
        "study-synthetic": study("study-synthetic"),
        "rates": rates(),
        "study-roadscene": study("study-roadscene"),
        "claims": paper(),
        "losses": losses(),
        "playground": f"{result('bench-widgets')['median']:.0f} ms",
        "overlap": overlap.sentence(bench["overlap"]),
        "ranking": ranking.sentence(bench["ranking"]),
        "ratios": rendered(bench, "ratios")[0],
        "stages": rendered(bench, "stages")[0],
        "iteration": iteration.sentence(bench["iteration"]),
        "gpu": gpu(),
        "heads": heads.sentence(bench["heads"]),
        "options": studies.table(options()),
    }


def filled(text: str) -> str:
    """The text with all pieces as the results have them.

    Raises:
        ValueError: a piece has no place in the text, or more than one.
    """
    for name, piece in pieces().items():
        place = re.compile(rf"(<!-- {name} -->\s*)\S.*?(\s*<!-- end -->)", re.S)
        if len(place.findall(text)) != 1:
            raise ValueError(f"README.md has {len(place.findall(text))} places for {name}, expected one")
        text = place.sub(lambda found, piece=piece: found[1] + piece + found[2], text)
    return text


if __name__ == "__main__":
    draw()
    write_text(ROOT / "README.md", filled((ROOT / "README.md").read_text()).removesuffix("\n"))
