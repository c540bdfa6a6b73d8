"""A profile's document, written down by hand: nothing is measured."""

from __future__ import annotations

from typing import Any

from packs import GRAPH


def latency(ms: float) -> dict[str, Any]:
    return {"median_ms": ms, "spread_ms": ms / 10, "repetitions": 21}


def quality(metric: str, value: float) -> dict[str, Any]:
    return {"metric": metric, "value": value, "low": value / 2, "high": (1 + value) / 2, "n": 40}


def point(names: list[str], ms: float, value: float) -> dict[str, Any]:
    return {
        "subnet": names,
        "predicted_ms": 0.9 * ms,
        "predicted_error_ms": 0.2 * ms,
        "measured_ms": ms,
        "spread_ms": 0.25,
        "repetitions": 30,
        "quality": quality("top1", value),
        "also": [quality("agreement", min(1.0, value + 0.1))],
    }


def page_in(ms: float, size: int) -> dict[str, Any]:
    rest = {"released": [], "bytes_out": 0, "engine": "executorch", "threads": 2}
    return {"loaded": ["b0-m2"] if size else [], "bytes_in": size, "ms": ms, **rest}


def whole_document() -> dict[str, Any]:
    """A profile's document with every part that there is."""
    alone = {"b0": 4.0, "b1": 2.0, "b2": 1.0, "b0-m2": 1.5, "b0-p50": 3.2, "b1-p50": 2.4}
    front = [point(["b0-m2", "b2"], 2.75, 0.5), point(["b0", "b1", "b2"], 7.5, 0.9)]
    conditions = {
        "threads": 2,
        "cores": [4, 5, 7],
        "governors": ["schedutil", None],
        "khz_before": [1_800_000, 2_400_000, None],
        "khz_after": [],
        "celsius_before": {"cpu": 41.4, "off": -40},
        "celsius_after": {"cpu": 47.6},
        "khz_lowest": [800_000, 1_200_000, None],
        "khz_highest": [1_800_000, 2_900_000, None],
        "celsius_highest": {"cpu": 52.3, "off": -40},
    }
    return {
        "format": "adaptivenet-profile",
        "version": 2,
        "pack": {"name": "tiny", "digest": "0123abcd" * 8},
        "device": {
            "address": "R58N",
            "name": "A phone",
            "os": "Android 15",
            "engine": "executorch",
            "engine_version": "1.5",
            "threads": 2,
            "cores": 8,
            "evaluation_threads": None,
        },
        "conditions": {"measure": conditions},
        "settings": {"budgets": ["50%"], "metric": None, "memory_bytes": 268435456, "seed": 0},
        "oracle_latency_ms": 7.5,
        "oracle_latency": latency(7.5),
        "reference": {"subnet": ["b0", "b1", "b2"], **latency(7.5)},
        "blocks": [
            {"name": b.name, "start": b.start, "end": b.end, "kind": b.kind, "ratio": b.ratio, "precision": "float32"}
            | latency(alone[b.name])
            | {"in_subnet_ms": 1.1 * alone[b.name]}
            for b in GRAPH.blocks
        ],
        "search": {
            "strategy": "surrogate",
            "metric": "top1",
            "images": 12,
            "subnets": 5,
            "image_evaluations": 60,
            "seconds": 1.25,
        },
        "verify": {"images": 40},
        "front": front,
        "whole": [],
        "budgets": [
            {"budget": "50%", "budget_ms": 3.75, "tolerance": 0.0, **front[0], "page_in": page_in(12.5, 1_500_000)},
            {"budget": "900ms", "budget_ms": 900.0, "tolerance": 0.0, **front[1], "page_in": page_in(0.5, 0)},
        ],
        "seconds": {"measure": 3.5, "search": 1.5},
        "samples": {"measure": {"chains": [], "ms": [], "anchor_ms": [7.4, 7.5]}},
    }
