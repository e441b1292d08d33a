from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """A sentence-transformers model that knows nothing: random weights, MiniLM's tokenizer."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    folder = tmp_path_factory.mktemp("tiny-encoder")
    set_seed(0)
    config = BertConfig(hidden_size=160, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(folder)
    control = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "retrieval/models/small/tokenizer.json"), **control)
    tokenizer.save_pretrained(folder)
    return folder
