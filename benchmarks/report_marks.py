"""The sections of the report on marks: strokes, corrections, shaky hands, nothing to see, calibration, and the goals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from corrections import CAP, GOALS, needed
from robustness import HANDS
from tables import Values, best_peer, dice_table, gain, interval, median, of_set, paired_table, pooled, table

if TYPE_CHECKING:
    from tables import Measured

FIRST = "first mask (ours)"
STROKE_KINDS = {
    "strokes": (
        "Full strokes",
        "Experts' own strokes on acdc and prostatex (every slice; other structures count as background). Elsewhere "
        "simulated: in the slice of largest area of each axis, or the first, largest and last of fewer than 20 slices, the "
        "skeleton of the mask eroded by 2 voxels, and the ring at 5 to 6.2 voxels from it.",
    ),
    "sparse": (
        "Sparse strokes",
        "One curve inside (along the skeleton) and one outside (half of the ring, from an angle drawn at random), both on one "
        "slice, nothing else.",
    ),
}


def _sets(values: Values) -> list[str]:
    return list(dict.fromkeys(name.split("/")[0] for name in values))


def _stroke_methods(measured: Measured, part: str) -> dict[str, Values]:
    return measured.by_method({FIRST: part}, f"{part}-peers")


def _against_best(methods: dict[str, Values]) -> tuple[str, np.ndarray, list[str]]:
    """The best stock peer over all cases, and our paired gain over it."""
    names = sorted(set.intersection(*[set(values) for values in methods.values()]))
    best = best_peer(methods, names)
    return best, *gain(methods[FIRST], methods[best], names)


def strokes(measured: Measured) -> list[str]:
    """Full and sparse strokes: Dice per set and paired differences."""
    out: list[str] = []
    for part, (title, text) in STROKE_KINDS.items():
        methods = _stroke_methods(measured, part)
        if not methods:
            continue
        out += [
            f"## {title}: Dice per set, median [quartiles]\n",
            text + " The *random walker + prior* is Grady's with a histogram prior, solved by our solver; the crop that a peer "
            "sees was tuned like its other setting, once for all sets.\n",
            dice_table(methods, _sets({name: 0 for values in methods.values() for name in values})),
            "",
            paired_table(methods, [FIRST]),
            "",
        ]
    return out


def _curves(measured: Measured) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Method to target to its curve."""
    curves: dict[str, Any] = {}
    for part in ("corrections", "corrections-peers"):
        for target, value in measured.part(part).items():
            for method, curve in value.items():
                cut = {"dice": curve["dice"][: CAP + 1], "cpu": curve["cpu"][:CAP]}  # of a run with a more patient user
                curves.setdefault(method, {})[target] = cut
    return curves


def _counted(curve: dict[str, list[float]], goal: float) -> int:
    """Strokes to a goal; one more than the user's patience where it was not met."""
    found = needed(curve["dice"], goal)
    return CAP + 1 if found is None else found


def correction_counts(curves: dict[str, Any], names: list[str], goal: float) -> dict[str, np.ndarray]:
    """Strokes to a goal per method, over the same targets."""
    return {method: np.array([_counted(values[name], goal) for name in names]) for method, values in curves.items()}


def corrections(measured: Measured) -> list[str]:
    """Strokes to each goal, how many cases never met it, Dice after a few strokes, and time."""
    curves = _curves(measured)
    if not curves:
        return []
    names = sorted(set.intersection(*[set(values) for values in curves.values()]))
    if not names:
        return []
    rows = []
    for method, values in curves.items():
        row = [method]
        for goal in GOALS:
            counts = correction_counts({method: values}, names, goal)[method]
            row += [
                _number(np.median(counts)),
                f"{np.minimum(counts, CAP).mean():.1f}",
                _share(counts),
            ]
        for stroke in (0, 1, 3, 5, CAP):
            row.append(f"{np.median([_after(values[name]['dice'], stroke) for name in names]):.3f}")
        cpu = [second for name in names for second in values[name]["cpu"]]
        row.append(f"{np.median(cpu):.2f} ({max(cpu):.1f})" if cpu else "-")
        rows.append(row)
    header = ["method"]
    for goal in GOALS:
        header += [f"strokes to {goal:.2f}: median", "mean", "reached"]
    header += ["Dice at start", "after 1", "after 3", "after 5", f"after {CAP}", "CPU s per stroke, median (largest)"]
    text = (
        f"A simulated user, the same rule for every method, on the {len(names)} targets: from each method's own mask of the "
        "six points, one stroke at a time along the middle of the largest error (face-connected, on the slice that shows most "
        f"of it), until Dice {GOALS[-1]} or {CAP} strokes. Not reached counts as more than {CAP} in the median and as {CAP} "
        "in the mean, which flatters the methods that rarely reach it. A curve that has met its last goal stays where it is.\n"
    )
    return ["## Corrections\n", text, table(header, rows), "", _ratios(curves, names), ""]


def _share(counts: np.ndarray) -> str:
    return f"{100 * (counts <= CAP).mean():.0f} %"


def _after(scores: list[float], stroke: int) -> float:
    return scores[min(stroke, len(scores) - 1)]


def _number(value: float) -> str:
    return f"more than {CAP}" if value > CAP else f"{value:g}"


def _ratios(curves: dict[str, Any], names: list[str]) -> str:
    """Ours against each peer: sum of strokes, and the cases in which both got there."""
    lines = []
    for goal in GOALS:
        counts = correction_counts(curves, names, goal)
        for other in (method for method in counts if method != FIRST and FIRST in counts):
            mine, theirs = (np.minimum(counts[m], CAP) for m in (FIRST, other))
            fewer, more = int((counts[FIRST] < counts[other]).sum()), int((counts[FIRST] > counts[other]).sum())
            lines.append(
                f"- To {goal:.2f}: {mine.sum()} strokes in all against {theirs.sum()} of {other} "
                f"(ratio {mine.sum() / max(theirs.sum(), 1):.2f}); fewer on {fewer} targets, more on {more}."
            )
    for other in (method for method in curves if method != FIRST and FIRST in curves):
        made = [len(curves[other][name]["cpu"]) for name in names]
        counts = [_counted(curves[FIRST][name], curves[other][name]["dice"][-1]) for name in names]
        lines.append(
            f"- To be as good as {other} after all its strokes (median {np.median(made):g}), ours needs a median of "
            f"{_number(np.median(counts))}."
        )
    return "\n".join(lines)


def jitter(measured: Measured) -> list[str]:
    """Median Dice per hand and method."""
    mine, theirs = measured.part("jitter"), measured.part("jitter-peers")
    names = sorted(set(mine) & set(theirs)) if theirs else sorted(mine)
    if not names:
        return []
    methods = ["ours", *(theirs[names[0]][HANDS[0]] if theirs else [])]
    rows = []
    for method in methods:
        source = mine if method == "ours" else theirs
        label = FIRST if method == "ours" else method
        rows.append([label, *(f"{np.median([source[name][hand][method] for name in names]):.3f}" for hand in HANDS)])
    text = (
        f"Median Dice of {len(names)} targets when every point is off by up to so many voxels per axis, and when in addition "
        "to one voxel of all, one of the six points is off by ten voxels along one axis.\n"
    )
    return ["## Shaky clicks\n", text, table(["method", *(f"{hand}" for hand in HANDS)], rows), ""]


def degenerate(measured: Measured) -> list[str]:
    """Volumes in which nothing can be seen, beside real ones."""
    values = measured.part("degenerate")
    if not values:
        return []
    rows = []
    for kind in _sets(values):
        found = [values[name] for name in of_set(list(values), kind)]
        agreement = [v["dice"] for v in found]
        doubt = [v["doubt"] for v in found]
        row = [f"{kind} ({len(found)})", f"{np.median(agreement):.3f}", f"{min(agreement):.3f}"]
        rows.append([*row, f"{np.median(doubt):.3f} [{min(doubt):.2f}, {max(doubt):.2f}]"])
    real = [v["doubt"] for v in measured.part("first").values() if "doubt" in v]
    if real:
        rows.append([f"real targets ({len(real)})", "", "", f"{np.median(real):.3f} [{min(real):.2f}, {max(real):.2f}]"])
    text = (
        "Six points that touch an ellipsoid, in volumes without any content. *Doubt* is one minus the Dice that the "
        "probability itself expects of the mask.\n"
    )
    header = ["volume", "Dice with the ellipsoid, median", "least", "doubt, median [range]"]
    return ["## Nothing to see\n", text, table(header, rows), ""]


def calibration(measured: Measured) -> list[str]:
    """How often the probability is right."""
    from robustness import calibration_error

    values = measured.part("calibration")
    if not values:
        return []
    rows = []
    for which, label in (("shown", "first mask"), ("network", "network alone")):
        errors = [v[which]["error"] for v in values.values()]
        low, middle, high = np.percentile(errors, [25, 50, 75])
        rows.append([label, f"{calibration_error(pooled(values, which)):.3f}", f"{middle:.3f} [{low:.2f}, {high:.2f}]"])
    curve = pooled(values, "shown")
    step = 2
    bins = []
    for start in range(0, len(curve["said"]), step):
        part = slice(start, start + step)
        weight = np.array(curve["voxels"][part])
        said, was = (float((weight * np.array(curve[key][part])).sum() / max(weight.sum(), 1e-12)) for key in ("said", "was"))
        bins.append(
            [f"{start / 20:.1f} to {(start + step) / 20:.1f}", f"{100 * weight.sum():.1f} %", f"{said:.2f}", f"{was:.2f}"]
        )
    doubts, scores = ([v[key] for v in values.values()] for key in ("doubt", "dice"))
    order = np.corrcoef(np.argsort(np.argsort(doubts)), np.argsort(np.argsort(scores)))[0, 1]
    text = (
        f"Voxels in the box of the six points of {len(values)} real targets, each target with the same weight; outside the box "
        "nearly everything is right and would flatter any probability. The temperature was fitted on made-up volumes. "
        f"Rank correlation of a target's doubt with its Dice: {order:.2f}.\n"
    )
    header = ["probability", "expected calibration error, all targets", "per target, median [quartiles]"]
    return [
        "## Does the probability mean what it says?\n",
        text,
        table(header, rows),
        "",
        "![Share of the object against the probability](images/first_mask_reliability.png)\n",
        table(["probability shown", "voxels", "mean probability", "share of the object"], bins),
        "",
    ]


def steps(measured: Measured) -> list[str]:
    """Dice on real targets over the training's steps."""
    rows = sorted(measured.part("steps").values(), key=lambda row: row["step"])
    if not rows:
        return []
    text = f"The network alone, without the classical first mask and the walker, on {rows[-1]['targets']} real targets.\n"
    figures = [[str(row["step"]), *(f"{row[key]:.3f}" for key in ("median", "mean", "worst tenth"))] for row in rows]
    return [
        "## Real Dice over training steps\n",
        text,
        "![Dice over steps](images/first_mask_real_curve.png)\n",
        table(["step", "median", "mean", "mean of the worst tenth"], figures),
        "",
    ]


def failures(measured: Measured) -> list[str]:
    """Where the first mask fails: real targets by name, made-up ones as a picture."""
    first, kinds = measured.part("first"), measured.part("made-up")
    if not first:
        return []
    worst = sorted(first, key=lambda name: first[name]["dice"])[:10]
    figures = [[name, f"{first[name]['dice']:.3f}", f"{first[name].get('doubt', float('nan')):.2f}"] for name in worst]
    doubts = sorted(value["doubt"] for value in first.values() if "doubt" in value)
    middle = f" The median of all targets: {np.median(doubts):.2f}." if doubts else ""
    out = [
        "## Where it fails\n",
        f"The ten worst real targets, by name.{middle}\n",
        table(["target", "Dice", "doubt"], figures),
        "",
    ]
    if kinds:
        rows = [[name.split("/")[1], f"{v['median']:.2f}", f"{v['worst']:.2f}"] for name, v in kinds.items()]
        rows.sort(key=lambda row: row[1])
        out += [
            f"Made-up volumes of every kind that no training has seen, {next(iter(kinds.values()))['cases']} of each, six "
            "shaky points; below them the worst of all (green: truth; red: ours; the number is the Dice).\n",
            table(["kind of target", "median Dice", "worst"], rows),
            "",
            "![The worst made-up targets](images/first_mask_failures.png)\n",
        ]
    return out


def bars(measured: Measured, methods: dict[str, Values], sets: list[str], heading: str = "##") -> list[str]:
    """What was asked of the first mask, and what was measured."""
    rows: list[list[str]] = []
    if FIRST in methods:
        rows += _points_bars(methods, sets)
    for part, (title, _) in STROKE_KINDS.items():
        found = _stroke_methods(measured, part)
        if FIRST in found and len(found) > 1:
            best, differences, both = _against_best(found)
            if both:
                low, high = interval(differences, both)
                mine, theirs = (median(found[m], both) for m in (FIRST, best))
                paired = f"paired {np.median(differences):+.3f} [{low:+.3f}, {high:+.3f}]"
                figure = f"{mine:.3f} against {theirs:.3f} ({best}); {paired}"
                rows.append(_row(f"{title}: 0.05 above the best stock peer", figure, mine >= theirs + 0.05))
    curves = _curves(measured)
    if FIRST in curves and len(curves) > 1:
        names = sorted(set.intersection(*[set(values) for values in curves.values()]))
        for goal in GOALS if names else ():
            counts = {m: np.minimum(c, CAP).sum() for m, c in correction_counts(curves, names, goal).items()}
            best = min((m for m in counts if m != FIRST), key=lambda m: counts[m])
            ratio = counts[FIRST] / max(counts[best], 1)
            rows.append(_row(f"Strokes to Dice {goal:.2f}: at most half of the peers'", f"{ratio:.2f} of {best}", ratio <= 0.5))
    refined = measured.part("refine")
    if refined:
        gains = {name: value["dice"] - value["first"] for name, value in refined.items()}
        falls = [float(np.median([gains[name] for name in of_set(list(gains), part)])) for part in _sets(refined)]
        middle = float(np.median(list(gains.values())))
        figure = f"{middle:+.3f}; worst set {min(falls):+.3f} ({len(gains)} targets)"
        rows.append(_row("Refine gains 0.03, no set falls by more than 0.01", figure, middle >= 0.03 and min(falls) >= -0.01))
    head = ["asked", "measured", "reached"]
    return [f"{heading} What was asked of the first mask, and what it reaches\n", table(head, rows), ""] if rows else []


def _row(asked: str, figure: str, reached: bool) -> list[str]:
    return [asked, figure, "yes" if reached else "no"]


def _points_bars(methods: dict[str, Values], sets: list[str]) -> list[list[str]]:
    peers = [name for name in methods if not name.endswith("(ours)")]
    names = sorted(set.intersection(*[set(methods[m]) for m in (FIRST, *peers)]))
    mine = median(methods[FIRST], names)
    differences, both = gain(methods[FIRST], methods["watershed"], names)
    low, high = interval(differences, both)
    margins = {}
    for name in (name for name in sets if of_set(names, name)):
        part = of_set(names, name)
        margins[name] = median(methods[FIRST], part) - median(methods[best_peer(methods, part)], part)
    above = sum(margin > 0 for margin in margins.values())
    worst = min(margins, key=lambda name: margins[name])
    walls = {name: methods[FIRST][name] for name in names}
    rows = [
        _row("Six points: median Dice 0.82", f"{mine:.3f} ({len(names)} targets)", mine >= 0.82),
        _row(
            "0.10 above watershed (paired median)",
            f"{np.median(differences):+.3f} [{low:+.3f}, {high:+.3f}]",
            bool(np.median(differences) >= 0.10),
        ),
        _row(
            "No set more than 0.02 below its best stock peer",
            f"worst: {margins[worst]:+.3f} ({worst})",
            margins[worst] >= -0.02,
        ),
        _row("Above it on three quarters of the sets", f"{above} of {len(margins)}", above >= 0.75 * len(margins)),
    ]
    for text, low_box, high_box, limit in (
        ("Clicks to mask, box up to 1 million voxels: 0.5 s", 0, 1e6, 0.5),
        ("Clicks to mask, largest: 1.5 s", 1e6, 1e12, 1.5),
    ):
        seconds = [v["cpu"] for v in walls.values() if low_box < v["box"] <= high_box]
        if seconds:
            figure = f"median {np.median(seconds):.2f}, longest {max(seconds):.2f} CPU s (one thread)"
            rows.append(_row(text, figure, max(seconds) <= limit))
    return rows
