"""`adaptivenet-runner`: builds runners, the programs that are pushed to phones, and says where they are."""

from __future__ import annotations

from importlib.metadata import version

import click
from adaptivenet.toolkit.cli.console import print_json, reports_errors, table
from adaptivenet.toolkit.devices.phone.runner_bundle import (
    LIST,
    PRESETS,
    Bundle,
    build_command,
    builds_folder,
    find_bundle,
    runner_version,
)
from adaptivenet.toolkit.errors import DeviceError


@click.group()
def main() -> None:
    """Build the runner, the program that measures and evaluates on phones, and find the built ones."""


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("preset")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-DNAME=VALUE]...")
@reports_errors
def build(preset: str, arguments: tuple[str, ...]) -> None:
    """Build the runner of PRESET: host (this computer), linux-arm64, android-arm64 or android-x86_64.

    linux-arm64 is for phones, and needs no Android NDK. Further arguments go to CMake. What must be installed for the
    build is named, with the command that installs it.
    """
    from . import build as builder

    bundle = builder.build(preset, arguments)
    click.echo(f"{bundle.folder}: runner {bundle.version}, {len(bundle.files)} files, {_size(bundle)}")


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one json document instead of a table.")
@reports_errors
def list_runners(as_json: bool) -> None:
    """Show the runner of each preset: its version, its size and its folder, or the command that builds it."""
    states = {preset: _state(preset) for preset in PRESETS}
    if as_json:
        print_json(
            {
                "version": runner_version(version("adaptivenet")),
                "builds": str(builds_folder()),
                "runners": [
                    {"preset": preset, "folder": str(state.folder), "version": state.version}
                    if isinstance(state, Bundle)
                    else {"preset": preset, "folder": None, "problem": state}
                    for preset, state in states.items()
                ],
            }
        )
        return
    rows = [("preset", "version", "size", "folder")]
    for preset, state in states.items():
        if isinstance(state, Bundle):
            rows.append((preset, state.version, _size(state), str(state.folder)))
        else:
            rows.append((preset, "-", "-", state))
    click.echo(table(rows, right=(2,)))


@main.command()
@click.argument("preset", default="host")
@reports_errors
def where(preset: str) -> None:
    """Print the folder of the runner of PRESET (default: host), as --runner takes it."""
    if preset not in PRESETS:
        raise DeviceError(f"there is no preset {preset!r}: choose from {', '.join(PRESETS)}")
    click.echo(find_bundle([preset]).folder)


def _state(preset: str) -> Bundle | str:
    """The runner of a preset, or why there is none."""
    try:
        return find_bundle([preset])
    except DeviceError as error:
        if (builds_folder() / preset / "bundle" / LIST).exists():
            return str(error)
        return f"not built: {build_command(preset)}"


def _size(bundle: Bundle) -> str:
    return f"{sum(file.bytes for file in bundle.files) / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
