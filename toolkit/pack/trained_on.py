"""Which pictures a network was trained on, remembered by short digests: quality that is measured on them says so.

A digest is the first 6 bytes of the SHA-256 of a picture as it was stored: a file's content, an array's bytes. The same
picture stored in another way has another digest. A digest gives nothing of the picture away, but whoever has the
picture can see that it was there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import PackError

BYTES = 6
_TEXT = re.compile(r"([A-Za-z0-9+/]{8})*")
LIMIT = 16384  # digests that are kept, 128 KiB of text: of more pictures, those with the smallest digests


@dataclass(frozen=True)
class TrainedOn:
    """The digests of the pictures; with `LIMIT` of them there may have been more, and these are the smallest."""

    digests: frozenset[bytes] = frozenset()

    def with_pictures(self, sha256: Iterable[bytes]) -> TrainedOn:
        """These and those pictures, whose whole digests are given."""
        return TrainedOn(frozenset(sorted(self.digests | {digest[:BYTES] for digest in sha256})[:LIMIT]))

    @property
    def is_complete(self) -> bool:
        """Whether every picture is remembered, not only a sample of them."""
        return len(self.digests) < LIMIT

    def among(self, sha256: Iterable[bytes]) -> int:
        """How many of these pictures were trained on; an estimate from a sample where not all are remembered."""
        short = [digest[:BYTES] for digest in sha256]
        found = sum(digest in self.digests for digest in short)
        if self.is_complete or not found:
            return found
        last = max(self.digests)
        return max(found, round(len(short) * found / sum(digest <= last for digest in short)))

    def in_words(self, seen: int, pictures: int) -> str:
        """What to say of a quality where `seen` of the pictures that it was measured on were trained on."""
        about = "" if self.is_complete else "about "
        return (
            f"{about}{seen} of the {pictures} pictures to verify on were trained on, and the quality is not what new "
            "pictures will give: verify on pictures that are in no training"
        )

    def to_text(self) -> str:
        """The digests in ascending order, joined, in base64: 8 characters each."""
        return base64.b64encode(b"".join(sorted(self.digests))).decode()

    @classmethod
    def from_text(cls, text: object) -> TrainedOn:
        """What `to_text` wrote. Raises PackError for something else."""
        if not isinstance(text, str) or not _TEXT.fullmatch(text) or len(text) > 8 * LIMIT:
            raise PackError(f"trained_on must be at most {LIMIT} digests of 8 characters of base64; export it again")
        joined = base64.b64decode(text)
        return cls(frozenset(joined[at : at + BYTES] for at in range(0, len(joined), BYTES)))
