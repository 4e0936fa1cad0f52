"""``hpo-steer replay``: does the algorithm, given the recorded results, propose the recorded points again?"""

import typer

from steering.commands.options import RUNS, AsJson, Config, Model, Run, StoreFolder, say, say_json


def replay(
    run: Run = None,
    *,
    config: Config = None,
    store: StoreFolder = RUNS,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Takes the algorithm through the recorded history; exit code 0 if it proposes the recorded points.

    Example: hpo-steer replay digits
    """
    from steering.replay import replay_run
    from steering.run_view import open_view
    from steering.words import plural

    with open_view(run, config=config, store=store) as view:
        found = replay_run(view, model)
    if as_json:
        say_json(found)
    elif found["reproduced"]:
        say(f"ok: {plural(found['iterations'], 'iteration')}, {plural(found['points'], 'point')} reproduced")
    else:
        difference = found["first_difference"]
        say(
            f"FAIL: the first difference is in iteration {difference['iteration']} of {difference['model']}, "
            f"point {difference['id']}"
        )
        say(f"  recorded  {difference['recorded']}")
        say(f"  proposed  {difference['proposed']}")
        say(
            f"before it {plural(found['points'], 'point')} in {plural(found['iterations'], 'iteration')} "
            "were reproduced; another version of the algorithm or of its libraries proposes other points"
        )
    if not found["reproduced"]:
        raise typer.Exit(1)
