"""A model that signals interrupt: handlers that call it, and KeyboardInterrupt wherever it strikes, leave it usable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from adaptivenet.toolkit.pack.pack import BlockPack

BEGIN = """
import itertools, os, signal, sys, threading, time
import numpy as np
from adaptivenet.toolkit import Model
from adaptivenet.toolkit.errors import DeviceError

opened = Model.open(sys.argv[1], sys.argv[2], "100000ms")
x = np.zeros(opened.pack.graph.cuts[0].shape, np.float32)
"""

CLOSED_BY_A_HANDLER = """
def handler(number, frame):
    opened.close()
    print("closed")

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    while True:
        opened.infer(x)
except DeviceError as error:
    print(error)
"""

# The handler comes at any moment of a program that does nothing but call the model.
ASKED_BY_A_HANDLER = """
called = 0

def handler(number, frame):
    global called
    called, at = called + 1, called
    opened.status()
    opened.activate(at % len(opened.points)) if at % 3 else opened.set_budget("100000ms")
    try:
        opened.infer(x)
    except DeviceError as error:
        assert "within the inference that it interrupts" in str(error), error

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
at = 0
while called < 300:
    at += 1
    opened.infer(x)
    opened.activate(at % len(opened.points))
    opened.status()
    opened.wait(0.001)
signal.setitimer(signal.ITIMER_REAL, 0)
opened.set_budget("100000ms")
assert opened.wait(60)
opened.close()
print("done")
"""

# As Ctrl-C would at any moment, very often.
INTERRUPTED = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test may be run where interrupts are ignored
struck, begun = 0, False  # no lock: an interrupt within one may leave it taken

def strike():
    global begun
    for at in itertools.count():
        # One that struck where Python ignores exceptions, as in a weak reference's callback, is not counted.
        until = time.monotonic() + 5
        while not begun and struck < 300 and time.monotonic() < until:
            time.sleep(0.0003)
        if struck == 300:
            return
        begun = False
        time.sleep(at % 7 * 0.0003)
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=strike, daemon=True).start()
while struck < 300:
    try:
        begun = True
        while True:
            opened.infer(x)
            opened.activate(struck % len(opened.points))
            opened.status()
            opened.wait(0.0005)
            opened.set_budget("100000ms")
    except KeyboardInterrupt:
        struck += 1
opened.activate(0)
assert opened.wait(60)
assert opened.status().point == 0
print(opened.infer(x).shape)
done = threading.Thread(target=opened.close)
done.start()
done.join(60)
print(done.is_alive())
"""


def ran(program: str, pack: BlockPack, profile: Path) -> list[str]:
    command = [sys.executable, "-c", BEGIN + program, str(pack.path), str(profile)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_it_can_be_closed_by_a_signal_handler_that_interrupts_an_inference(
    profiles: dict[str, Path], tiny_pack: BlockPack
) -> None:
    for profile in profiles.values():
        said = ran(CLOSED_BY_A_HANDLER, tiny_pack, profile)
        assert said == ["closed", "no subnet serves: the model is closed, or none could be loaded"]


def test_a_signal_handler_may_ask_it_for_anything_but_an_inference_within_one(
    profiles: dict[str, Path], tiny_pack: BlockPack
) -> None:
    assert ran(ASKED_BY_A_HANDLER, tiny_pack, profiles["local:onnxruntime"]) == ["done"]


def test_keyboard_interrupts_at_any_moment_leave_it_usable(profiles: dict[str, Path], tiny_pack: BlockPack) -> None:
    assert ran(INTERRUPTED, tiny_pack, profiles["local:onnxruntime"]) == ["(1, 5)", "False"]
