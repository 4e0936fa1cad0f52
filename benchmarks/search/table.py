"""The figures as text, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.search.contenders import entries
from benchmarks.search.problems import ALL, GROUPS, problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def lines_of(figures: Mapping[str, Any]) -> list[str]:
    """A table a problem, and one over all of them."""
    lines: list[str] = []
    for name, on in figures["problems"].items():
        what = "hypervolume difference" if on["objectives"] > 1 else "regret"
        held_out = ", held out" if on["held_out"] else ""
        lines += ["", f"{name} ({what}, best known {on['best_known']:.6g}{held_out})"]
        header = [
            "contender",
            "median",
            "quartiles",
            "",
            "/ best peer",
            "asks s",
            "cpu s",
            "last ask s",
            "failed",
        ]
        rows = [
            [
                contender,
                f"{row['median_regret']:.3g}",
                *(f"{q:.3g}" for q in row["quartiles"]),
                _number(row["ratio_to_best_peer"]),
                f"{row['median_ask_s']:.2f}",
                f"{row['median_ask_cpu_s']:.2f}",
                f"{row['median_last_ask_s']:.2f}",
                str(len(row["failed"]) or ""),
            ]
            for contender, row in sorted(on["contenders"].items(), key=lambda item: item[1]["rank"])
        ]
        lines += _aligned([header, *rows])
    lines += ["", "over the problems (ratio: median regret by that of the problem's best peer)"]
    header = [
        "contender",
        "problems",
        "geometric mean",
        "worst",
        "on",
        "mean rank",
        "/ synchronous",
        "failed",
    ]
    rows = [
        [
            contender,
            str(row["problems"]),
            _number(row["geometric_mean_ratio"]),
            _number(row["worst_ratio"]),
            row["worst_on"] or "-",
            f"{row['mean_rank']:.2f}",
            _number(row["ratio_to_synchronous"]),
            str(row["failed"] or ""),
        ]
        for contender, row in sorted(figures["contenders"].items(), key=lambda item: item[1]["mean_rank"])
    ]
    lines += _aligned([header, *rows])
    errors = {
        f"{contender} on {name}: {row['failed'][0]['error']}"
        for name, on in figures["problems"].items()
        for contender, row in on["contenders"].items()
        if row["failed"]
    }
    lines += ["", "failures", *sorted(errors)] if errors else []
    lines += ["", *(f"left out: {text}" for text in figures["left_out"])] if figures["left_out"] else []
    return lines[1:]


def listing() -> list[str]:
    """What there is to choose from."""
    lines = ["problems"]
    rows = []
    for name in ALL:
        on = problem(name)
        rows.append([f"  {name}", on.summary + (" (held out)" if on.held_out else "")])
    lines += _aligned(rows)
    lines += ["", "groups of problems"]
    lines += _aligned(
        [[f"  {name}", ", ".join(members)] for name, members in GROUPS.items() if name != "all"]
    )
    lines += ["", "contenders (ours take options: NAME:key=value)"]
    lines += _aligned(
        [[f"  {name}", "ours" if entry.ours else "peer", entry.summary] for name, entry in entries().items()]
    )
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
