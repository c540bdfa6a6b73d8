"""Multiply-accumulates are counted of every operation that has some, whatever torch makes of it on this computer."""

import pytest
import torch
from adaptivenet.toolkit.elastic.counting import multiply_accumulates
from torch import nn
from torch.nn import functional


class Attends(nn.Module):
    def forward(self, x):
        heads = x.reshape(1, 10, 3, 8).transpose(1, 2)
        return functional.scaled_dot_product_attention(heads, heads[..., :6, :], heads[..., :6, :4])


class Products(nn.Module):
    def forward(self, x):
        matrix = x[0]
        return matrix @ matrix[0] + torch.addmv(matrix[:, 0], matrix, matrix[1]), matrix[0] @ matrix[1]


_ATTENDED = 2 * 10 * 10 * 24  # scores and what they weigh, of all heads
_PROJECTED = 4 * 10 * 24 * 24
_SEVERAL = _PROJECTED + _ATTENDED


@pytest.mark.parametrize(
    ("module", "macs"),
    [
        (nn.LSTM(24, 7, batch_first=True), 10 * 4 * 7 * (24 + 7)),
        (nn.LSTM(24, 7, num_layers=2, bidirectional=True), 2 * 10 * 4 * 7 * (24 + 7) + 2 * 10 * 4 * 7 * (14 + 7)),
        (nn.LSTM(24, 7, proj_size=5, batch_first=True), 10 * (4 * 7 * (24 + 5) + 7 * 5)),
        (nn.GRU(24, 7, batch_first=True), 10 * 3 * 7 * (24 + 7)),
        (Attends(), 3 * 10 * 6 * (8 + 4)),
        (nn.TransformerEncoderLayer(24, 3, 48, batch_first=True), _SEVERAL + 2 * 10 * 24 * 48),
        (Products(), 2 * 10 * 24 + 24),
        (nn.Conv1d(10, 4, 3, groups=2), 22 * 4 * 5 * 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_takes_multiply_accumulates_is_counted(module, macs):
    module.eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad(), multiply_accumulates() as counted:
        module(torch.rand(1, 10, 24))
    assert counted() == macs
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_layers_of_two_inputs_are_counted():
    attention, bilinear = nn.MultiheadAttention(24, 3, batch_first=True).eval(), nn.Bilinear(24, 8, 5)
    x = torch.rand(1, 10, 24)
    with torch.no_grad(), multiply_accumulates() as counted:
        attention(x, x, x)
    assert counted() == _SEVERAL
    with torch.no_grad(), multiply_accumulates() as counted:
        bilinear(x, x[..., :8])
    assert counted() == 10 * 24 * 8 * 5
