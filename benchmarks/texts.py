"""Encoders of text, which read the numbers of words and a mask of those that count: every third that transformers has.

They are those that fill in words (`ForMaskedLM`), in the order of their names, up to their last features, with random
weights, as their configurations are by default but with at most four layers and a small vocabulary.
"""

from __future__ import annotations

import torch
from adaptivenet.toolkit.errors import ModelError
from torch import nn

_LAYERS, _WORDS, _LENGTH = 4, 1000, 64


class Features(nn.Module):
    """An encoder that answers with its last features alone."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, words) whole numbers each; (batch, words, features)."""
        read = {"input_ids": input_ids, "attention_mask": attention_mask}
        answer: torch.Tensor = self.encoder(**read, return_dict=True).to_tuple()[0]
        return answer


def names() -> list[str]:
    """The encoders of transformers, where that is installed, as `texts:NAME`."""
    try:
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
    except ImportError:
        return []
    return [f"texts:{name}" for name in sorted(MODEL_FOR_MASKED_LM_MAPPING_NAMES)[::3]]


def build(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The encoder that a name stands for, in eval mode, and five texts of different lengths."""
    import transformers

    config = transformers.AutoConfig.for_model(name.partition(":")[2])
    for key in ("num_hidden_layers", "encoder_layers", "n_layers", "n_layer", "num_layers"):
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, min(_LAYERS, getattr(config, key)))
    config.vocab_size = _WORDS
    for key in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        if (getattr(config, key, None) or 0) >= _WORDS:
            setattr(config, key, 1)
    try:
        encoder = transformers.AutoModel.from_config(config)
    except Exception as error:
        raise ModelError(f"transformers does not build {name} from its default configuration: {error}") from error
    counts = torch.arange(_LENGTH) < torch.randint(_LENGTH // 4, _LENGTH, (5, 1))
    read = {"input_ids": torch.randint(2, _WORDS, (5, _LENGTH)), "attention_mask": counts.long()}
    return Features(encoder).eval(), read
