"""Polishing: the front's subnets come nearer to the original, none goes further away, and nothing else changes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adaptivenet.toolkit import polish
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.elastic import Supernet, elastify, prune, skip
from adaptivenet.toolkit.errors import GraphError, ProfileError, TrainingError
from adaptivenet.toolkit.graph.front import Front, FrontPoint
from adaptivenet.toolkit.graph.graph import BlockGraph, Subnet
from adaptivenet.toolkit.pack.trained_on import TrainedOn
from adaptivenet.toolkit.training import polish as polishing
from adaptivenet.toolkit.training.closeness import closeness
from adaptivenet.toolkit.training.losses import local_losses, output_loss
from adaptivenet.toolkit.training.phases import Phase, Training
from adaptivenet.toolkit.training.polish import Polished, subnets_to_polish
from adaptivenet.toolkit.training.train import train
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import Killed, Noise, Residual, assert_bit_exact, killed_at, supernet, weights
from torch import nn

STEPS = Training((Phase("subnets", 40, 3e-4, subnets=2),), batch_size=4, calibration_batches=2, checkpoint_every=4)
ONE, OTHER = ("b00", "b01-p50", "b02", "b03", "b04"), ("b00", "b01", "b02-m2", "b04")
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def front_of(graph: BlockGraph, *subnets: Sequence[str]) -> Front:
    return Front(FrontPoint(Subnet(graph, subnet), float(at + 1)) for at, subnet in enumerate(subnets))


def divergences(net: Supernet, subnets: Sequence[Sequence[str]], data: Any) -> list[float]:
    """By brute force: the mean over single images."""
    with torch.no_grad():
        images = [torch.from_numpy(data.image(index)) for index in range(len(data))]
        return [
            float(np.mean([float(output_loss(net(x, subnet), net(x), torch.ones(()), True)) for x in images]))
            for subnet in subnets
        ]


def changed_blocks(before: dict[str, torch.Tensor], net: Supernet) -> set[str]:
    return {name.split(".")[1] for name, tensor in weights(net).items() if not torch.equal(tensor, before[name])}


@pytest.fixture(scope="module")
def made() -> Supernet:
    """A supernet that is initialised, trained for a few steps, and remembers no pictures. Not to be changed."""
    net = supernet()
    phases = (Phase("local", 4, 1e-3),)
    train(net, Noise(40), Training(phases, batch_size=4, calibration_batches=2, initialise=("statistics", "fit")))
    return net


@pytest.fixture
def net(made: Supernet, tmp_path: Path) -> Supernet:
    made.save(tmp_path / "made")
    return Supernet.load(tmp_path / "made")


def test_the_fronts_subnets_come_nearer_to_the_original(net: Supernet) -> None:
    before, losses = weights(net), {block.name: block.loss for block in net.graph.blocks}
    expected = divergences(net, [ONE, OTHER], Noise(30, 1))
    result = polish(net, front_of(net.graph, ONE, OTHER), Noise(60), Noise(30, 1), STEPS)
    assert (result.changed, result.put_back) == (("b01-p50", "b02-m2"), ())
    assert changed_blocks(before, net) == {"b01-p50", "b02-m2"}
    assert [each.subnet for each in result.subnets] == [ONE, OTHER]
    assert [each.before.divergence for each in result.subnets] == pytest.approx(expected, rel=1e-4)
    after = divergences(net, [ONE, OTHER], Noise(30, 1))
    assert [each.after.divergence for each in result.subnets] == pytest.approx(after, rel=1e-4)
    assert after[0] < expected[0]
    assert after[1] < expected[1]
    assert (result.images, result.deciding, result.warnings) == (30, 8, ())
    # All alternatives were measured again, on the same pictures.
    again = {block.name: block.loss for block in net.graph.blocks}
    assert all((again[name] != loss) == (loss is not None) for name, loss in losses.items())
    _, deciding = polishing._divided(Noise(60), STEPS.seed)
    x = torch.from_numpy(np.concatenate([deciding.image(index) for index in range(8)]))
    assert {name: loss for name, loss in again.items() if loss is not None} == pytest.approx(
        local_losses(net, [x[:4], x[4:]]), rel=1e-4
    )


@settings(max_examples=10)
@given(st.data())
def test_what_is_not_on_the_front_stays_byte_by_byte(made: Supernet, data: st.DataObject) -> None:
    net = supernet()
    net.load_state_dict(made.state_dict())
    paths = [path for path in net.graph.paths() if path != net.graph.oracle]
    chosen = data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3, unique=True))
    before, oracle = weights(net), divergences(net, [net.graph.oracle], Noise(3))
    rate = data.draw(st.sampled_from([1e-3, 0.3]))
    steps = replace(STEPS, phases=(Phase("subnets", 3, rate, subnets=2),))
    result = polish(net, front_of(net.graph, *chosen), Noise(20), Noise(4, 1), steps)
    trained = {name for path in chosen for name in path if not net.graph[name].is_original}
    assert changed_blocks(before, net) == set(result.changed) <= trained
    assert {*result.changed, *result.put_back} == trained
    assert not {*result.changed} & {*result.put_back}
    assert divergences(net, [net.graph.oracle], Noise(3)) == oracle == [0.0]


@settings(max_examples=20)
@given(st.data())
def test_no_subnet_is_worse_by_the_pictures_that_decide(made: Supernet, data: st.DataObject) -> None:
    """Whatever training does to the blocks; here it makes them better or worse at random."""
    net = supernet()
    net.load_state_dict(made.state_dict())
    paths = [path for path in net.graph.paths() if path != net.graph.oracle]
    chosen = data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=5, unique=True))
    names = sorted({name for path in chosen for name in path if not net.graph[name].is_original})
    better = data.draw(st.sets(st.sampled_from(names)))
    with torch.no_grad():  # what is to become better is bad to begin with
        good = {name: net.blocks[name].state_dict() for name in better}
        good = {name: {key: tensor.clone() for key, tensor in own.items()} for name, own in good.items()}
        for name in better:
            for parameter in net.blocks[name].parameters():
                parameter.mul_(1.5)

    def trained(narrow: Supernet, *_: Any, **__: Any) -> Any:
        with torch.no_grad():
            for name in names:
                if name in better:
                    narrow.blocks[name].load_state_dict(good[name])
                else:
                    for parameter in narrow.blocks[name].parameters():
                        parameter.mul_(1.2)

    before, new = weights(net), {}
    _, deciding = polishing._divided(Noise(30), 0)
    first = closeness(net, chosen, deciding, 4, CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polishing, "train", trained)
        trained(net)
        new = weights(net)
        net.load_state_dict(before)
        result = polish(net, front_of(net.graph, *chosen), Noise(30), Noise(4, 1), STEPS)
    last = closeness(net, chosen, deciding, 4, CPU)
    assert all(last[path].divergence <= first[path].divergence for path in chosen)
    for key, tensor in weights(net).items():
        assert torch.equal(tensor, (new if key.split(".")[1] in result.changed else before)[key])


def test_a_subnet_that_got_worse_has_its_weights_from_before_and_others_keep_the_new_ones(
    net: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {key: tensor.clone() for key, tensor in net.blocks["b01-p50"].state_dict().items()}
    with torch.no_grad():
        for parameter in net.blocks["b01-p50"].parameters():
            parameter.mul_(2)
    before = weights(net)

    def trained(narrow: Supernet, *_: Any, **__: Any) -> Any:
        assert {block.name for block in narrow.alternatives()} == {"b01-p50", "b02-m2"}
        narrow.blocks["b01-p50"].load_state_dict(good)
        with torch.no_grad():
            for parameter in narrow.blocks["b02-m2"].parameters():
                parameter.mul_(2)

    monkeypatch.setattr(polishing, "train", trained)
    result = polish(net, front_of(net.graph, ONE, OTHER), Noise(60), Noise(30, 1), STEPS)
    assert (result.changed, result.put_back) == (("b01-p50",), ("b02-m2",))
    assert changed_blocks(before, net) == {"b01-p50"}
    one, other = result.subnets
    assert one.after.divergence < one.before.divergence
    assert other.after == other.before


def test_where_everything_gets_worse_nothing_has_changed(net: Supernet) -> None:
    before, graph = weights(net), net.graph
    data = Dataset.from_arrays(Noise(60).images[:, 0])
    ruinous = replace(STEPS, phases=(Phase("subnets", 2, 3.0),))
    result = polish(net, front_of(net.graph, ONE), data, Noise(9, 1), ruinous)
    assert (result.changed, result.put_back) == ((), ("b01-p50",))
    assert changed_blocks(before, net) == set()
    assert (net.graph, net.trained_on) == (graph, None)
    assert [each.before == each.after for each in result.subnets] == [True]


def test_the_pictures_of_training_deciding_and_verifying_are_others(
    net: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset.from_arrays(Noise(60).images[:, 0])
    held_out = Dataset.from_arrays(np.concatenate([Noise(5, 1).images[:, 0], Noise(60).images[:2, 0]]))
    seen: list[Any] = []
    monkeypatch.setattr(
        polishing,
        "train",
        lambda net, images, *rest, **more: (seen.append(images), train(net, images, *rest, **more))[1],
    )
    net.trained_on = TrainedOn().with_pictures(Dataset.from_arrays(Noise(2, 5).images[:, 0]).content_digests())
    result = polish(net, front_of(net.graph, ONE), data, held_out, replace(STEPS, phases=(Phase("subnets", 60, 1e-3),)))
    _, deciding = polishing._divided(data, STEPS.seed)
    trained, decided = ({*part.content_digests(range(len(part)))} for part in (seen[0], deciding))
    assert len(trained) == 52
    assert len(decided) == 8
    assert not trained & decided
    # All of them are remembered, beside those from before.
    assert result.changed == ("b01-p50",)
    assert net.trained_on == TrainedOn().with_pictures(
        [*data.content_digests(), *Dataset.from_arrays(Noise(2, 5).images[:, 0]).content_digests()]
    )
    (warning,) = result.warnings
    assert warning.startswith("2 of the 7 pictures to verify on were trained on, ")


def test_blocks_in_int8_stand_for_what_they_were_quantised_from(net: Supernet) -> None:
    twins = [net.graph[name].quantised() for name in {*ONE, *OTHER}]
    whole = replace(net.graph["b00"], name="whole", kind="whole", end=net.graph.end)
    pack = BlockGraph(net.graph.cuts, [*net.graph.blocks, *twins, whole, whole.quantised()])
    mixed = (*ONE[:2], *(f"{name}-int8" for name in ONE[2:]))
    front = front_of(pack, [f"{name}-int8" for name in OTHER], ["whole-int8"], mixed, ONE, ["whole"], pack.oracle)
    assert subnets_to_polish(net.graph, front) == {OTHER: (1.0,), ONE: (3.0, 4.0)}


def test_fronts_with_nothing_to_train_or_of_another_supernet_are_refused(net: Supernet) -> None:
    before = weights(net)

    def refused(front: Front, of: Supernet = net) -> str:
        with pytest.raises((TrainingError, ProfileError)) as error:
            polish(of, front, Noise(20), Noise(4), STEPS, what="p.json")
        return str(error.value)

    whole = replace(net.graph["b00"], name="whole", kind="whole", end=net.graph.end)
    pack = BlockGraph(net.graph.cuts, [*net.graph.blocks, whole])
    nothing = "there is nothing to polish: the front of p.json has no blocks that can be trained, only original"
    assert nothing in refused(front_of(pack, ["whole"], pack.oracle))
    skipping = elastify(nn.Sequential(Residual(), Residual()), torch.zeros(1, 8, 4, 4), kinds=[skip()])
    assert nothing in refused(front_of(skipping.graph, ["b00-skip", *skipping.graph.oracle[1:]]), skipping)
    other = elastify(
        nn.Sequential(*(Residual() for _ in range(net.graph.end))), torch.zeros(1, 8, 4, 4), kinds=[prune(0.25)]
    )
    path = ["b00-p25", *other.graph.oracle[1:]]
    assert "p.json is a profile of another pack: " in refused(front_of(other.graph, path))
    assert changed_blocks(before, net) == set()


def test_what_cannot_end_well_is_refused_before_anything_is_trained(net: Supernet) -> None:
    run = partial(polish, net, front_of(net.graph, ONE))
    with pytest.raises(TrainingError, match=r"too few to polish with: 15 images, 8 of .* at least 16, besides"):
        run(Noise(15), Noise(4), STEPS)
    with pytest.raises(TrainingError, match="there are no images to verify on"):
        run(Noise(20), Noise(0), STEPS)
    with pytest.raises(TrainingError, match="as open_data gives: got list"):
        run([1], Noise(4), STEPS)
    with pytest.raises(TrainingError, match="it cannot be flipped or shifted by 100 pixels"):
        run(Noise(20), Noise(4), replace(STEPS, shift=100), preparing=lambda *_: pytest.fail("measured before"))
    with pytest.raises(TrainingError, match=r"no time is left to train: .*; give it more minutes"):
        run(Noise(20), Noise(4), replace(STEPS, max_minutes=1e-9))
    with pytest.raises(GraphError):
        train(net, Noise(), STEPS, subnets={("b00", "b04"): 1.0})  # type: ignore[dict-item]
    damaged = Noise(20)
    damaged.images[:] = np.nan
    with pytest.raises(TrainingError, match=r"no subnet of the front of this document has a finite distance from"):
        run(damaged, Noise(4), STEPS)


def test_nothing_is_said_to_be_initialised(net: Supernet) -> None:
    said: dict[str, int] = {}
    preparing = lambda what, done, total: said.update({what: done})  # noqa: E731
    polish(net, front_of(net.graph, ONE), Noise(20), Noise(4, 1), STEPS, preparing=preparing)
    assert list(said) == ["measuring", "reading pictures", "measuring blocks", "deciding", "measuring again"]
    assert said["measuring blocks"] == 1


def test_a_subnet_without_a_finite_distance_does_not_count() -> None:
    graph = supernet().graph
    near, far, lost = (Subnet(graph, path) for path in [graph.oracle, ONE, OTHER])
    for unknown in (math.nan, math.inf):
        found = polishing._weighed({near: 1.0, far: 2.0, lost: unknown})
        assert found == pytest.approx({near: 2.0, far: 1.0, lost: 0.0})


def test_a_divergence_is_never_rounded_to_less_than_none(net: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    for rounded, expected in ((-1e-8, 0.0), (0.25, 0.25), (math.nan, math.nan)):
        loss = torch.tensor(rounded)
        monkeypatch.setattr("adaptivenet.toolkit.training.closeness.output_loss", lambda *_, loss=loss: loss)
        found = closeness(net, [Subnet(net.graph, ONE)], Noise(3), 2, CPU)
        assert [each.divergence for each in found.values()] == [pytest.approx(expected, nan_ok=True)]
        assert not any(math.copysign(1, each.divergence) < 0 for each in found.values())


def test_killed_it_leaves_the_supernet_as_it_was_and_goes_on_from_its_checkpoint(
    net: Supernet, made: Supernet, tmp_path: Path
) -> None:
    front, file = front_of(net.graph, ONE, OTHER), tmp_path / "checkpoint"
    before = weights(net)
    with pytest.raises(Killed):
        polish(net, front, Noise(60), Noise(4, 1), STEPS, checkpoint=file, progress=killed_at(11))
    assert changed_blocks(before, net) == set()
    straight = supernet()
    straight.load_state_dict(made.state_dict())
    polish(straight, front_of(straight.graph, ONE, OTHER), Noise(60), Noise(4, 1), STEPS)
    steps: list[int] = []
    polish(
        net, front, Noise(60), Noise(4, 1), STEPS, checkpoint=file,
        progress=lambda kind, done, total, loss: steps.append(done),
    )  # fmt: skip
    assert steps[0] == 9
    assert_bit_exact(net, straight)
    assert changed_blocks(before, net) == {"b01-p50", "b02-m2"}
    # Both what is trained further and for which front belong to a checkpoint.
    for other, subnets in ((net, (ONE, OTHER)), (made, (ONE,))):
        with pytest.raises(TrainingError, match="belongs to another supernet, other settings or other images"):
            polish(other, front_of(other.graph, *subnets), Noise(60), Noise(4, 1), STEPS, checkpoint=file)


def test_a_network_without_class_scores_is_polished_by_its_relative_error() -> None:
    torch.manual_seed(1)
    net = elastify(nn.Sequential(*(Residual() for _ in range(4))).eval(), torch.zeros(1, 8, 5, 5), kinds=[prune(0.5)])
    assert net.scores is not None  # several numbers along dimension 1 are taken for scores
    net.outputs = (("one", (1, 8, 5, 5)), ("other", (1, 8, 5, 5)))

    class Features(Noise):
        def __init__(self, count: int, seed: int) -> None:
            self.images = np.random.default_rng(seed).normal(size=(count, 1, 8, 5, 5)).astype(np.float32)

    path = net.graph.subnet(["b00-p50", *net.graph.oracle[1:]])
    x = torch.from_numpy(Features(9, 1).images[:, 0])
    with torch.no_grad():
        expected = float((net(x, path) - net(x)).square().mean() / net(x).var(correction=0))
    result = polish(net, front_of(net.graph, path), Features(40, 0), Features(9, 1), STEPS)
    (found,) = result.subnets
    assert found.before.divergence == pytest.approx(expected, rel=1e-4)
    assert found.before.agreement is None
    assert found.after.divergence < found.before.divergence


def test_agreement_is_the_share_of_pictures_with_the_originals_class(net: Supernet) -> None:
    x = torch.from_numpy(Noise(30, 2).images[:, 0])
    with torch.no_grad():
        shares = [float((net(x, path).argmax(1) == net(x).argmax(1)).float().mean()) for path in (ONE, OTHER)]
    found = closeness(net, [net.graph.subnet(ONE), net.graph.subnet(OTHER)], Noise(30, 2), 7, CPU)
    qualities = [each.agreement for each in found.values()]
    assert [each and each.value for each in qualities] == pytest.approx(shares)
    assert [each and (each.metric, each.n) for each in qualities] == [("agreement", 30)] * 2


def test_time_that_is_short_cuts_what_is_verified_on(net: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring takes 1 s an image on this clock, and nothing else takes any time."""
    clock, walk, asked = [0.0], net.walk, []
    monkeypatch.setattr(polishing.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(polishing, "train", lambda narrow, data, training, **_: asked.append(training.max_minutes))

    def slow(x: torch.Tensor, *subnet: Any) -> Any:
        clock[0] += len(x) if not subnet else 0
        return walk(x, *subnet)

    monkeypatch.setattr(net, "walk", slow)
    run = partial(polish, net, front_of(net.graph, ONE), Noise(20), Noise(300, 1))
    result = run(replace(STEPS, max_minutes=10.0))
    assert result.images == 60  # a tenth of the time before, and a tenth after
    assert asked == [pytest.approx((600 - 8 - 60 - 60 - 3 * 8) / 60)]
    assert run(STEPS).images == 300
    assert asked[-1] is None


def test_a_result_is_plain_data(net: Supernet) -> None:
    from adaptivenet.toolkit.cli.polishing import _document, polished_rows

    result = polish(net, front_of(net.graph, ONE), Noise(20), Noise(4, 1), STEPS)
    assert isinstance(result, Polished)
    found = json.loads(json.dumps(_document(result)))
    assert found["subnets"][0]["subnet"] == list(ONE)
    assert found["changed"] == ["b01-p50"]
    assert [len(row) for row in polished_rows(result)] == [5, 5]
