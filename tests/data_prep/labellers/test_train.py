import json
import shutil

import pytest
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from data_prep.labellers.encoder import EncoderLabeller
from data_prep.labellers.precomputed import MODEL
from data_prep.labellers.train import Windows, batch, examples_of
from data_prep.labellers.windows import WindowCutter
from data_prep.labels import labelled_conversations, labelled_replies
from data_prep.placeholders import fill
from data_prep.reader import read_conversations
from data_prep.sources import FILE_NAMES, NEW_PERSONA, SAMPLE
from tests.conftest import python_m

pytestmark = pytest.mark.slow


def run(*arguments):
    return python_m("data_prep.labellers.train", *map(str, arguments))


def test_no_turn_without_a_label_carries_loss(spc_dir):
    conversations = read_conversations(spc_dir / FILE_NAMES["train"], "train")[0]
    labelled = [*labelled_replies(conversations, "train")[:300], *labelled_conversations(conversations, "train")[:100]]
    cutter = WindowCutter(Tokenizer.from_file(str(MODEL / "tokenizer.json")))
    windows = Windows(examples_of(labelled, cutter), cutter)
    for number, example in enumerate(windows.examples):
        row = windows[number]
        assert row["window"].turns
        assert set(row["window"].turns) <= set(example.used)
    rows = [windows[number] for number in range(40)]
    arrays = batch(rows)
    positive = sum(
        sum(fact in row["used"][turn] for fact in row["window"].facts)
        for row in rows
        for turn in {*row["window"].turns}
    )
    assert arrays["labels"].sum() == positive > 0


def test_a_labeller_is_trained_and_opens(spc_dir, tmp_path):
    """A few steps on an encoder of random weights: the whole path, not a good labeller."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    encoder = tmp_path / "encoder"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(encoder)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(encoder)
    out = tmp_path / "labeller"
    done = run("--spc", spc_dir, "--encoder", encoder, "--out", out, "--epochs", 0.02, "--checkpoints", tmp_path / "ck")
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "labeller.json").read_text(encoding="utf-8"))
    assert record == json.loads(done.stdout[done.stdout.index("{\n") :])
    assert record["kept_back"]["replies"] == 800
    assert record["new_cards"]["conversations"] == 240
    assert record["trained_on"]["replies"] + 800 >= 4390
    talks = [fill(talk) for talk in read_conversations(SAMPLE / FILE_NAMES["valid"], "valid")[0]]
    assert [len(turns) for turns in EncoderLabeller(out).label(talks)] == [len(talk.turns) for talk in talks]


def test_data_that_the_labels_are_not_about_and_a_missing_encoder_are_named(spc_dir, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(SAMPLE, folder)
    for names in ("New-Persona-New-Conversations.csv", "labels"):  # the file is missing; it is there, but not SPC's
        done = run("--spc", folder, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert names in done.stderr.splitlines()[-1]
        shutil.copy(SAMPLE / FILE_NAMES["test"], folder / NEW_PERSONA["new_persona"])
    done = run("--spc", spc_dir, "--encoder", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "nowhere" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
