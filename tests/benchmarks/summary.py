"""What was measured as rows of tables: times against the plain way, limits, floors, stages of an iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.stages import STAGES
from sa_lab.reporting import tables

TARGETS = {
    "cpu": {"iteration": 1.3, "heads and losses, paper": 1.7, "input": 5.0, "ranking": 20.0},
    "cuda": {
        "iteration, paper, bfloat16": 2.0,
        "iteration, paper, bfloat16 against float32": 4.0,
        "heads and losses, paper": 4.0,
    },
}
"""The least ratio that is aimed at on a device, by the beginning of a name, the longest that fits; else none is."""
LIMITS = {
    ("ranking", "full_size", "peak_gb"): ("memory of a whole evaluation at full size, GB", 4.0, 1),
    ("overlap", "seconds", "measure"): ("overlap measures of 10,000 descriptors, s", 300.0, 1),
    ("overlap", "peak_gb", "draw"): ("memory of overlap measures and map, GB", 6.0, 1),
    ("syncing", "share"): ("share of a training in which files are synced to disk, tiny, %", 1.0, 100),
    ("paper", "stages", "paper, bfloat16", "input"): ("input of an iteration, paper, bfloat16, %", 3.0, 100),
}
"""Where numbers stand that have an upper limit, with what they are, the limit, and what they are multiplied by."""
Result = dict[str, Any]
"""One JSON: what each part gave, by its name."""


Rows = list[tables.TableRow]


def rows_of(result: Result) -> dict[str, Rows]:
    """All tables by their name in `TITLES`, ready to be rendered; those without rows are left out."""
    made = {"ratios": ratios, "limits": limits, "floors": floors, "stages": stages, "utilisation": utilisation,
            "operations": operations, "losses": losses}  # fmt: skip
    return {name: rows for name, make in made.items() if (rows := make(result))}


def ready(result: Result) -> dict[str, Any]:
    """What guides and chapters show: ``tables``, the rows of each in `TITLES`."""
    return {"tables": rows_of(result)}


TITLES = {
    "ratios": "Times of the plain way and ours, ratio of each pair: median [lowest, highest]",
    "limits": "Limits",
    "floors": "Floor of the matrix products, and the share of their rate that is reached",
    "stages": "Stages of an iteration, %",
    "utilisation": "Stages beside their matrix products and convolutions at the best rate of the machine",
    "operations": "Operations that take most of the time of ours, %",
    "losses": "Time of an iteration, preset tiny, beside one with softmax: median [lowest, highest]",
}


def show(result: Result) -> str:
    """All tables of a result file, each under a line that says what it is."""
    ready: dict[str, Rows] = result["tables"]
    return "\n\n".join(f"{TITLES[name]}\n\n{tables.render(rows, 'markdown')}" for name, rows in ready.items())


def ratios(result: Result) -> Rows:
    """How many times as fast as the plain way each thing is, with the times in milliseconds and memories in GB."""
    rows: list[tables.TableRow] = []
    for part in result.values():
        for name, one in part.get("ratios", {}).items():
            target = _target(name, "cpu" if "CPU" in part["run"]["device"] else "cuda")
            gb = {way: f"{one[f'{way}_gb']:.2f}" if f"{way}_gb" in one else None for way in ("plain", "ours")}
            rows.append({
                "": name, "plain, ms": _ms(one["plain_ms"]), "ours, ms": _ms(one["ours_ms"]),
                "ratio": _ratio(one),
                "plain, GB": gb["plain"], "ours, GB": gb["ours"], "target": None if target is None else f"{target:g}",
                "met": None if target is None else "yes" if one["ratio"] >= target else "no",
            })  # fmt: skip
    return rows


def limits(result: Result) -> Rows:
    """Numbers that have an upper limit."""
    rows: list[tables.TableRow] = []
    for (part, *path), (what, most, scale) in LIMITS.items():
        value: Any = result.get(part)
        for name in path:
            value = (value or {}).get(name)
        if value is not None:
            value *= scale
            met = "yes" if value <= most else "no"
            rows.append({"": what, "measured": f"{value:.1f}", "at most": f"{most:g}", "met": met})
    return rows


def floors(result: Result) -> Rows:
    """Heads and losses beside what their matrix products alone would take at the rate of one large product."""
    part = result.get("heads", {})
    rows: list[tables.TableRow] = []
    for name, floor in part.get("floors", {}).items():
        reached = {
            f"{way}, %": f"{100 * floor['ms'] / part['ratios'][name][f'{way}_ms']:.0f}" for way in ("plain", "ours")
        }
        rows.append({
            "": name, "GFLOP": f"{floor['gflop']:.1f}", "GFLOP/s": f"{floor['gflop_s']:.0f}",
            "floor, ms": _ms(floor["ms"]), **reached,
        })  # fmt: skip
    return rows


def stages(result: Result) -> Rows:
    """Share of each stage in an iteration of ours, %, one row a preset."""
    rows: list[tables.TableRow] = [
        {"": name, **{stage: f"{100 * shares[stage]:.1f}" for stage in STAGES}, "whole, ms": _ms(shares["ms"])}
        for part in result.values()
        for name, shares in part.get("stages", {}).items()
    ]
    return rows


def operations(result: Result) -> Rows:
    """The operations of torch that something of ours spends most of its time in."""
    found = {name: one for part in result.values() for name, one in part.get("operations", {}).items()}
    return [
        {"": name, "operations": ", ".join(f"{what} {100 * share:.0f}" for what, share in one.items())}
        for name, one in found.items()
    ]  # fmt: skip


def losses(result: Result) -> Rows:
    """What an iteration costs with each loss; the times of different rows were taken one after the other."""
    return [
        {"loss": name, "ms": _ms(one["plain_ms"]), "over softmax": _ratio(one)}
        for name, one in result.get("losses", {}).get("losses", {}).items()
    ]


def utilisation(result: Result) -> Rows:
    """Where an iteration is slower than its operations would be at the best rate of the machine, stage by stage.

    That rate is of one large matrix product or convolution, in float32 on the CPU, in bfloat16 on a GPU. Without a
    profiler an iteration is shorter than its stages together; "iteration" is measured without.
    """
    rows: list[tables.TableRow] = []
    for part in result.values():
        for name, flops in part.get("flops", {}).items():
            shares, rate = part["stages"][name], part["rates"][name]
            times = {stage: shares[stage] * shares["ms"] for stage in STAGES}
            times["iteration"] = part["ratios"][f"iteration, {name}"]["ours_ms"]
            for stage, ms in times.items():
                count = flops[stage] if stage in STAGES else sum(flops.values())
                floor = 1e3 * count / rate
                rows.append({
                    "": name, "stage": stage, "ms": _ms(ms), "GFLOP": f"{count / 1e9:,.1f}",
                    "at full rate, ms": _ms(floor), "share, %": f"{100 * floor / ms:.0f}", "gap, ms": _ms(ms - floor),
                })  # fmt: skip
    return rows


def _target(name: str, device: str) -> float | None:
    fitting = [start for start in TARGETS[device] if name.startswith(start) and "reused" not in name]
    return TARGETS[device][max(fitting, key=len)] if fitting else None


def _ratio(one: Mapping[str, float]) -> str:
    return f"{one['ratio']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
