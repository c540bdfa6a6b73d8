"""Programs that are damaged in spite of their right SHA-256, as a hostile pack may have them: errors, never silence."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.devices.connect import connect
from adaptivenet.toolkit.devices.phone.device import PhoneDevice
from adaptivenet.toolkit.errors import AdaptiveNetError
from adaptivenet.toolkit.pack.pack import BlockPack
from packs import edit_manifest
from runners import bundle_for

BLOCK = "b1-p50"
SUBNET = ("b0", BLOCK, "b2")


def with_program(pack: BlockPack, folder: Path, content: bytes) -> BlockPack:
    """A copy of the pack in which this is the block's program for ExecuTorch."""
    shutil.copytree(pack.path, folder)
    file = f"blobs/{hashlib.sha256(content).hexdigest()}.pte"
    (folder / file).write_bytes(content)

    def change(manifest: dict[str, Any]) -> None:
        (block,) = (block for block in manifest["blocks"] if block["name"] == BLOCK)
        block["artifacts"]["executorch"] |= {"file": file, "bytes": len(content)}

    edit_manifest(folder, change)
    return BlockPack.open(folder)


def damaged(rng: random.Random, program: bytes) -> bytes:
    """The program cut off, or with a few of its bits flipped."""
    if rng.random() < 0.25:
        return program[: rng.randrange(len(program))]
    spoilt = bytearray(program)
    for _ in range(rng.choice([1, 4, 64])):
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def test_the_runner_refuses_or_survives_them(tiny_pack: BlockPack, pictures: np.ndarray, tmp_path: Path) -> None:
    bundle_for("")
    rng = random.Random(6)
    program = tiny_pack.read(tiny_pack.artifact(BLOCK, "executorch"))
    device = connect("runner")
    assert isinstance(device, PhoneDevice)
    refused: list[str] = []
    for case in range(30):
        pack = with_program(tiny_pack, tmp_path / str(case), damaged(rng, program))
        try:
            with device.open(pack) as session:
                session.activate(SUBNET)
                session.infer(pictures[:1])
        except AdaptiveNetError as error:
            refused.append(str(error))
        device.calls("info")  # it is there, at once
    device.close()
    assert len(refused) > 10
    for message in refused:
        assert f"block '{BLOCK}'" in message
        assert "\n" not in message


@pytest.mark.parametrize("address", ["local:executorch", "runner"])
def test_one_that_is_cut_off_does_not_load(
    address: str, tiny_pack: BlockPack, pictures: np.ndarray, tmp_path: Path
) -> None:
    if address == "runner":
        bundle_for("")
    program = tiny_pack.read(tiny_pack.artifact(BLOCK, "executorch"))
    pack = with_program(tiny_pack, tmp_path / "cut", program[: len(program) // 2])
    device = connect(address)
    with device.open(pack) as session, pytest.raises(AdaptiveNetError, match=f"block '{BLOCK}' does not load"):
        session.activate(SUBNET)
    device.close()
