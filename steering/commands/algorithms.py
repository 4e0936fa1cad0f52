"""``hpo-steer algorithms``: the search methods that a config can name."""

from steering.commands.options import AsJson, say, say_json, show_table


def algorithms(as_json: AsJson = False) -> None:
    """The search methods that a config can name, plug-ins included.

    Example: hpo-steer algorithms
    """
    from hpo_steer.registry import registered

    found = [
        {"name": name, "summary": entry.summary, "extra": entry.extra, "installed": installed(entry.extra)}
        for name, entry in sorted(registered().items())
    ]
    if as_json:
        say_json(found)
        return
    rows = []
    for algorithm in found:
        missing = (
            "" if algorithm["installed"] else f' (missing: pip install "hpo-steer[{algorithm["extra"]}]")'
        )
        rows.append([str(algorithm["name"]), f"{algorithm['summary']}{missing}"])
    show_table(["algorithm", "what it does"], rows)
    say("")
    say("in a config: algorithm: NAME, or {name: NAME, option: …}; one of your own: {class: FILE.py:CLASS},")
    say("or {generator: MODULE:CLASS} of the standard of Xopt, libEnsemble and Optimas")


def installed(extra: str | None) -> bool:
    """Whether what an extra of hpo-steer brings is installed."""
    import re
    from importlib.metadata import PackageNotFoundError, distribution, requires

    if extra is None:
        return True
    try:
        needed = requires("hpo-steer") or []
    except PackageNotFoundError:
        return True
    for requirement in needed:
        name, _, condition = requirement.partition(";")
        if (
            not re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", condition)
            or "platform_system" in condition
        ):
            continue
        try:
            distribution(re.split(r"[\s\[<>=!~(]", name.strip())[0])
        except PackageNotFoundError:
            return False
    return True
