"""adaptivenet-run: it serves on the device of the profile, says so when it runs elsewhere, and keeps stdout clean."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from adaptivenet.toolkit.cli.console import Console
from adaptivenet.toolkit.cli.run import main as run
from adaptivenet.toolkit.cli.serving import Stream
from adaptivenet.toolkit.pack.pack import BlockPack
from adaptivenet.toolkit.profiling.profile import Profile
from adaptivenet.toolkit.serving.controller import Controller
from adaptivenet.toolkit.serving.decision import Budgets, Decision, Kind, Point, Signals, points_of
from adaptivenet.toolkit.serving.simulator import read_trace, replay
from commands import call, document_of, error_of, in_process
from engines import ENGINES

# A process that was started in the background may ignore these two.
HEEDING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGTERM, signal.SIG_DFL); from adaptivenet.toolkit.cli.run import main; main()"
)


def without_warnings(said: str) -> str:
    """What a command said, without what it and the profile doubt of so few pictures."""
    return re.sub(r"^warning(, from the profile)?: .*\n", "", said, flags=re.MULTILINE)


@pytest.mark.parametrize("address", ENGINES)
def test_run_serves_on_the_device_of_the_profile(
    address: str, tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path
) -> None:
    result = call(
        run, tiny_pack.path, profiles[address], "--data", labelled, "--budget", "1000ms", "--count", 20,
        "--adapt", "--json",
    )  # fmt: skip
    document = document_of(result)
    assert document["device"]["address"] == address
    assert document["subnet"] == json.loads(profiles[address].read_text())["chosen"]["subnet"]
    assert document["latency"]["repetitions"] == len(document["answers"]) == 20
    assert document["answers"][:4] == document["answers"][16:]
    assert document["within_budget"] == 1.0
    assert document["page_in"]["bytes_in"] > 0
    assert sum(point["inferences"] for point in document["points"]) == document["inferences"] == 20
    assert "note:" not in result.stderr


def test_run_prints_what_happened(tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path) -> None:
    result = call(run, tiny_pack.path, profiles[ENGINES[1]], "--data", labelled, "--budget", "1000ms", "--count", "7")
    assert result.exit_code == 0
    assert re.search(r"^latency +\d+\.\d\d+ ms \(median of 7, IQR ", result.stdout, re.MULTILINE)
    assert re.search(
        r"^quality +top1 \d+\.\d% \(.*\); agreement .*, measured on 6 pictures that the search never saw$",
        result.stdout,
        re.MULTILINE,
    )
    assert re.search(r"; \d+\.\d\d+ ms measured when profiled; ", result.stdout)
    assert re.search(r"^answers +((daisy|poppy|rose|tulip|violet)(, | …$)){5}", result.stdout, re.MULTILINE)
    shown = r"(run: \d/7, \d+ s .*\n)*run: 7/7, \d+ s .* of 1000\.00\d* ms, point \d of \d, 0 switches, .*\n"
    assert re.fullmatch(shown, without_warnings(result.stderr))


def test_run_says_so_when_it_runs_elsewhere_than_was_profiled(
    tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path
) -> None:
    arguments = ("--data", labelled, "--budget", "1000ms", "--count", "2", "--json")
    result = call(run, tiny_pack.path, profiles[ENGINES[0]], "--device", ENGINES[1], *arguments)
    assert document_of(result)["device"]["engine"] == "onnxruntime"
    assert "note: profiled on engine executorch, running on onnxruntime" in result.stderr
    result = call(run, tiny_pack.path, profiles[ENGINES[1]], "--threads", "2", *arguments)
    assert document_of(result)["device"]["threads"] == 2
    assert "note: profiled on threads 1, running on 2" in result.stderr


def test_run_dry_run(tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path) -> None:
    arguments = (tiny_pack.path, profiles[ENGINES[1]], "--data", labelled, "--budget", "1000ms", "--dry-run")
    assert call(run, *arguments).stdout.startswith("would run b0")
    document = document_of(call(run, *arguments, "--json"))
    assert document["dry_run"] is True
    assert "latency" not in document


def test_run_takes_a_tolerance_and_says_what_nearly_met_the_budget(
    tiny_pack: BlockPack, labelled: Path, profiles: dict[str, Path], tmp_path: Path
) -> None:
    known = json.loads(profiles[ENGINES[1]].read_text())
    fast, slow = ({**known["front"][0], "measured_ms": ms, "predicted_ms": ms, "spread_ms": 0.0} for ms in (3.0, 5.4))
    names = [["b0-m2", "b2"], ["b0", "b1", "b2"]]
    for point, subnet, value in zip((fast, slow), names, (0.22, 0.525)):
        quality = {"metric": "top1", "value": value, "low": 0.1, "high": 0.9, "n": 200}
        point.update(subnet=subnet, quality=quality, also=[])
    known.update(front=[fast, slow], budgets=[])
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(known))
    arguments = (tiny_pack.path, path, "--data", labelled, "--budget", "5.37ms", "--dry-run")
    found = document_of(call(run, *arguments, "--json"))
    assert (found["subnet"], found["expected_ms"], found["quality"]["value"]) == (names[0], 3.0, 0.22)
    assert found["a_little_over"] == "0.6% over: top1 52.5%"
    assert (found["tolerance"], found["expected_ms_is"]) == (0.0, "measured")
    found = document_of(call(run, *arguments, "--tolerance", "1%", "--json"))
    assert (found["subnet"], found["quality"]["value"], found["a_little_over"]) == (names[1], 0.525, None)
    assert found["budget_ms"] == 5.37
    said = call(run, *arguments, "--tolerance", "1%").stdout
    assert re.search(r"\(5\.400* ms measured when profiled, 5\.370* ms allowed; quality: top1 52\.5%", said)
    known["settings"]["tolerance"] = 0.01
    path.write_text(json.dumps(known))
    assert document_of(call(run, *arguments, "--json"))["subnet"] == names[1], "as profiled"


def profile_of_two(known_as: Path, path: Path, fastest_ms: float) -> Path:
    """A profile whose front has two points, of which the second takes twice as long."""
    known = json.loads(known_as.read_text())
    times = (fastest_ms, 2 * fastest_ms)
    fast, slow = ({**known["front"][0], "measured_ms": ms, "predicted_ms": ms, "spread_ms": 0.0} for ms in times)
    for point, subnet, value in zip((fast, slow), (["b0-m2", "b2"], ["b0", "b1", "b2"]), (0.22, 0.525)):
        quality = {"metric": "top1", "value": value, "low": 0.1, "high": 0.9, "n": 200}
        point.update(subnet=subnet, quality=quality, also=[])
    known.update(front=[fast, slow], budgets=[])
    path.write_text(json.dumps(known))
    return path


def test_run_adapts_and_says_why(
    tiny_pack: BlockPack, labelled: Path, profiles: dict[str, Path], tmp_path: Path
) -> None:
    """As if it had been profiled on a device that is faster than any."""
    path = profile_of_two(profiles[ENGINES[1]], tmp_path / "profile.json", 1e-3)
    arguments = (tiny_pack.path, path, "--data", labelled, "--budget", "0.0025ms", "--count", "2000", "--adapt")
    found = document_of(call(run, *arguments, "--json"))
    assert found["subnet"] == ["b0", "b1", "b2"]
    (switch,) = found["switches"]
    assert (switch["subnet"], switch["kind"]) == (["b0-m2", "b2"], "nothing_fits")
    assert switch["after"] == found["points"][1]["inferences"] >= 5, "it was decided after 5, and then loaded"
    assert switch["expected_ms"] == pytest.approx(1e-3 * switch["slowdown"])
    said = call(run, *arguments).stdout
    assert re.search(
        r"^switches     1\n             after \d+ inferences, [\d.]+ times slower than profiled: nothing fits; "
        r"0\.00 ms, the fastest, takes [\d.]+ ms of 0\.00 ms allowed$",
        said,
        re.MULTILINE,
    )


def test_what_is_decided_and_never_serves_is_no_switch(profiles: dict[str, Path], tiny_pack: BlockPack) -> None:
    points = Profile.load(profiles[ENGINES[1]], tiny_pack).front.points[:1] * 3
    stream = Stream(points, 1.0, None, Console(), None)
    decisions = [Decision(point, 1.5, Kind.SLOWER, f"to {point}") for point in (2, 0, 1, 2, 0)]
    stream.decided(0.0, decisions[0])
    stream.inference(0.1, 2, 1.0)
    stream.decided(0.2, decisions[1])  # is being loaded
    stream.inference(0.3, 2, 1.0)
    stream.decided(0.4, decisions[2])  # before that one serves
    for at_s, point in ((0.5, 0), (0.6, 0), (0.7, 1)):
        stream.inference(at_s, point, 1.0)
    stream.decided(0.8, decisions[4])  # and back again, before it is loaded
    stream.decided(0.9, decisions[2])
    stream.inference(1.0, 1, 1.0)
    switches = [(switch["after"], switch["at_s"], switch["why"]) for switch in stream.switches]
    assert switches == [(2, 0.5, "to 0"), (4, 0.7, "to 1")]


def with_costs(path: Path, *costs: dict[str, float]) -> Path:
    """The profile in a file, with what its points take."""
    known = json.loads(path.read_text())
    for point, taken in zip(known["front"], costs, strict=True):
        point.update(taken)
    path.write_text(json.dumps(known))
    return path


@pytest.mark.parametrize("adapt", [(), ("--adapt",)])
def test_limits_of_memory_and_energy_choose_alike_with_and_without_adapting(
    tiny_pack: BlockPack, labelled: Path, profiles: dict[str, Path], tmp_path: Path, adapt: tuple[str, ...]
) -> None:
    path = profile_of_two(profiles[ENGINES[1]], tmp_path / "profile.json", 1e6)
    energy = {"energy_spread_mj": 0.5, "energy_repetitions": 5}
    costs = ({"resident_mb": mb, "energy_mj": mj, **energy} for mb, mj in ((30.0, 8.0), (50.0, 20.0)))
    with_costs(path, *costs)
    arguments = (tiny_pack.path, path, "--data", labelled, "--budget", "2000000ms", "--count", 2, *adapt)

    def served(*limits: str) -> list[str]:
        found = document_of(call(run, *arguments, "--json", *limits))
        assert [each["subnet"] for each in found["points"] if each["inferences"]] == [found["subnet"]]
        return list(found["subnet"])

    fast, slow = ["b0-m2", "b2"], ["b0", "b1", "b2"]
    assert served("--memory-limit", "50MB") == served("--energy", "20mJ") == slow
    assert served("--memory-limit", "49MB") == served("--energy", "19mJ") == fast
    assert served("--memory-limit", "60", "--energy", "8 mJ") == fast
    said = call(run, *arguments, "--energy", "19mJ").stdout
    assert "memory       30.0 MB resident when profiled (measured once)" in said
    assert "energy       8 mJ an inference above idle when profiled (median of 5, IQR 0.5 mJ)" in said
    said = error_of(call(run, *arguments, "--memory-limit", "20MB"))
    assert "no subnet keeps to 20 MB: the smallest takes 30 MB (measured)" in said
    assert "the thriftiest takes 8 mJ" in error_of(call(run, *arguments, "--energy", "7.9mJ"))
    said = error_of(call(run, *arguments[:5], "1ms", "--count", 2, *adapt, "--memory-limit", "40MB"))
    assert "no subnet within 40 MB meets a budget of 1ms" in said


@pytest.mark.parametrize("adapt", [(), ("--adapt",)])
def test_where_memory_was_not_measured_artifacts_count(
    tiny_pack: BlockPack, labelled: Path, profiles: dict[str, Path], tmp_path: Path, adapt: tuple[str, ...]
) -> None:
    path = profile_of_two(profiles[ENGINES[1]], tmp_path / "profile.json", 1e6)
    with_costs(path, {"resident_mb": None}, {"resident_mb": None})
    fast, slow = ["b0-m2", "b2"], ["b0", "b1", "b2"]
    least, most = (sum(tiny_pack.artifact(name, "onnx").bytes for name in each) / 1e6 for each in (fast, slow))
    assert least < most
    arguments = (tiny_pack.path, path, "--data", labelled, "--budget", "2000000ms", "--count", 2, *adapt)
    for limit, expected in ((most, slow), ((least + most) / 2, fast)):
        found = document_of(call(run, *arguments, "--json", "--memory-limit", f"{limit:.9f}"))
        assert found["subnet"] == expected
        assert [each["subnet"] for each in found["points"] if each["inferences"]] == [expected]
    said = error_of(call(run, *arguments, "--memory-limit", f"{least / 2:.9f}"))
    assert re.search(r"no subnet keeps to \S+ MB: the smallest takes \S+ MB \(its artifacts\)", said)
    said = error_of(call(run, *arguments, "--energy", "5mJ"))
    assert "a limit of 5 mJ cannot be kept: the profile tells the energy of no subnet" in said


def test_run_heeds_the_sensors_of_this_computer(
    tiny_pack: BlockPack,
    labelled: Path,
    profiles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which are hot here, from the first look on; what they said is in the trace."""
    values = itertools.cycle((0.97, 0.98))
    monkeypatch.setattr("adaptivenet.toolkit.cli.serving.read_signals", lambda: Signals(headroom=next(values)))
    monkeypatch.setattr("adaptivenet.toolkit.cli.serving._SENSES_S", 0.0)
    path = profile_of_two(profiles[ENGINES[1]], tmp_path / "profile.json", 1e6)
    trace = tmp_path / "trace.jsonl"
    arguments = (tiny_pack.path, path, "--data", labelled, "--budget", "2000000ms", "--count", "2000", "--trace", trace)
    found = document_of(call(run, *arguments, "--adapt", "--json"))
    assert [switch["kind"] for switch in found["switches"]] == ["heat"]
    replayed = list(replay(Controller([Point(1e6), Point(2e6)], Budgets(2e6)), read_trace(trace)))
    assert [step.decision.kind.value for step in replayed if step.switched and step.decision] == ["heat"]
    assert document_of(call(run, *arguments, "--json"))["switches"] == [], "without --adapt they are not asked"


def test_a_decision_is_in_the_trace_also_where_one_for_a_sensor_follows_at_once(
    tiny_pack: BlockPack, slower: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = itertools.cycle((0.97, 0.98, 0.2, 0.21))
    monkeypatch.setattr("adaptivenet.toolkit.cli.serving.read_signals", lambda: Signals(headroom=next(values)))
    monkeypatch.setattr("adaptivenet.toolkit.cli.serving._SENSES_S", 0.0)
    decided: list[str] = []
    for name in ("observe", "sense"):
        of = getattr(Controller, name)

        def noted(controller: Controller, *given: Any, of: Any = of) -> Any:
            decision = of(controller, *given)
            decided.extend([decision.why] if decision else [])
            return decision

        monkeypatch.setattr(Controller, name, noted)
    trace = tmp_path / "trace.jsonl"
    arguments = ("--data", labelled, "--budget", "0.000002ms", "--count", 100, "--adapt", "--trace", trace)
    assert call(run, tiny_pack.path, slower, *arguments).exit_code == 0
    told = [line["decision"]["why"] for line in map(json.loads, trace.read_text().splitlines()) if "decision" in line]
    assert len(decided) > 2
    assert told[1:] == decided


def test_a_trace_does_not_go_to_stdout_where_the_result_goes(
    tiny_pack: BlockPack, slower: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(run, tiny_pack.path, slower, "--data", labelled, "--budget", "1000ms", "--trace", "-")
    assert result.exit_code == 2
    assert "--trace takes a file: the result goes to stdout" in result.output
    assert not Path("-").exists()


def test_a_profile_of_another_pack(broken: BlockPack, profiles: dict[str, Path], labelled: Path) -> None:
    assert "was made for another pack" in error_of(call(run, broken.path, profiles[ENGINES[1]], "--data", labelled))


def test_nothing_but_the_document_on_stdout_with_executorch(
    tiny_pack: BlockPack, profiles: dict[str, Path], labelled: Path
) -> None:
    # In a process of its own, since libraries also print past Python's sys.stdout.
    arguments = ("--data", labelled, "--budget", "1000ms", "--count", "3", "--json")
    done = in_process("adaptivenet.toolkit.cli.run", tiny_pack.path, profiles[ENGINES[0]], *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["engine"] == "executorch"
    assert re.fullmatch(r"(run: \d/3, \d+ s .*\n)*run: 3/3, \d+ s .*\n", without_warnings(done.stderr))


@pytest.fixture
def slower(profiles: dict[str, Path], tmp_path: Path) -> Path:
    """A profile by which every inference is far too slow here: two points of a millionth of a millisecond."""
    known = json.loads(profiles[ENGINES[1]].read_text())
    known["front"] = [
        {
            **known["front"][0],
            **{"subnet": subnet, "measured_ms": ms, "spread_ms": 0.0, "repetitions": 9, "also": []},
            "resident_mb": None,
            "quality": {"metric": "top1", "value": value, "low": 0.1, "high": 0.9, "n": 200},
        }
        for subnet, ms, value in ((["b0-m2", "b2"], 1e-6, 0.2), (["b0", "b1", "b2"], 2e-6, 0.5))
    ]
    known["budgets"] = []
    path = tmp_path / "slower.json"
    path.write_text(json.dumps(known))
    return path


def test_a_trace_tells_what_was_decided_and_can_be_replayed(
    tiny_pack: BlockPack, slower: Path, labelled: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.jsonl"
    arguments = ("--data", labelled, "--budget", "0.000002ms", "--count", 2000, "--adapt", "--trace", trace)
    document = document_of(call(run, tiny_pack.path, slower, *arguments, "--json"))
    (switch,) = document["switches"]
    assert switch["subnet"] == ["b0-m2", "b2"]
    assert "nothing fits" in switch["why"]
    assert document["within_budget"] == 0
    assert document["points"][1]["inferences"] == switch["after"] > 0
    records = read_trace(trace)
    assert sum(record.ms is not None for record in records) == 2000
    controller = Controller(points_of(Profile.load(slower, tiny_pack).front), Budgets(1.0))
    steps = list(replay(controller, records))
    decided = next(step.at_s for step in steps if step.switched)
    assert decided <= switch["at_s"] + 0.001, "what is decided is loaded first"
    decisions = [line["decision"] for line in map(json.loads, trace.read_text().splitlines()) if "decision" in line]
    assert switch["why"] in [decision["why"] for decision in decisions if decision["point"] == 0]
    said = call(run, tiny_pack.path, slower, *arguments)
    assert re.search(r"^points +(\d+% at [\d.]+ ms(, |$))+", said.stdout, re.MULTILINE)
    assert re.search(r"^\d+\.\d s: .*nothing fits", said.stderr, re.MULTILINE)


def test_without_adapt_nothing_is_switched(tiny_pack: BlockPack, slower: Path, labelled: Path) -> None:
    document = document_of(
        call(run, tiny_pack.path, slower, "--data", labelled, "--budget", "0.000002ms", "--count", 40, "--json")
    )
    assert document["switches"] == []
    assert [point["inferences"] for point in document["points"]] == [0, 40]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_adapting_stream_goes_on_until_it_is_interrupted_and_then_tells(
    number: signal.Signals, tiny_pack: BlockPack, slower: Path, labelled: Path
) -> None:
    command = [sys.executable, "-c", HEEDING, str(tiny_pack.path), str(slower), "--data", str(labelled)]
    with subprocess.Popen(
        [*command, "--budget", "1000ms", "--adapt", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert any(line.startswith("run: ") for line in process.stderr)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["inferences"] > 0


@pytest.mark.parametrize("limit", ["0MB", "much", "-3MB", "1GB"])
def test_what_is_no_memory_limit(limit: str, tiny_pack: BlockPack, slower: Path, labelled: Path) -> None:
    result = call(run, tiny_pack.path, slower, "--data", labelled, "--memory-limit", limit)
    assert result.exit_code == 2
    assert "write it like 40MB" in result.stderr


def test_a_memory_limit_that_only_another_point_keeps_is_said(
    tiny_pack: BlockPack, slower: Path, labelled: Path
) -> None:
    points = [["b0-m2", "b2"], ["b0", "b1", "b2"]]
    fast, slow = (sum(tiny_pack.artifact(name, "onnx").bytes for name in names) for names in points)
    assert fast < slow
    arguments = ("--budget", "1000ms", "--memory-limit", f"{(fast + slow) / 2e6:.6f}MB", "--count", 5, "--adapt")
    result = call(run, tiny_pack.path, slower, "--data", labelled, *arguments, "--json")
    document = json.loads(result.stdout)
    assert document["subnet"] == points[0]
    assert [point["inferences"] for point in document["points"]] == [5, 0]
    assert any("a subnet needs" in warning for warning in document["warnings"])
    assert "another subnet serves" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("count", [1, 2000])
def test_a_trace_that_cannot_be_written_is_named(
    count: int, tiny_pack: BlockPack, slower: Path, labelled: Path
) -> None:
    arguments = ("--budget", "1000ms", "--count", count, "--adapt", "--trace", "/dev/full")
    assert "/dev/full: No space left" in error_of(call(run, tiny_pack.path, slower, "--data", labelled, *arguments))


def test_a_memory_limit_that_no_subnet_keeps(tiny_pack: BlockPack, slower: Path, labelled: Path) -> None:
    result = call(run, tiny_pack.path, slower, "--data", labelled, "--budget", "1ms", "--memory-limit", "0.00001MB")
    assert "no subnet keeps to 1e-05 MB: the smallest takes" in error_of(result)
