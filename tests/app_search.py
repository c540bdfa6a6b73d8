"""Writes what the search of the Kotlin library is compared with: called by app_packs.py.

FOLDER/pack is a pack of the 109 subnets of `packs.WIDE`, FOLDER/onnxruntime.json a profile of it, FOLDER/pictures.json
pictures, and FOLDER/cases.json search spaces with what every subnet scores on every picture, and what the search of
the host chooses for some latencies: that pack's, the ResNet-20 of benchmarks/truth.py, and random ones, in which
alternatives take something from quality.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from adaptivenet.toolkit import Settings, connect, profile
from adaptivenet.toolkit.data import Dataset
from adaptivenet.toolkit.graph.graph import Block, BlockGraph, Cut, Subnet
from adaptivenet.toolkit.graph.ticks import fastest_and_slowest, within
from adaptivenet.toolkit.pack.pack import Artifact, BlockPack
from adaptivenet.toolkit.pack.writer import Metric, PackWriter, describe
from adaptivenet.toolkit.search import Result, Surrogate
from adaptivenet.toolkit.search.evaluator import Evaluator
from graphs import space
from packs import CLASSES, PREPROCESSING, WIDE, metric_programs, wide_programs

RESNET = Path(__file__).resolve().parent.parent / "benchmarks" / "tables" / "cifar10-resnet20.npz"
PICTURES = 128
TIMES = 20  # evaluations a picture: as many as a profile takes
TARGETS = 8
Scores = dict[Subnet, np.ndarray]


def searched_pack(path: Path) -> BlockPack:
    """The graph of 109 subnets, with the metric `agreement`."""
    with PackWriter(path, name="searched") as writer:

        def artifacts(program: bytes) -> dict[str, Artifact]:
            return {"onnx": Artifact(writer.add_blob(program, ".onnx"), len(program))}

        blocks = {name: artifacts(program) for name, program in wide_programs().items()}
        metrics = {"agreement": Metric(("output", "oracle"), artifacts(metric_programs()["agreement"]))}
        return writer.finish(describe(WIDE, blocks, metrics, PREPROCESSING, CLASSES))


def pictures(seed: int) -> np.ndarray:
    """Float32 (n, 3, 16, 16), each of a colour of its own, so that not all have the same answer."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (PICTURES, 3, 16, 16))
    return (noise + rng.normal(0, 3, (PICTURES, 3, 1, 1))).astype(np.float32)


def trained_network() -> tuple[BlockGraph, dict[str, float], np.ndarray]:
    """The 3,906 subnets of a ResNet-20 whose alternatives were trained, the milliseconds of its blocks, and which
    pictures each gets right, of those that the original does: bool (subnets, pictures). On these, that is agreement."""
    with np.load(RESNET, allow_pickle=False) as archive:
        document = json.loads(archive["document"].item())
        cuts = [Cut(cut["index"], tuple(cut["shape"]), cut["dtype"]) for cut in document["cuts"]]
        graph = BlockGraph(cuts, [Block(**block) for block in document["blocks"]], document["taps"])
        hits = np.unpackbits(archive["hits"], axis=1, count=graph.count()).T.astype(bool)
    return graph, document["milliseconds"], hits[:, hits[list(graph.paths()).index(graph.oracle)]]


def random_space(seed: int) -> tuple[BlockGraph, dict[str, float], Scores]:
    """Some hundreds of paths, the milliseconds of each block, and whether each subnet is right about each picture.

    Pictures that are hard for one subnet are hard for others.
    """
    graph, cost, takes = space(seed)
    difficulty = np.random.default_rng(seed).permutation(PICTURES) / PICTURES
    scores = {}
    for path in graph.paths():
        own = np.random.default_rng([seed, *"".join(path).encode()]).standard_normal(PICTURES)
        right = round(math.exp(-sum(takes[name] for name in path)) * PICTURES)
        scores[path] = np.zeros(PICTURES)
        scores[path][np.argsort(difficulty + 0.15 * own)[:right]] = 1
    return graph, cost, scores


def case(name: str, graph: BlockGraph, cost: dict[str, float], scores: Scores) -> dict[str, Any]:
    """A search space as HostSearchTest reads it, with the agreement of what the host chooses for each target."""
    low, high = (sum(cost[name] for name in path) for path in (fastest_and_slowest(graph, cost)[0], graph.oracle))
    targets = [low + (high - low) * step / (TARGETS - 1) for step in range(TARGETS)]
    evaluations = TIMES * PICTURES
    return {
        "name": name,
        "cuts": graph.end + 1,
        "blocks": [
            {"name": block.name, "start": block.start, "end": block.end, "original": block.is_original}
            for block in graph.blocks
        ],
        "cost": cost,
        "targets": targets,
        "pictures": PICTURES,
        "evaluations": evaluations,
        "right": {" ".join(path): "".join("1" if score else "0" for score in scores[path]) for path in scores},
        "host": [float(scores[subnet].mean()) for subnet in host_choices(graph, cost, targets, evaluations, scores)],
    }


def host_choices(
    graph: BlockGraph, cost: dict[str, float], targets: Sequence[float], evaluations: int, scores: Scores
) -> list[Subnet]:
    """What the host's search chooses for each target, once its choices have seen all pictures, too."""
    limit = evaluations
    while True:
        strategy = Surrogate.for_profile(graph, cost, targets, PICTURES, evaluations // PICTURES, 0)
        seen: dict[Subnet, int] = {}
        spent = _run(strategy.ask, strategy.tell, limit, scores, seen)
        estimate = strategy.estimate()

        def best(target: float, estimate: dict[Subnet, float] = estimate) -> Subnet:
            fitting = [path for path in estimate if within(0, sum(cost[name] for name in path), target)]
            return max(fitting, key=estimate.__getitem__)

        chosen = [best(target) for target in targets]
        spent += sum(PICTURES - seen[subnet] for subnet in set(chosen))
        if spent <= evaluations:
            return chosen
        limit -= max(16, (spent - evaluations) // 2)


def _run(
    ask: Callable[[int], Any], tell: Callable[[Any], None], limit: int, scores: Scores, seen: dict[Subnet, int]
) -> int:
    """Image evaluations, at most `limit`; `seen` gets how many pictures each subnet has met."""
    spent = 0
    while trials := ask(8):
        told = []
        for trial in trials:
            more = trial.images - seen.get(trial.subnet, 0)
            if spent + more > limit:
                break
            spent += more
            seen[trial.subnet] = trial.images
            told.append(Result(trial.subnet, scores[trial.subnet][: trial.images]))
        if not told:
            break
        tell(told)
    return spent


def write(folder: Path) -> None:
    """Everything, to `folder`."""
    pack = searched_pack(folder / "pack")
    cases = []
    with connect("local:onnxruntime", threads=1).open(pack) as session:
        for seed in range(3):
            images = pictures(seed)
            data = Dataset.from_arrays(images)
            with Evaluator(session, {"agreement": pack.metrics["agreement"]}, 1 << 28) as evaluator:
                found = evaluator.evaluate(list(WIDE.paths()), data)
            scores = dict(zip(found.subnets, found.scores("agreement"), strict=True))
            if seed == 0:
                made = profile(
                    session,
                    data,
                    Settings(evaluations=2, rounds=3, budgets=("1000ms",)),
                    verify=Dataset.from_arrays(pictures(99)),
                )
                made.save(folder / "onnxruntime.json")
                (folder / "pictures.json").write_text(json.dumps(images.reshape(PICTURES, -1).round(3).tolist()))
            # What blocks take is invented, so that the search of the host has the same result every time.
            cost = {block.name: (block.end - block.start) * (1 - (block.ratio or 0) / 2) for block in WIDE.blocks}
            cost |= {block.name: 1.3 for block in WIDE.blocks if block.kind == "merged"}
            cases.append(case(f"pack {seed}", WIDE, cost, scores))
    graph, cost, hits = trained_network()
    for seed in range(4):
        some = np.random.default_rng(seed).choice(hits.shape[1], PICTURES, replace=False)
        scores = dict(zip(graph.paths(), hits[:, some].astype(float), strict=True))
        cases.append(case(f"trained network {seed}", graph, cost, scores))
    cases += [case(f"random {seed}", *random_space(seed)) for seed in range(8)]
    (folder / "cases.json").write_text(json.dumps({"cases": cases}))
