"""How large anything in a message may be; `docs/reference/messages.md` lists the same.

A receiver refuses what is beyond a limit, so a sender must not send it. Standard library only, Python 3.9 or
later: the process that runs a training knows them too.
"""

from __future__ import annotations

MAX_BYTES = 1_048_576
"""Of a message, and of a bundle."""
MAX_BUNDLE = 1_000
"""Messages in a bundle."""
MAX_NAME = 200
"""Characters of a name: experiment, run, model, worker, host, metric."""
NAME_RULE = f"1 to {MAX_NAME} characters, none of them a control character"
SEM = "_sem"
"""What follows a metric's name in that of its standard error."""
MAX_PARAM_NAME = 1_000
"""Characters of a key in `params`, at any depth."""
MAX_REASON = 1_000
"""Characters of a reason, in a message and of a dead letter."""
MAX_LOG_CHARS = 16_384
"""How much of the end of a log travels with a result."""
MAX_LOG = 2 * MAX_LOG_CHARS
"""Characters of a log that a receiver takes."""
MAX_FAILURE = 4 * MAX_LOG_CHARS
"""Characters of a failure's message."""
MAX_ID = 2**53
"""The largest id: the largest whole number that every JSON reader keeps exactly."""
MAX_ATTEMPT = 100_000
MAX_STEP = 2**31 - 1
"""Steps of a report lie between this and its negative."""
MAX_SLOTS = 10_000
"""Slots of one worker, and attempts that it may run at once."""
MAX_GPUS = 1_024
"""GPUs of one worker, slices counted each."""
MAX_GPUS_OF_A_SLOT = 64
MAX_SPOOLED = 1_000_000_000
MAX_METRICS = 10_000
MAX_LEFT_OUT = 100
"""Names of metrics that a report may say it has left out."""
MAX_CANCELLED = 100_000
"""Points in one `cancel`."""
MAX_TIME = 253_402_300_799
"""The end of the year 9999, in seconds since the epoch."""
MAX_DURATION_S = 1_000_000_000
MAX_PARAM_DEPTH = 32
"""Lists and objects within one another in `params`."""
MAX_PARAM_VALUES = 100_000
"""Values in `params`, all nested ones together."""
MAX_PARAM_INT = 2**63
"""Whole numbers in `params` lie between this and its negative."""
MAX_DEAD_BYTES = 65_536
"""What is kept of a message that is larger than `MAX_BYTES`, in its dead letter."""
MAX_PART = 524_288
"""Bytes of one part of a code bundle, before base64 makes a text of them."""
MAX_PARTS = 8_192
"""Parts of a code bundle, so 4 GiB of them."""
MAX_SHIPPED_MIB = 4_096
"""MiB of a code bundle, and of all that is in one; a worker takes no more, whatever it is told."""
MAX_RANGES = 1_000
"""Ranges of parts in one `bundle_wanted`."""
MAX_URL = 2_000
"""Characters of the address of a code bundle."""
MAX_LINE = 67_108_864
"""Bytes of one line that an algorithm's process answers."""


def is_name(text: str) -> bool:
    r"""Whether a text can be a name: not empty, not too long, no control characters.

    >>> is_name("loss"), is_name("a\nb"), is_name("")
    (True, False, False)
    """
    return 0 < len(text) <= MAX_NAME and not has_controls(text)


def has_controls(text: str) -> bool:
    """Whether a text holds a control character (Unicode's category Cc) or half of a surrogate pair."""
    if text.isprintable():
        return False
    return any(c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in text)


def tidy(reason: str) -> str:
    r"""A reason fit for a header, a log and a terminal: one line of at most `MAX_REASON` characters.

    >>> tidy("no\x1b[31m way")
    'no?[31m way'
    """
    text = reason[:MAX_REASON]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def harmless(text: str) -> str:
    r"""A text as a terminal may show it: lines stay lines, and all other control characters are spelt out.

    What a training, a worker or a broker has written must not move the cursor of whoever reads it, nor set the title
    of his window.

    >>> print(harmless("\x1b]0;gone\x07"))
    \x1b]0;gone\x07
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
