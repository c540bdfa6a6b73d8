"""How a command begins: what it needs is imported, which takes a second or more, and may be interrupted."""

from collections.abc import Callable
from importlib import import_module

from .process import end_at_once_when_interrupted


def command(module: str) -> Callable[[], None]:
    """The `main` of a module that is imported when it is called: an entry point of an installed command."""

    def start() -> None:
        end_at_once_when_interrupted()
        import_module(module).main()

    return start


elastify = command("adaptivenet.toolkit.cli.elastify")
profile = command("adaptivenet.toolkit.cli.profile")
run = command("adaptivenet.toolkit.cli.run")
