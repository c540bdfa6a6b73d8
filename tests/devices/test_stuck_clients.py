"""Clients of the runner's daemon that do not read, at its own socket: they hold up no other client, and not its end."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.devices.phone.device import PhoneDevice, remove_everything
from adaptivenet.toolkit.devices.phone.here import Here
from adaptivenet.toolkit.pack.pack import BlockPack
from runners import bundle_for, ended, wait_until

IDLE_S = 3


@pytest.fixture
def device(tmp_path: Path) -> Iterator[PhoneDevice]:
    bundle_for("")
    yield PhoneDevice(Here(), home=str(tmp_path), idle_s=IDLE_S)
    remove_everything(Here(), str(tmp_path))


def ask(home: Path, **request: Any) -> socket.socket:
    """A connection of its own to the daemon in `home`, with a request that is sent."""
    name = (home / "run" / "socket").read_text().strip()
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(f"\0{name}")
    client.sendall(json.dumps({"version": bundle_for("").version, **request}).encode() + b"\n")
    return client


def events(client: socket.socket) -> list[dict[str, Any]]:
    with client.makefile("rb") as lines:
        return [json.loads(line) for line in lines]


def stream(home: Path, device: PhoneDevice, pack: BlockPack, data: Dataset, job: str) -> socket.socket:
    """Inferences without an end, whose events go to whoever reads the connection."""
    point = {"subnet": list(pack.graph.oracle), "latency_ms": 1.0, "resident_mb": None, "energy_mj": None}
    return ask(
        home,
        verb="adapt",
        job=job,
        pack=pack.digest,
        engine=device.info.engine,
        threads=1,
        cores=None,
        front=[point],
        budgets={"latency_ms": 1e6, "percentile": 50, "memory_mb": None, "energy_mj": None},
        inferences=1_000_000_000,
        data=list(device.put_data(pack, data)),
    )


def test_a_client_that_does_not_read_holds_up_nobody_and_not_the_end(
    device: PhoneDevice, tmp_path: Path, tiny_pack: BlockPack, pictures: np.ndarray
) -> None:
    device.open(tiny_pack)
    pid, job = device.calls("info")["pid"], secrets.token_hex(16)
    with closing(stream(tmp_path, device, tiny_pack, Dataset.from_arrays(pictures[:1]), job)) as stuck:
        with closing(ask(tmp_path, verb="cancel", job=secrets.token_hex(16))) as other:
            (answer,) = events(other)
        assert answer["cancelled"] is False, "it is answered while the other one does not read"
        wait_until(lambda: ended(pid))
        assert stuck.fileno() >= 0, "although it is still connected"


def test_a_client_that_reads_late_gets_what_its_job_has_done(
    device: PhoneDevice, tmp_path: Path, tiny_pack: BlockPack, pictures: np.ndarray
) -> None:
    device.open(tiny_pack)
    job = secrets.token_hex(16)
    with closing(stream(tmp_path, device, tiny_pack, Dataset.from_arrays(pictures[:1]), job)) as late:
        assert late.recv(1, socket.MSG_PEEK)
        with closing(ask(tmp_path, verb="cancel", job=job)) as other:
            assert events(other)[0]["cancelled"] is True
        told = events(late)
    assert [event["event"] for event in told] == list(range(len(told)))
    assert (told[0]["type"], told[-1]["kind"]) == ("started", "DeviceError")
    assert {event["type"] for event in told[1:-1]} <= {"decision", "inference"}
