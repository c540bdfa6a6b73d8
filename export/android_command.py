"""What `adaptivenet-export --bundle android` does, and says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from adaptivenet.toolkit.cli.console import table
from adaptivenet.toolkit.errors import ExportError, ProfileError
from adaptivenet.toolkit.pack.manifest import MANIFEST
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.plurals import number_of

from .android import AndroidBundle, assets_name, backend_of, bundle_for_android, check_place, chosen_profiles
from .android_readme import HEADS, row

Export = Callable[[str, str], dict[str, Any]]
"""Exports a supernet to a folder, as a pack of the given name, and returns what there is to say of it."""


def make_bundle(
    source: str,
    out: str,
    backends: Sequence[str],
    profiles: Sequence[str],
    name: str | None,
    overwrite: bool,
    dry_run: bool,
    export: Export,
) -> dict[str, Any]:
    """Bundles the pack `source`, or what `export` makes of that supernet, and returns what there is to say of it.

    Raises what `bundle_for_android` raises, before anything is exported where that can be known.
    """
    if (Path(source) / MANIFEST).exists():
        if len(backends) > 1:
            raise ExportError(f"a bundle holds one backend, not {', '.join(backends)}: say --backend once")
        pack = BlockPack.open(source)
        asked = backends[0] if backends else None
        if dry_run:
            check_place(Path(out), overwrite)
            return _planned(out, pack, profiles, asked, name)
        return _facts(bundle_for_android(pack, out, profiles, backend=asked, name=name, overwrite=overwrite), pack)
    check_place(Path(out), overwrite)
    shipped = chosen_profiles(profiles)
    backend = backend_of(shipped)
    if backends and backend not in backends:
        raise ExportError(f"the profiles are of {backend}, which --backend does not name: export for it, too")
    packs = sorted({each.profile.name for each in shipped})
    if len(packs) > 1:
        raise ExportError(f"the profiles are of several packs, {', '.join(packs)}, and a bundle is of one")
    assets_name(name if name is not None else packs[0], given=name is not None)
    with tempfile.TemporaryDirectory(prefix="adaptivenet-bundle-") as folder:
        path = Path(folder) / "pack"
        made = export(str(path), packs[0])
        if dry_run:
            return {
                "dry_run": True,
                "path": out,
                "blocks": made["blocks"],
                "backend": backend,
                "profiles": [each.source for each in shipped],
            }
        pack = BlockPack.open(path)
        try:
            return _facts(bundle_for_android(pack, out, profiles, name=name, overwrite=overwrite), pack)
        except ProfileError as error:
            raise ProfileError(
                f"{error}. Or {source} was exported otherwise then: bundle that pack itself, or export with the same "
                "options, such as --int8 and --backend"
            ) from error


def show(document: dict[str, Any]) -> None:
    """Prints what `make_bundle` returned."""
    if document.get("dry_run"):
        click.echo(f"would write a bundle for Android to {document['path']}: {'; '.join(document['profiles'])}")
        return
    click.echo(table([list(HEADS), *map(row, document["points"])], right=(1, 2, 4, 5)))
    for warning in document["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    original = document["bundled_from"]
    click.echo(
        f"\n{document['assets']}: {document['bytes'] / 1e6:.2f} MB in {number_of(document['files'], 'file')}; its "
        f"programs are "
        f"{document['program_bytes'] / original['bytes']:.0%} of the {original['bytes'] / 1e6:.2f} MB of "
        f"{original['path']}; not to be compressed: {', '.join('.' + each for each in document['no_compress'])}"
    )
    click.echo(f"{document['path']}/README.md has the lines of Gradle and Kotlin that use it")


def _planned(out: str, pack: BlockPack, profiles: Sequence[str], asked: str | None, name: str | None) -> dict[str, Any]:
    shipped = chosen_profiles(profiles, pack)
    used = set(pack.graph.oracle).union(*(point.subnet for each in shipped for point in each.profile.front.points))
    return {
        "dry_run": True,
        "path": out,
        "backend": backend_of(shipped, asked),
        "name": assets_name(name if name is not None else pack.name, given=name is not None),
        "blocks": len(used),
        "profiles": [f"{each.soc or 'any other SoC'} by {each.source}" for each in shipped],
    }


def _facts(bundle: AndroidBundle, pack: BlockPack) -> dict[str, Any]:
    return {
        "path": str(bundle.path),
        "assets": str(bundle.assets),
        "name": bundle.name,
        "digest": bundle.pack.digest,
        "backend": bundle.backend,
        "no_compress": list(bundle.no_compress),
        "bytes": bundle.bytes,
        "program_bytes": _program_bytes(bundle.pack),
        "files": sum(path.is_file() for path in bundle.assets.rglob("*")),
        "points": [point.to_json() for point in bundle.points],
        "warnings": list(bundle.warnings),
        "bundled_from": {"path": str(pack.path), "digest": pack.digest, "bytes": _program_bytes(pack)},
    }


def _program_bytes(pack: BlockPack) -> int:
    """Of all the programs of a pack, each file once."""
    return sum({artifact.file: artifact.bytes for artifact in pack.artifacts()}.values())
