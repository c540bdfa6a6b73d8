"""Requests to a runner and its events, with a shell script in the runner's place that answers what a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.devices.phone import calls as calls_module
from adaptivenet.toolkit.devices.phone.calls import Calls, Event, parse_event, read_result
from adaptivenet.toolkit.devices.phone.contents import runner_items
from adaptivenet.toolkit.devices.phone.here import Here
from adaptivenet.toolkit.devices.phone.push import Store
from adaptivenet.toolkit.devices.phone.runner_bundle import Bundle
from adaptivenet.toolkit.errors import ConnectionLost, DataError, DeviceError, GraphError, PackError, PlanError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runners import Told

# Notes each request in request-N, and prints answer-N with the request's job in it.
SCRIPT = r"""
n=$(cat count 2>/dev/null || echo 0); echo $((n + 1)) > count
echo "$*" > arguments
for request; do :; done
case "$request" in @*) cp "${request#@}" request-$n;; *) printf %s "$request" > request-$n;; esac
job=$(sed -n 's/.*"job":"\([0-9a-f]*\)".*/\1/p' request-$n)
[ ! -f answer-$n ] || sed "s/JOB/$job/" answer-$n
"""


class Cable(Here):
    """This computer, with a cable that falls out: `cuts` has, for each stream in turn, after how many lines."""

    def __init__(self, cuts: Sequence[int | None] = ()) -> None:
        super().__init__()
        self.cuts = [*cuts]

    def stream(self, command: str) -> Any:
        cut = self.cuts.pop(0) if self.cuts else None
        lines = super().stream(command)
        return lines if cut is None else self._until(lines, cut)

    @staticmethod
    def _until(lines: Iterator[str], cut: int) -> Iterator[str]:
        for _, line in zip(range(cut), lines):
            yield line
        raise ConnectionLost("the connection to runner was lost")


class Fake:
    """Calls to the script above, in a home of its own."""

    def __init__(self, folder: Path, cuts: Sequence[int | None] = (), **options: Any) -> None:
        (folder / "bundle").mkdir(parents=True)
        (folder / "bundle" / "adaptivenet-runner").write_text(SCRIPT)
        bundle = Bundle.of(folder / "bundle", "host", "0.1.0", ["sh", "./adaptivenet-runner"])
        self.told = Told()
        self.cable = transport = Cable(cuts)
        store = Store(transport, str(folder / "it's home"), self.told)
        store.put(runner_items(bundle))
        self.place = Path(store.home) / "runner" / bundle.digest
        self.calls = Calls(transport, store, bundle, self.told, speaks="0.1.0", **options)

    def answer(self, number: int, *events: dict[str, Any] | str, start: int = 0) -> None:
        lines = [
            event if isinstance(event, str) else json.dumps({"job": "JOB", "event": at, **event})
            for at, event in enumerate(events, start)
        ]
        (self.place / f"answer-{number}").write_text("".join(f"{line}\n" for line in lines))

    def request(self, number: int) -> Any:
        return json.loads((self.place / f"request-{number}").read_text())

    @property
    def count(self) -> int:
        return int((self.place / "count").read_text())


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(calls_module, "_WAITS_S", (0.01,))
    return Fake(tmp_path)


STARTED = {"type": "started"}
RESULT = {"type": "result", "value": 5}


def progress(done: int) -> dict[str, Any]:
    return {"type": "progress", "done": done, "total": 9}


def error(kind: str, message: str, **fields: Any) -> dict[str, Any]:
    return {"type": "error", "kind": kind, "message": message, **fields}


def test_a_request_is_answered_by_events(fake: Fake) -> None:
    fake.answer(0, STARTED, progress(1), progress(2), RESULT)
    seen: list[Event] = []
    assert fake.calls("measure", seen.append, rounds=3)["value"] == 5
    assert [event["done"] for event in seen] == [1, 2]
    request = fake.request(0)
    assert (request["version"], request["verb"], request["rounds"]) == ("0.1.0", "measure", 3)
    assert len(bytes.fromhex(request["job"])) == 16
    assert request.keys() == {"version", "verb", "job", "rounds"}
    assert (fake.place / "arguments").read_text().startswith(f"call --home {fake.place.parents[1]} --idle 300 ")
    assert fake.told.said == []


def lost(count: int) -> dict[str, Any]:
    return {"type": "lost", "count": count}


@pytest.mark.parametrize("verb", ["measure", "adapt"])
def test_events_that_are_lost_are_told_where_the_result_holds_without_them(fake: Fake, verb: str) -> None:
    fake.answer(0, STARTED, {**lost(40), "event": 40}, {**progress(1), "event": 41}, {**RESULT, "event": 42})
    seen: list[Event] = []
    assert fake.calls(verb, seen.append)["value"] == 5
    assert [(event["type"], event.get("count")) for event in seen] == [("lost", 40), ("progress", None)]


def test_a_job_that_needs_all_of_its_events_is_done_again_where_some_are_lost(fake: Fake) -> None:
    fake.answer(0, STARTED, {**lost(2), "event": 2}, {**RESULT, "event": 3})
    fake.answer(1, {"type": "result", "job": None, "event": 0, "cancelled": True})
    fake.answer(2, STARTED, progress(1), RESULT)
    seen: list[Event] = []
    assert fake.calls("evaluate", seen.append)["value"] == 5
    assert [event["type"] for event in seen] == ["progress"]
    first, cancel, again = (fake.request(number) for number in range(3))
    assert (cancel["verb"], cancel["job"]) == ("cancel", first["job"])
    assert again["job"] != first["job"]
    assert fake.told.said == ["runner has dropped 2 events: 'evaluate' is done from the beginning"]


@pytest.mark.parametrize("count", [0, -3, 1.5, "many", None, True])
def test_a_number_of_lost_events_that_is_none_is_refused(fake: Fake, count: object) -> None:
    fake.answer(0, STARTED, {"type": "lost", "count": count}, RESULT)
    with pytest.raises(DeviceError, match="events were lost; that is no number of them"):
        fake.calls("adapt")


def test_events_that_are_missing_and_were_not_told_to_be_lost_are_an_error(fake: Fake) -> None:
    fake.answer(0, STARTED, {**lost(2), "event": 5}, RESULT)
    with pytest.raises(DeviceError, match="answers with event 5"):
        fake.calls("adapt")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30), st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_is_in_a_request_arrives(fake: Fake, text: str, number: float) -> None:
    at = fake.count if (fake.place / "count").exists() else 0
    fake.answer(at, RESULT)
    fake.calls("infer", text=text, number=number)
    assert fake.request(at)["text"] == text
    assert fake.request(at)["number"] == number


def test_a_long_request_is_pushed(fake: Fake) -> None:
    fake.answer(0, RESULT)
    fake.answer(1, RESULT)
    plan = ["it's a block"] * 5000
    fake.calls("evaluate", plan=plan)
    assert fake.request(0)["plan"] == plan
    (pushed,) = (fake.place.parents[1] / "requests").iterdir()
    assert pushed.stem == sha256(pushed.read_bytes()).hexdigest()
    fake.calls("evaluate", plan=["x"])
    assert fake.request(1)["plan"] == ["x"]


def test_lines_that_are_no_events_are_passed_over(fake: Fake) -> None:
    fake.answer(0, "WARNING: linker: unsupported flags", STARTED, '{"half of a', "", "null", '["type"]', start=-1)
    with pytest.raises(DeviceError, match=r'without an answer: WARNING: linker.* ; \{"half of a ; null ; .*run/log'):
        fake.calls("info")


def test_a_runner_that_does_not_start_is_quoted(fake: Fake) -> None:
    (fake.place / "adaptivenet-runner").write_text("echo CANNOT LINK EXECUTABLE >&2; exit 127")
    with pytest.raises(DeviceError, match=r"on runner ended without an answer: CANNOT LINK EXECUTABLE \(its log"):
        fake.calls("info")


def test_the_runners_own_words_are_quoted_with_the_end_of_its_log(fake: Fake) -> None:
    noise = [f"I 00:00 noise {at}" for at in range(9)]
    fake.answer(0, "linker: noise", "adaptivenet-runner: the daemon ended; the end of its log:", *noise)
    with pytest.raises(DeviceError, match=r"answer: the daemon ended; the end of its log: ; I 00:00 noise 8 \(its log"):
        fake.calls("info")
    crashed = "adaptivenet-runner: block 'b0' crashed while it was loaded: this program is damaged (signal 11)"
    fake.answer(1, "adaptivenet-runner: the daemon ended; the end of its log:", *noise, crashed)
    with pytest.raises(DeviceError, match=r"its log: ; block 'b0' crashed while it was loaded: .* \(signal 11\) \(its"):
        fake.calls("info")
    fake.answer(2, "adaptivenet-runner: there is no folder HOME. Try --help.")
    with pytest.raises(DeviceError, match=r"answer: there is no folder HOME\. Try --help\. \(its log"):
        fake.calls("info")


def test_waiting_for_others_is_said(fake: Fake) -> None:
    for number, ahead in enumerate((1, 2)):
        fake.answer(number, {"type": "waiting", "ahead": ahead}, STARTED, RESULT)
        seen: list[Event] = []
        fake.calls("info", seen.append)
        assert seen == []
    assert fake.told.said == [
        "runner is busy: waiting for another job to end",
        "runner is busy: waiting for 2 other jobs to end",
    ]


@pytest.mark.parametrize("start", [1, 3])
def test_events_of_another_job_or_number_are_refused(fake: Fake, start: int) -> None:
    fake.answer(0, STARTED, {"event": start + 1, **progress(1)}, RESULT)
    with pytest.raises(DeviceError, match=f"answers with event {start + 1} of job [0-9a-f]{{32}}, not with 1 of"):
        fake.calls("info")
    fake.answer(1, {**STARTED, "job": "ff"})
    with pytest.raises(DeviceError, match="answers with event 0 of job ff, not with 0 of"):
        fake.calls("info")


# Errors


@pytest.mark.parametrize("kind", [GraphError, PackError, PlanError, DataError, DeviceError])
def test_an_error_is_raised_as_its_kind(fake: Fake, kind: type[Exception]) -> None:
    fake.answer(0, STARTED, error(kind.__name__, "what failed"))
    with pytest.raises(kind, match=r"^what failed$") as caught:
        fake.calls("measure")
    assert type(caught.value) is kind


@pytest.mark.parametrize("kind", ["ProtocolError", "ValueError", "annotations", "", None])
def test_an_error_of_another_kind_is_a_device_error_that_names_it(fake: Fake, kind: Any) -> None:
    fake.answer(0, error(kind, "there is no verb", job=None))
    with pytest.raises(DeviceError, match=rf"the runner on runner refuses: there is no verb \({kind}\)"):
        fake.calls("dance")


def test_an_answer_that_is_none_is_a_device_error() -> None:
    for wrong in ({}, {"a": None}, {"a": []}, {"a": ["x"]}):
        with pytest.raises(DeviceError, match="the runner's answer to 'info' is not one"):
            read_result("info", lambda wrong=wrong: int(wrong["a"][0]))


@given(st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_no_line_breaks_the_reader_of_events(line: str) -> None:
    assert parse_event(line) is None


# The cable


def test_a_lost_connection_is_taken_up_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "_WAITS_S", (0.01,))
    fake = Fake(tmp_path, [2, 0, 1, 0, None], patience_s=60)
    fake.answer(0, STARTED, progress(1), progress(2))
    fake.answer(1, progress(2), RESULT, start=2)
    fake.answer(2, progress(3), RESULT, start=3)
    seen: list[Event] = []
    assert fake.calls("measure", seen.append, rounds=3)["value"] == 5
    assert [event["done"] for event in seen] == [1, 2, 3]
    requests = [fake.request(number) for number in range(fake.count)]
    assert [request.pop("from", 0) for request in requests] == [0, 2, 3]
    assert requests == requests[:1] * 3, "the same request, with the same job"
    # A second loss after some progress is said anew, an attempt that fails is not.
    lost = "the connection to runner was lost; what was begun goes on there, trying to connect again for 60 s"
    assert fake.told.said == [lost, lost, "connected to runner again"]


def test_a_connection_that_stays_lost_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "_WAITS_S", (0.01, 0.02))
    fake = Fake(tmp_path, [0] * 1000, patience_s=0.2)
    with pytest.raises(ConnectionLost):
        fake.calls("info")
    assert 2 < 1000 - len(fake.cable.cuts) < 15
    assert len(fake.told.said) == 1


def test_a_job_that_was_forgotten_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "_WAITS_S", (0.01,))
    fake = Fake(tmp_path, [3, None, None])
    fake.answer(0, STARTED, progress(1), progress(2))
    fake.answer(1, error("DeviceError", "job is not known", job=None))
    fake.answer(2, STARTED, progress(1), progress(2), RESULT)
    seen: list[Event] = []
    assert fake.calls("measure", seen.append)["value"] == 5
    assert [event["done"] for event in seen] == [1, 2, 1, 2]
    first, again, anew = (fake.request(number) for number in range(3))
    assert again == {**first, "from": 3}
    assert anew["job"] != first["job"]
    assert "from" not in anew
    assert fake.told.said[1] == "runner has started anew: 'measure' is done from the beginning"


# Versions

FOREIGN = error("VersionError", "this runner is of version 9.9", job=None, version="9.9")


def test_an_idle_runner_of_another_version_is_replaced(fake: Fake) -> None:
    fake.answer(0, FOREIGN)
    fake.answer(1, STARTED, {"type": "result", "version": "9.9"})
    fake.answer(2, {"type": "result", "job": None})
    fake.answer(3, STARTED, RESULT)
    assert fake.calls("measure", rounds=1)["value"] == 5
    requests = [fake.request(number) for number in range(fake.count)]
    assert [(request["verb"], request["version"]) for request in requests] == [
        ("measure", "0.1.0"),
        ("info", "9.9"),
        ("stop", "0.1.0"),
        ("measure", "0.1.0"),
    ]
    assert len(fake.told.explained) == 1


def test_a_busy_runner_of_another_version_is_left_alone(fake: Fake) -> None:
    fake.answer(0, FOREIGN)
    fake.answer(1, {"type": "waiting", "ahead": 1}, STARTED, {"type": "result"})
    with pytest.raises(DeviceError, match=r"runner of version 9\.9, this is version 0\.1\.0: .*; it is not idle"):
        fake.calls("measure")
    assert fake.count == 2


def test_a_runner_that_is_of_another_version_again_is_not_stopped_twice(fake: Fake) -> None:
    fake.answer(0, FOREIGN)
    fake.answer(1, STARTED, {"type": "result"})
    fake.answer(2, {"type": "result", "job": None})
    fake.answer(3, FOREIGN)
    fake.answer(4, FOREIGN)
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"version 9\.9"):
            fake.calls("measure")
    assert [fake.request(number)["verb"] for number in range(fake.count)] == ["measure", "info", "stop"] + [
        "measure"
    ] * 2
