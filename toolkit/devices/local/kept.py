"""Features that a session keeps from one plan to the next, by data, image and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import FeaturesLost
from ...plan.plan import Plan, Prefix
from .interpreter import Tensor


@dataclass(frozen=True)
class _Held:
    """`features[image][key]` was made by the blocks `paths[key]`."""

    paths: Mapping[int, Prefix]
    features: list[dict[int, Tensor]]


class KeptFeatures:
    """What is kept now. Data is known by its digest."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def take(self, plan: Plan, digest: str, images: int) -> list[dict[int, Tensor]]:
        """The features that `plan` begins from, by key, for each image.

        They are not kept any longer, and neither is what else was kept of this data: an evaluation that fails half way
        leaves nothing behind. Raises FeaturesLost when one is not there, or was made by other blocks.
        """
        wanted = plan.kept or {}
        held = self._held.pop(digest, _Held({}, []))
        for key, prefix in wanted.items():
            if held.paths.get(key) != prefix:
                raise FeaturesLost(
                    f"the features under key {key}, which a plan begins from, are not kept here; evaluate without them"
                )
        features = held.features or [{} for _ in range(images)]
        return [{key: of_image[key] for key in wanted} for of_image in features]

    def put(self, plan: Plan, digest: str, features: list[dict[int, Tensor]]) -> None:
        """Keeps what `plan` has left, for each image."""
        if plan.keeps:
            self._held[digest] = _Held(plan.keeps, features)

    def clear(self) -> None:
        """Drops everything."""
        self._held.clear()
