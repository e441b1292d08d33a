import json
import shutil

import numpy as np
import pytest

from data_prep.errors import InputError
from data_prep.keys import conversation_key
from data_prep.labellers.encoder import EncoderLabeller
from data_prep.labellers.precomputed import MODEL, PRECOMPUTED, PrecomputedEncoder
from data_prep.placeholders import fill
from data_prep.reader import Conversation, Turn, read_conversations
from data_prep.sources import FILE_NAMES, SAMPLE


@pytest.fixture(scope="module")
def labeller() -> EncoderLabeller:
    return EncoderLabeller(MODEL)


def conversation(card, *texts):
    return Conversation("any", 0, ([], card), [Turn(number % 2, text) for number, text in enumerate(texts)])


def test_it_reads_what_word_overlap_cannot(labeller):
    card = ["I have three dogs.", "I work as a nurse.", "I hate the cold."]
    talk = conversation(
        card, "Hi! Do you have any pets?", "Hello! Yes, three of them, all rescued. And you?",
        "No, I travel a lot for work. What do you do?", "I'm a nurse. I love helping patients.",
        "I love dogs too.", "That's nice to hear!",
    )  # fmt: skip
    [labels] = labeller.label([talk])
    assert labels[1] == {0: (1,)}
    assert set(labels[3]) == {1}
    assert labels[5] == {}
    assert [labels[number] for number in (0, 2, 4)] == [{}] * 3  # the other side has no card


def test_company_and_order_of_a_batch_change_nothing(labeller):
    talks = [fill(talk) for talk in read_conversations(SAMPLE / FILE_NAMES["valid"], "valid")[0]]
    together = labeller.scores(talks)
    for talk, scores in zip(talks[:3], together, strict=False):
        [alone] = labeller.scores([talk])
        for turn, other in zip(alone, scores, strict=True):
            assert list(turn) == list(other)
            for ours, theirs in zip(turn.values(), other.values(), strict=True):
                assert np.allclose(ours, theirs, atol=0.25)  # bfloat16 in batches of other shapes


def test_empty_and_odd_input_has_a_label_for_every_turn(labeller):
    odd = conversation(["\u2603" * 500, "", "我养了一只猫。"], "", "🙂" * 3000, "x" * 10_000, "Yes. " * 3000)
    labels = labeller.label([odd, conversation([], "Hi", "Hello"), conversation(["I sing."], "Hi")])
    assert [len(turns) for turns in labels] == [4, 2, 1]
    assert labeller.label([]) == []


def test_the_shipped_labels_are_the_shipped_labellers(labeller):
    """Looked up and computed labels agree, but for logits at the threshold, where bfloat16 may tip the scale."""
    precomputed = PrecomputedEncoder()
    assert precomputed.known
    talks = [
        fill(talk) for name in ("valid", "test") for talk in read_conversations(SAMPLE / FILE_NAMES[name], name)[0]
    ]
    looked_up = precomputed.label(talks)
    assert precomputed.encoder is None
    for scores, labels in zip(labeller.scores(talks), looked_up, strict=True):
        for turn, used in zip(scores, labels, strict=True):
            for fact, logits in turn.items():
                near = np.flatnonzero(np.abs(logits - labeller.threshold) < 0.25)
                over = np.flatnonzero(logits >= labeller.threshold)
                assert set(used.get(fact, ())) - {*near} == {*over} - {*near}


@pytest.mark.slow
def test_the_shipped_labels_cover_spc(spc_dir):
    known = PrecomputedEncoder().known
    for split, name in FILE_NAMES.items():
        talks = read_conversations(spc_dir / name, split)[0]
        assert all(conversation_key(fill(talk)) in known for talk in talks), split


def test_unknown_conversations_are_labelled_on_the_spot():
    precomputed = PrecomputedEncoder()
    [labels] = precomputed.label([conversation(["I have three dogs."], "Any pets?", "I have three dogs, all rescued.")])
    assert labels == [{}, {0: (0,)}]
    assert precomputed.encoder is not None


def test_another_model_makes_the_shipped_labels_unknown(tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    with (model / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert PrecomputedEncoder(model, PRECOMPUTED).known == {}
    assert "labelled anew" in capsys.readouterr().err


def test_a_folder_that_is_not_whole_is_named(tmp_path):
    shutil.copytree(MODEL, tmp_path / "model")
    (tmp_path / "model" / "labeller.json").unlink()
    with pytest.raises(InputError, match=r"labeller\.json"):
        PrecomputedEncoder(tmp_path / "model")
    with pytest.raises(InputError, match="nowhere"):
        PrecomputedEncoder(MODEL, tmp_path / "nowhere")


def test_what_ships_is_small_and_no_pickle():
    sizes = {path.name: path.stat().st_size for path in MODEL.iterdir()}
    assert sum(sizes.values()) < 20 * 2**20
    assert not [name for name in sizes if name.endswith((".bin", ".pt", ".pkl"))]
    assert json.loads((MODEL / "labeller.json").read_text())["kept_back"]["f1"] > 0.8
