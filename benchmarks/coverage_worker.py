"""Tries models for `benchmarks.coverage`: one json object a line in, one a line out. A process of its own, so that a
model that takes too long or too much memory can be given up."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from typing import Any

import torch
from adaptivenet.export.programs import export_program
from adaptivenet.toolkit.elastic import Supernet, elastify
from adaptivenet.toolkit.elastic.tracing.answers import at, in_a_row, paths
from adaptivenet.toolkit.errors import AdaptiveNetError
from torch import nn

from . import others, texts
from .models import allow_torchvision
from .subnets import draw_by_macs


class Heads(nn.Module):
    """A torchvision detector up to its raw outputs: choosing boxes by their scores is left to the host."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = detector.head if hasattr(detector, "head") else detector.rpn.head

    def forward(self, x: torch.Tensor) -> Any:
        """The head's scores and box offsets for a batch of normalised pictures of shape (batch, 3, height, width)."""
        features = self.backbone(x)
        return self.head(list(features.values()) if isinstance(features, dict) else [features])


def build(name: str) -> nn.Module:
    """The model of timm or torchvision that a name stands for, with random weights, in eval mode."""
    library, _, model = name.partition(":")
    allow_torchvision()  # timm imports it as well
    if library == "timm":
        import timm

        return timm.create_model(model).eval()
    import torchvision.models

    detection = model in torchvision.models.list_models(module=torchvision.models.detection)
    more = {} if model in torchvision.models.list_models(module=torchvision.models) else {"weights_backbone": None}
    built = torchvision.models.get_model(model, weights=None, **more)
    return (Heads(built) if detection else built).eval()


def attempt(name: str, side: int | None, subnets: int, export: bool) -> dict[str, Any]:
    """Elastifies one model and uses what came out. Raises AdaptiveNetError with the reason when it is refused.

    `side` is that of the pictures; None: the model is one of `others` or `texts`.
    """
    torch.manual_seed(0)
    read: dict[str, torch.Tensor] | None = None
    shape: tuple[int, ...] = ()
    if name.startswith("texts:"):
        model, read = texts.build(name)
    else:
        model, shape = others.build(name) if side is None else (build(name), (1, 3, side, side))
    one = torch.randn(shape) if read is None else {key: tensor[:1] for key, tensor in read.items()}
    started = time.monotonic()
    supernet = elastify(model, one)
    seconds = time.monotonic() - started
    example = one if isinstance(one, torch.Tensor) else supernet.row(one)
    graph = supernet.graph
    elastic = {block.start for block in supernet.alternatives()}
    facts = {
        "cuts": len(graph.cuts),
        "taps": len(graph.taps),
        "originals": len(graph.oracle),
        "elastic": len(elastic),
        "blocks": len(graph.blocks),
        "subnets": float(graph.count()),
        "seconds": seconds,
        # At a batch size that tracing has not seen.
        "oracle_error": _oracle_error(model, supernet, torch.randn(5, *shape[1:]) if read is None else read),
    }
    del model
    facts["subnets_run"] = _run_subnets(supernet, example, subnets)
    if export:
        facts["exported"] = _export_subnet(supernet, example)
    return facts


def _oracle_error(model: nn.Module, supernet: Supernet, x: torch.Tensor | dict[str, torch.Tensor]) -> float:
    """The largest difference between the oracle path and the model, over the larger of 1 and the largest output."""
    with torch.no_grad():
        if isinstance(x, torch.Tensor):
            answer, actual = model(x.clone()), supernet(x)
        else:
            answer, actual = model(**x), supernet(supernet.row(x))
    expected = in_a_row([at(answer, path) for path in paths(answer)])
    return float((actual - expected).abs().max() / max(1.0, float(expected.abs().max())))


def _run_subnets(supernet: Supernet, x: torch.Tensor, count: int) -> int:
    """How many of `count` random subnets give an output and, where they have something to learn, gradients."""
    graph = supernet.graph
    good = 0
    for subnet in draw_by_macs(graph, count, 0):
        supernet.zero_grad()
        output = supernet(x, subnet)
        if output.requires_grad:
            output.square().mean().backward()
        learning = [weight for name in subnet for weight in supernet.blocks[name].parameters() if weight.requires_grad]
        good += output.shape[1:] == graph.cuts[-1].shape[1:] and (
            not learning or any(weight.grad is not None for weight in learning)
        )
    return good


def _export_subnet(supernet: Supernet, x: torch.Tensor) -> str:
    """Exports every block of one random subnet to ExecuTorch, each verified through the engine."""
    graph = supernet.graph
    with torch.no_grad():
        features = [feature.clone() for feature in supernet.features(x)]
    for name in draw_by_macs(graph, 1, 1)[0]:
        inputs = [features[cut] for cut in graph.reads(graph[name])]
        try:
            export_program(f"block {name}", supernet.blocks[name], inputs, "executorch")
        except AdaptiveNetError as error:
            return str(error)
    return "ok"


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def main() -> None:
    """Serves until its input ends, in so many bytes of memory. What the libraries print goes to stderr."""
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = attempt(**json.loads(line))
        except Exception as error:
            if _is_out_of_memory(error):
                answer = {"refused": f"needs more than {limit / 2**30:.0f} GiB of memory"}
            elif isinstance(error, AdaptiveNetError):
                answer = {"refused": str(error)}
            else:  # a defect: it is reported as one, and the next model is tried
                first_line = str(error).splitlines()[0] if str(error) else ""
                answer = {"refused": f"{type(error).__name__}: {first_line}", "defect": True}
        # What a large model took is not all given back, and would be missing for the next.
        answer["last"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > limit / 4
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
