"""The placeholders of phpo's execution strings.

They stand in shell text, so what is put in their place is what a shell reads: names with spaces need quotes around the
placeholder, as they do with phpo.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEERING = re.compile(r"%(IN|OUT|NUM_POINTS|MAX_POINTS)(?![A-Za-z0-9_])")
_EVALUATION = re.compile(r"%(?:(IN_DATA|SEGMENT_NAME)|RNDM[:=](\d+)%?)")
_LEFT_ALONE = re.compile(
    r"%(?:SKIPEVENTS|MAXEVENTS|FIRSTEVENT[:=]\d+|DB[:=][^ '\"}]+|RNDM(?![:=]\d)|X509_USER_PROXY_(?:FULLNAME|BASENAME))"
)
_WHY = {
    "%SKIP": "an evaluation has no events",
    "%MAXE": "an evaluation has no events",
    "%FIRS": "an evaluation has no events",
    "%DB:": "there is no conditions database",
    "%DB=": "there is no conditions database",
    "%RNDM": "it needs a number, as in %RNDM:100",
    "%X509": "there is no grid proxy",
}


def fill_steering(argument: str, *, infile: str, outfile: str, num_points: int, max_points: int) -> str:
    """An argument of a steering command with its placeholders filled in.

    Args:
        argument: may hold ``%IN``, ``%OUT``, ``%NUM_POINTS`` and ``%MAX_POINTS``; a longer word that begins with one of
            them stays.
        infile: name of the input file. Commands put a folder before it, so it is best a bare name.
        outfile: name of the output file.
        num_points: how many points are wanted now.
        max_points: how many the search may have in all.

    >>> fill_steering("-n %NUM_POINTS -i /d/%IN", infile="in.json", outfile="out.json", num_points=2, max_points=9)
    '-n 2 -i /d/in.json'
    """
    texts = {"IN": infile, "OUT": outfile, "NUM_POINTS": str(num_points), "MAX_POINTS": str(max_points)}
    return _STEERING.sub(lambda found: texts[found[1]], argument)


def fill_evaluation(argument: str, *, data: Sequence[str], segment: str, point: int) -> str:
    """An argument of an evaluation command with its placeholders filled in.

    Args:
        argument: may hold ``%IN_DATA`` (the data files, with commas between), ``%SEGMENT_NAME`` and ``%RNDM:n`` (n plus
            the point's id, so that every point has its own).
        data: the data files.
        segment: name of the segment (model).
        point: the point's id.

    >>> fill_evaluation("f %IN_DATA %RNDM:100", data=["a", "b"], segment="s", point=7)
    'f a,b 107'
    """

    def text(found: re.Match[str]) -> str:
        if found[1] is None:
            return str(int(found[2]) + point)
        return ",".join(data) if found[1] == "IN_DATA" else segment

    return _EVALUATION.sub(text, argument)


def left_alone(text: str) -> list[str]:
    """The placeholders of phpo in a text that are not filled in, each once and with the reason.

    >>> left_alone("run %MAXEVENTS")
    ['%MAXEVENTS stays as it is: an evaluation has no events']
    """
    found = dict.fromkeys(_LEFT_ALONE.findall(text))
    return [f"{name} stays as it is: {_reason(name)}" for name in found]


def _reason(name: str) -> str:
    return next(why for start, why in _WHY.items() if name.startswith(start))
