# Sourced by the other scripts: makes .venv with what they need, from nothing but Debian's (or any) Python.

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$here"

say() { printf '\n== %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then sudo "$@"
    else
        echo "error: '$*' needs root; run it yourself, then start this script again" >&2
        exit 1
    fi
}

apt_updated=
debian_package() { # debian_package NAME...: installs Debian packages, services not started
    command -v apt-get >/dev/null 2>&1 || { echo "error: please install $* and start this script again" >&2; exit 1; }
    if [ -z "$apt_updated" ]; then as_root apt-get update -qq; apt_updated=1; fi
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() { # the newest of the supported ones that can make virtual environments
    for name in "${PYTHON:-python3.13}" python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ]; then
    debian_package python3
    python=$(find_python)
fi
[ -n "$python" ] || { echo "error: hpo-steer needs Python 3.11 to 3.13; set PYTHON=/path/to/python3.11" >&2; exit 1; }
"$python" -c 'import ensurepip, venv' 2>/dev/null || debian_package python3-venv

environment=${HPO_STEER_VENV:-.venv}
case $environment in /*) ;; *) environment=$here/$environment ;; esac
if [ ! -x "$environment/bin/python" ]; then
    say "making ${environment#"$here"/} with $("$python" --version)"
    "$python" -m venv "$environment"
fi
PATH="$environment/bin:$PATH"
export PATH

install() { # install EXTRAS: this checkout, editable, with the tested versions
    stamp="$environment/installed-$(printf '%s' "$1" | tr ',' '-')-$(cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)"
    [ -e "$stamp" ] && return
    say "installing hpo-steer[$1]"
    python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[$1]"
    touch "$stamp"
}
