"""Charliecloud: unpacked images, no daemon, no privileges; containers are children of their caller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from containers.errors import ContainerError
from containers.runtimes.base import Runtime, pairs, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers.launch import Launch


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Charliecloud(Runtime):
    """``ch-run``."""

    @property
    def program(self) -> str:
        """The program that runs containers."""
        return "ch-run"

    def command(self, launch: Launch) -> list[str]:
        """``ch-run``; the image is an unpacked folder."""
        self.refuse(launch, network=True, limits=True)
        if not launch.argv:
            raise ContainerError(
                f"container.image {launch.image}: charliecloud knows no entry points; give a command"
            )
        argv = [self.program, "--env-no-expand", "--unset-env=*", f"--set-env=PATH={_PATH}"]
        argv += ["--set-env"] if (Path(launch.image) / "ch/environment").is_file() else []
        argv += [f"--set-env={name}={value}" for name, value in launch.env.items()]
        argv += pairs("--bind", [f"{mount.host}:{mount.inside}" for mount in launch.mounts])
        argv += ["--cd", launch.workdir]
        if launch.user is not None:
            uid, _, gid = launch.user.partition(":")
            argv += [f"--uid={uid}", *([f"--gid={gid}"] if gid else [])]
        return [*argv, *launch.options, launch.image, "--", *launch.argv]

    def make_ready(self, launch: Launch) -> None:
        """Makes the places of mounts in the image, which ``ch-run`` cannot do in an image that it only reads."""
        for mount in launch.mounts:
            if mount.inside == "/tmp" or mount.inside.startswith("/tmp/"):  # noqa: S108 - the machine's own is there
                continue
            place = Path(launch.image) / mount.inside.lstrip("/")
            try:
                if Path(mount.host).is_dir():
                    place.mkdir(parents=True, exist_ok=True)
                else:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.touch()
            except OSError as exc:
                raise ContainerError(
                    f"{mount.inside} is not in the image {launch.image} and cannot be made there: {exc.strerror}"
                ) from None

    def takes(self, image: str) -> bool:
        """An unpacked folder."""
        return Path(image).is_dir()

    def trouble(self) -> str | None:
        """Asks for its version; it wants to know the user's name."""
        if self.found() is None:
            return "is not installed"
        if not self.env.get("USER"):
            return "the environment variable USER is not set"
        code, text = self.ask("--version")
        return None if code == 0 else shortened(text)

    def provide(self, image: str, say: Callable[[str], None]) -> None:  # noqa: ARG002 - it fetches nothing
        """The folder has to be there."""
        if not Path(image).is_dir():
            raise ContainerError(
                f"there is no unpacked image {image}; make one with ch-image and ch-convert, or untar it"
            )
