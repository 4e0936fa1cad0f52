"""``hpo-steer check``: is a config right, before anything is started?"""

from pathlib import Path
from typing import Annotated

import typer

from steering.commands.options import AsJson, say, say_json


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The config.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Checks a config and all that it needs, and starts nothing: exit code 0 if it can run, else 2.

    Example: hpo-steer check my.yaml
    """
    from steering.checks import check_config

    findings = []
    for finding in check_config(file):
        findings.append(finding)
        if not as_json:
            say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.subject}: {finding.text}")
    failed = sum(not finding.ok for finding in findings)
    if as_json:
        say_json(
            {
                "ok": failed == 0,
                "checks": [{"subject": f.subject, "ok": f.ok, "text": f.text} for f in findings],
            }
        )
    elif failed:
        say(f"{failed} of {len(findings)} checks failed")
    if failed:
        raise typer.Exit(2)
