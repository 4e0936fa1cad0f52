"""The report of a run: one page that needs nothing else, to read, to keep and to send."""

from __future__ import annotations

import html
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hpo_steer.limits import harmless
from steering.feasibility import none_feasible
from steering.words import duration, number, params, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from steering.run_view import RunView
    from steering.store.base import PointRecord

FILE_NAME = "report.html"
_BEST = 50
_FAILURES = 10
_MODELS = 400
_LOG_LINES = 20

_STYLE = """
:root{color-scheme:light dark;--page:#fdfdfc;--ink:#20242a;--muted:#6a717c;--line:#e3e5e8;--soft:#f4f5f6;
--accent:#0072b2;--warn:#b34a00}
@media (prefers-color-scheme:dark){:root{--page:#15181c;--ink:#e4e6e9;--muted:#969da8;--line:#30353c;
--soft:#1e2227;--accent:#6cbaf0;--warn:#f09050}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .2rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.6rem 0 .8rem;padding-top:.9rem;border-top:1px solid var(--line)}
p{margin:.4rem 0}.muted{color:var(--muted)}
dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1rem 1.5rem;
margin:1.5rem 0 0}
dl.facts dt{color:var(--muted);font-size:.85rem}
dl.facts dd{margin:0;font-size:1.3rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
dl.facts dd small{display:block;font-size:.85rem;font-weight:400;line-height:1.4;color:var(--muted)}
dl.facts .lead dd{color:var(--accent);font-weight:650;font-size:1.6rem;line-height:1.25}
.wide{overflow-x:auto;-webkit-overflow-scrolling:touch}
figure{margin:1rem 0}figure svg{display:block;width:100%;min-width:560px;height:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .9rem .3rem 0;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
th{color:var(--muted);font-weight:500}td.n,th.n{text-align:right}
table.pairs td:last-child{font-weight:600;white-space:normal;overflow-wrap:anywhere}
pre{background:var(--soft);border-radius:6px;padding:.8rem 1rem;overflow-x:auto;font-size:.82rem;
line-height:1.45;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:.5rem 0}
details{margin:.5rem 0}summary{cursor:pointer}.warn{color:var(--warn)}
@media (max-width:600px){main{padding:1.25rem .9rem 3rem}h1{font-size:1.4rem}dl.facts dd{font-size:1.1rem}}
@media print{main{max-width:none;padding:0}details{display:block}}
"""


def write_report(view: RunView, folder: Path) -> Path:
    """Writes ``report.html``, whole or not at all.

    Args:
        view: the run.
        folder: where it goes.

    Returns:
        Its path.
    """
    path = folder / FILE_NAME
    partial = folder / f".{FILE_NAME}.{os.getpid()}.partial"
    try:
        partial.write_text(page(view), encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def escape(text: str) -> str:
    """Text as a page may hold it: nothing in it is markup, or a control character."""
    return html.escape(harmless(text))


def page(view: RunView) -> str:
    """The page."""
    pictures = _pictures(view)
    parts = [
        _heading(view),
        _best_section(view),
        _pictures_section(pictures, view),
        _models_section(view),
        _points_section(view),
        _failures_section(view),
        _config_section(view),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(view.name)} · hpo-steer</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


# ---------------------------------------------------------------- parts


def _heading(view: RunView) -> str:
    run, counts = view.run, view.counts
    goals = ", ".join([*(f"{g.direction} {g.name}" for g in view.goals), *map(str, view.outcomes)])
    space = view.space(view.models[0].name)
    spec = view.algorithm()
    models = f" · {plural(len(view.models), 'model')}" if len(view.models) > 1 else ""
    what = f"{plural(len(space), 'parameter')}{models} · {goals} · {spec.get('name') or spec.get('class')}"
    state = (
        f"ended: {run.ended}"
        if run.ended is not None
        else "not ended: this is how it stood when the page was written"
    )
    failed = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.failed.items()))
    notes = [f"{counts.done} done"]
    notes += [f"{counts.duplicates} of them reused"] if counts.duplicates else []
    infeasible = counts.done - sum(map(view.feasible, view.points))
    notes += [f"{infeasible} of them infeasible"] if infeasible else []
    notes += [f"{counts.queued + counts.running} unfinished"] if counts.queued + counts.running else []
    asks = [i.ask_s for i in view.iterations if i.origin != "guess"]
    facts = [
        *_best_facts(view),
        ("points", f"{counts.total:,}", ", ".join(notes), ""),
        ("failed", f"{sum(counts.failed.values()):,}", failed, ""),
        ("iterations", f"{len(view.iterations):,}", f"longest ask {duration(max(asks))}" if asks else "", ""),
        ("time", duration(run.elapsed_s), _idle(view), ""),
    ]
    shown = "".join(
        f"<div{kind}><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note, kind in facts
    )
    said = f'<p class="muted">{escape(what)}<br>{escape(state)}</p>'
    return f'<h1>{escape(view.name)}</h1>\n{said}\n<dl class="facts">{shown}</dl>'


def _best_facts(view: RunView) -> Iterator[tuple[str, str, str, str]]:
    best = view.best(n=1)
    if not best:
        yield "best", "none yet", none_feasible(view.outcomes, view.points) or "no point is done", ""
        return
    if len(view.goals) > 1:
        yield "Pareto front", plural(len(view.best()), "point"), "dominated by no other", ' class="lead"'
        if (volume := view.volume()) is not None:
            yield "hypervolume", number(volume.value), str(volume.reference), ""
        return
    point, name = best[0], view.goals[0].name
    where = f"point {point.id}, iteration {point.iteration}"
    where += f", model {point.model}" if len(view.models) > 1 else ""
    yield f"best {name}", number((point.values or {})[name]), where, ' class="lead"'
    first = view.first_iteration_best(point.model)
    if first is not None and first.id != point.id:
        yield (
            "first iteration's best",
            number((first.values or {})[name]),
            "before the search had learnt anything",
            "",
        )


def _idle(view: RunView) -> str:
    from steering.plots.timeline import idle_share, make_lanes

    tried = [a for a in view.attempts if a.started_at is not None]
    if not tried:
        return ""
    now = max(max(a.ended_at or 0.0, a.started_at or 0.0) for a in tried)
    lanes = make_lanes(tried, now)
    return f"{plural(len(lanes), 'slot')}, busy {100 * (1 - idle_share(lanes, view.iterations)):.0f} %"


def _best_section(view: RunView) -> str:
    if len(view.goals) > 1 or len(view.models) > 1:
        return ""
    best = view.best(n=1)
    if not best:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(_exact(value))}</td></tr>"
        for name, value in best[0].params.items()
    )
    return f'<h2>Best parameters</h2>\n<div class="wide"><table class="pairs">{rows}</table></div>'


def _exact(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def _pictures(view: RunView) -> list[tuple[str, str]] | None:
    """SVG and kind of each plot; None where what draws is not installed."""
    if find_spec("matplotlib") is None:
        return None
    from steering.plots import drawings
    from steering.plots.style import inline_svg, styled

    kinds = ["progress", "pareto", "timeline"]
    kinds[1:1] = ["importance", "parallel"] if find_spec("optuna") is not None else ["parallel"]
    with styled():
        return [
            (inline_svg(d.figure, d.stem.replace("-", " of model ")), d.kind)
            for d in drawings(view, kinds)
            if d.figure is not None
        ]


def _pictures_section(pictures: Sequence[tuple[str, str]] | None, view: RunView) -> str:
    if pictures is None:
        return (
            "<h2>Pictures</h2>\n<p>They need an extra: <code>pip install &quot;hpo-steer[plot]&quot;</code>, "
            f"then <code>hpo-steer plot {escape(view.name)}</code>.</p>"
        )
    titles = {
        "progress": "Progress",
        "importance": "Importance",
        "parallel": "Parameters",
        "pareto": "Pareto front",
    }
    parts, last = [], ""
    for svg, kind in pictures:
        if kind != last:
            parts.append(f"<h2>{titles.get(kind, kind.capitalize())}</h2>")
        last = kind
        parts.append(f'<figure class="wide">{svg}</figure>')
    return "\n".join(parts)


def _models_section(view: RunView) -> str:
    if len(view.models) < 2:
        return ""
    names = [goal.name for goal in view.goals]
    rows = []
    for model in view.models[:_MODELS]:
        points, best = view.by_model[model.name], view.best(model.name, 1)
        values = best[0].values or {} if best else {}
        rows.append(
            [
                model.name,
                f"{sum(p.state == 'done' for p in points)}/{len(points)}",
                str(sum(p.state == "failed" for p in points)),
                *([number(values[names[0]]) if values else "-"] if len(names) == 1 else []),
                params(best[0].params) if best and len(names) == 1 else "",
            ]
        )
    heads = ["model", "done", "failed", *([f"best {names[0]}"] if len(names) == 1 else []), "parameters"]
    more = (
        f'<p class="muted">The first {_MODELS} of {len(view.models)}.</p>'
        if len(view.models) > _MODELS
        else ""
    )
    return f"<h2>Models</h2>\n{_table(heads, rows, set(range(1, len(heads) - 1)))}{more}"


def _points_section(view: RunView) -> str:
    best = view.best(n=_BEST)
    if not best:
        return ""
    names = list(view.experiment.measured)
    several = len(view.models) > 1
    keys = list(dict.fromkeys(p.name for model in view.models[:_MODELS] for p in view.space(model.name)))
    heads = ["point", *(["model"] if several else []), "iteration", *names, *keys, "time"]
    rows = [
        [
            str(p.id),
            *([p.model] if several else []),
            str(p.iteration),
            *(number((p.values or {}).get(name)) for name in names),
            *(number(p.params[key]) if key in p.params else "-" for key in keys),
            "reused"
            if p.duplicate_of is not None
            else "-"
            if p.duration_s is None
            else duration(p.duration_s),
        ]
        for p in best
    ]
    numeric = {0, *range(2 if several else 1, len(heads))}
    title = f"The {len(best)} best points" if len(view.goals) == 1 else "The Pareto front"
    return f"<h2>{title}</h2>\n{_table(heads, rows, numeric)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: set[int]) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if i in numeric else ''}>{escape(c)}</{tag}>" for i, c in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    top = f"<thead><tr>{cells('th', heads)}</tr></thead>"
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'


def _failures_section(view: RunView) -> str:
    failed = [p for p in view.points if p.failure is not None]
    if not failed:
        return ""
    shown = "".join(_failure(view, p) for p in failed[-_FAILURES:])
    more = f'<p class="muted">The last {_FAILURES} of {len(failed)}.</p>' if len(failed) > _FAILURES else ""
    return f"<h2>Failures</h2>\n{more}{shown}"


def _failure(view: RunView, point: PointRecord) -> str:
    failure = point.failure
    kind, message = (failure.kind, failure.message) if failure else ("", "")
    first = (message.strip().splitlines() or [""])[0]
    log = "\n".join(view.last_log(point).rstrip().splitlines()[-_LOG_LINES:]) or message
    where = f"point {point.id}, {plural(point.attempts, 'attempt')}" + (
        f", {point.worker}" if point.worker else ""
    )
    return (
        f'<details><summary><span class="warn">{escape(kind)}</span> {escape(first[:160])} '
        f'<span class="muted">{escape(where)}</span></summary><p>{escape(params(point.params))}</p>'
        f"<pre>{escape(log)}</pre></details>"
    )


def _config_section(view: RunView) -> str:
    import yaml

    file = view.config_path
    text = yaml.safe_dump(dict(view.run.config), sort_keys=False, allow_unicode=True, width=100)
    source = f"It was made from {escape(str(file))}. " if file is not None else ""
    return (
        "<h2>How to reproduce</h2>\n"
        f"<p>{source}The search is a function of this config, its seed and the results in their order: "
        "<code>replay</code> takes the algorithm through the recorded results and compares its proposals with "
        f"the recorded points. Written by hpo-steer {escape(_version())}.</p>\n"
        f"<pre>hpo-steer --config {escape(file.name if file else 'config.yaml')}\n"
        f"hpo-steer replay {escape(view.name)}</pre>\n"
        "<details><summary>Config of the run, with every default</summary>"
        f"<pre>{escape(text)}</pre></details>"
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hpo-steer")
    except PackageNotFoundError:
        return "(not installed)"
