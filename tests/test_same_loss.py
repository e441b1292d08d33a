"""Nothing is traded for speed: whole conversations, and neatly packed ones, teach what single replies would."""

import json

import numpy as np
import pytest
import torch

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
MODEL = str(ROOT / "models" / "persona-tiny")
SAME = {"atol": 1e-4, "rtol": 0}  # nats; float32 sums in another order are some 1e-5 apart


class Trainer:
    """A dataset as LLaMA-Factory's ``stage: sft`` encodes and collates it, and persona-tiny in float32 to read it."""

    def __init__(self, data, form, **arguments):
        from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer
        from llamafactory.hparams import get_train_args
        from llamafactory.model import load_tokenizer
        from transformers import AutoModelForCausalLM

        arguments = {
            "model_name_or_path": MODEL, "template": "qwen3_nothink", "stage": "sft", "do_train": True,
            "finetuning_type": "full", "use_cpu": True, "output_dir": str(data / "never-written"),
            "dataset": f"spc_{form}_valid", "dataset_dir": str(data), "cutoff_len": 8192, "overwrite_cache": True,
            "report_to": "none", **arguments,
        }  # fmt: skip
        model_args, data_args, training_args, *_ = get_train_args(arguments)
        module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
        dataset = get_dataset(template, model_args, data_args, training_args, stage="sft", **module)
        self.rows = list(dataset["train_dataset"])
        self.model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
        # As llamafactory/train/sft/workflow.py makes it.
        self.collate = SFTDataCollatorWith4DAttentionMask(
            template=template, model=self.model, pad_to_multiple_of=8, label_pad_token_id=-100,
            block_diag_attn=model_args.block_diag_attn, neat_packing=data_args.neat_packing,
            attn_implementation=self.model.config._attn_implementation, compute_dtype=torch.float32, **module,
        )  # fmt: skip

    @torch.inference_mode()
    def replies(self, row: dict) -> list[tuple[tuple[int, ...], np.ndarray]]:
        """Each stretch of tokens that carry loss, with their log-probabilities in nats."""
        batch = self.collate([dict(row)])
        labels = batch.pop("labels")[0]
        log_probabilities = self.model(**batch).logits[0].log_softmax(-1)
        learned = [place for place, label in enumerate(labels.tolist()) if label != -100]
        stretches = np.split(learned, 1 + np.flatnonzero(np.diff(learned) > 1))
        return [
            (tuple(labels[places].tolist()), log_probabilities[places - 1, labels[places]].numpy())
            for places in map(torch.from_numpy, stretches)
        ]


@pytest.fixture(scope="module")
def whole(sample_data):
    """Whole conversations, a row each, unpacked."""
    return Trainer(sample_data, "sharegpt")


@pytest.fixture(scope="module")
def replies_of_whole(whole):
    return [whole.replies(row) for row in whole.rows]


def test_a_whole_conversation_teaches_what_its_replies_one_by_one_do(sample_data, replies_of_whole):
    single = Trainer(sample_data, "alpaca", mask_history=True)
    rows = iter(single.rows)
    for conversation in replies_of_whole:
        for labels, log_probabilities in conversation:
            ((expected_labels, expected),) = single.replies(next(rows))  # one reply carries loss, the last
            assert labels == expected_labels
            assert np.allclose(log_probabilities, expected, **SAME)
    assert next(rows, None) is None  # every reply was met, once
    written = json.loads((sample_data / "spc_sharegpt_valid.json").read_text(encoding="utf-8"))
    assert len(single.rows) == sum(len(row["conversations"]) // 2 for row in written)


def test_without_mask_history_alpaca_teaches_early_replies_again_and_again(sample_data, replies_of_whole):
    again = Trainer(sample_data, "alpaca")
    learned, once = (
        sum(label != -100 for labels in found for label in labels)
        for found in ((row["labels"] for row in again.rows), (ids for reply in replies_of_whole for ids, _ in reply))
    )
    assert learned > 2 * once


def packed_replies(data, cutoff_len, **arguments):
    """All replies of the packed rows by the row they are in, each as in ``Trainer.replies``."""
    trainer = Trainer(data, "sharegpt", cutoff_len=cutoff_len, **arguments)
    return [trainer.replies(row) for row in trainer.rows]


def compare(packed, replies_of_whole):
    """Greatest difference in nats between a conversation in a packed row and alone, by conversation."""
    differences = []
    alone = {tuple(labels for labels, _ in conversation): conversation for conversation in replies_of_whole}
    assert len(alone) == len(replies_of_whole)
    for row in packed:
        while row:
            # Rows hold whole conversations one after the other.
            key = next(key for key in alone if key == tuple(labels for labels, _ in row[: len(key)]))
            conversation = alone.pop(key)
            pairs = zip(row[: len(key)], conversation, strict=True)
            differences.append(max(np.abs(here - there).max() for (_, here), (_, there) in pairs))
            row = row[len(key) :]
    assert not alone  # every conversation was met
    return np.array(differences)


def test_neatly_packed_conversations_do_not_see_each_other(sample_data, replies_of_whole):
    packed = packed_replies(sample_data, 2048, neat_packing=True)
    assert len(packed) < len(replies_of_whole) / 2
    assert compare(packed, replies_of_whole).max() < SAME["atol"]


def test_plain_packing_lets_conversations_see_the_ones_before(sample_data, replies_of_whole):
    """The trap: `packing: true` alone. If this fails, LLaMA-Factory has mended it."""
    packed = packed_replies(sample_data, 2048, packing=True)
    differences = compare(packed, replies_of_whole)
    first_of_row = len(packed)
    assert (differences < SAME["atol"]).sum() == first_of_row
    assert (differences > 0.1).sum() == len(replies_of_whole) - first_of_row
