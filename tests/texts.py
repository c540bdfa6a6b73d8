"""A small encoder of texts, with two inputs: the numbers of tokens, and which of them count."""

from __future__ import annotations

import math

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width: int, context: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(context or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: torch.Tensor, context: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        n, length, width = x.shape
        normed = self.norm(x)
        k, v = self.kv(normed if context is None else context).chunk(2, -1)
        q, k, v = (each.reshape(n, -1, 4, width // 4).transpose(1, 2) for each in (self.q(normed), k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // 4)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -1e4)
        out: torch.Tensor = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width))
        return out


class Feed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))
        return out


class Text(nn.Module):
    """An encoder of token numbers, of which some are only there to fill up."""

    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 16), nn.Embedding(12, 16)
        self.layers = nn.ModuleList(nn.ModuleList([Attention(16), Feed(16)]) for _ in range(layers))
        self.head = nn.Linear(16, 5)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.tokens(token_ids) + self.places(torch.arange(token_ids.shape[1]))
        for attention, feed in self.layers:
            x = feed(attention(x, mask=mask))
        counted = mask.unsqueeze(-1).float()
        out: torch.Tensor = self.head((x * counted).sum(1) / counted.sum(1).clamp(min=1))
        return out
