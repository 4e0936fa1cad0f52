"""What the users of steering and of workers may do on RabbitMQ, as the commands that allow it.

RabbitMQ knows three rights, each an expression over the names of queues and exchanges: to *configure* (declare and
delete), to *write* (publish to an exchange, bind a queue) and to *read* (consume and purge a queue, bind to an
exchange).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from hpo_steer.errors import ConfigError

CONTROL_ID = "[0-9a-f]{32}"
"""The last part of the name of a worker's own queue."""
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")
_ANY = ".+"

_STEERING = {
    "configure": r"work|events|work\.in|events\.in|control|bundles|dead",
    "write": r"work|events|work\.in|events\.in|control|bundles|dead",
    "read": r"work|events|work\.in|events\.in|dead",
}
_WORKER = {
    "configure": rf"control\.{CONTROL_ID}",
    "write": rf"events\.in|dead|control\.{CONTROL_ID}",
    "read": rf"work|control|bundles|control\.{CONTROL_ID}",
}


@dataclass(frozen=True)
class Permissions:
    """The rights of one user in one virtual host, as RabbitMQ takes them.

    Attributes:
        configure: what may be declared and deleted.
        write: what may be published to and bound.
        read: what may be consumed, purged and bound to.
    """

    configure: str
    write: str
    read: str


def steering_permissions(experiment: str | None, *, with_workers: bool = False) -> Permissions:
    r"""What steering needs.

    Args:
        experiment: its name; None: all experiments.
        with_workers: whether it starts workers of its own, which connect as the same user.

    >>> steering_permissions("digits").write
    '^hpo\\.digits\\.(work|events|work\\.in|events\\.in|control|bundles|dead)$'
    """
    return _permissions(experiment, _STEERING, *([_WORKER] if with_workers else []))


def worker_permissions(experiment: str | None) -> Permissions:
    r"""What a worker needs.

    Args:
        experiment: its name; None: all experiments.

    >>> worker_permissions("digits").read
    '^hpo\\.digits\\.(work|control|bundles|control\\.[0-9a-f]{32})$'
    """
    return _permissions(experiment, _WORKER)


def _permissions(experiment: str | None, *roles: dict[str, str]) -> Permissions:
    name = _ANY if experiment is None else re.escape(experiment)

    def expression(right: str) -> str:
        ends = dict.fromkeys(end for role in roles for end in role[right].split("|"))
        return rf"^hpo\.{name}\.({'|'.join(ends)})$"

    return Permissions(expression("configure"), expression("write"), expression("read"))


def check_user(key: str, name: str) -> None:
    """Whether a user can have this name.

    Raises:
        ConfigError: it cannot; `key` is where it was named.
    """
    if not _USER.fullmatch(name):
        raise ConfigError(
            key, f"{name!r} is no user's name: letters, digits, '_', '.', '@' and '-', 100 at most"
        )


_HEAD = """\
# Users of RabbitMQ and what they may do, by hpo-steer. Run this on the broker's machine, as root:
#
#     … | sudo sh
#
# A new user's password comes from the file USER.password in the present folder. Where there is none, it is made,
# for root's eyes only: move it to where the user needs it. A user who is there already keeps his password.
# The rights of a user in a virtual host are replaced, not added to.
set -eu
umask 077
ctl() {
    rabbitmqctl -q "$@" </dev/null  # or it might eat this script
}
vhosts=$(ctl list_vhosts)
users=$(ctl list_users)
among() {
    printf '%s\\n' "$2" | cut -f 1 | grep -qxF -e "$1"
}
user() {
    if among "$1" "$users"; then
        printf 'user %s is there already, and keeps the password\\n' "$1"
        return
    fi
    [ -s "$1.password" ] || od -A n -t x1 -N 16 /dev/urandom | tr -d ' \\n' >"$1.password"
    rabbitmqctl add_user "$1" <"$1.password" >/dev/null  # with an option more, 4.0 does not read it
    printf 'user %s: the password is in %s\\n' "$1" "$PWD/$1.password"
}
"""


def script(vhost: str, users: dict[str, Permissions]) -> str:
    """A shell script that makes a virtual host and users, and grants their rights.

    Args:
        vhost: the virtual host.
        users: rights by name.
    """
    place = shlex.quote(vhost)
    lines = [f'among {place} "$vhosts" || ctl add_vhost {place}']
    for name, rights in users.items():
        who = shlex.quote(name)
        given = " ".join(shlex.quote(text) for text in (rights.configure, rights.write, rights.read))
        lines += [f"user {who}", f"ctl set_permissions -p {place} {who} {given}"]
    return _HEAD + "\n".join(lines) + "\n"
