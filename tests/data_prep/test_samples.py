import pytest

from data_prep.placeholders import has_placeholder
from data_prep.reader import Conversation, Turn, read_conversations
from data_prep.samples import make_samples
from data_prep.sources import FILE_NAMES, SAMPLE
from retrieval.text import marked_indices
from retrieval.tfidf import TfidfRetriever


def made(folder, split):
    conversations, _ = read_conversations(folder / FILE_NAMES[split], split)
    retriever = TfidfRetriever.fit(card for conversation in conversations for card in conversation.cards)
    return conversations, *make_samples(conversations, retriever)


def check(conversations, samples, rejects):
    """What holds for every sample: alternation, at most two facts, marks only of facts that the turn shows."""
    assert len(samples) + sum(reject.reason == "side without a reply" for reject in rejects) == 2 * len(conversations)
    marks = 0
    for sample in samples:
        turns, hits = sample.dialogue.turns, sample.hits
        assert turns
        assert len(turns) == 2 * len(hits)
        for reply, found in zip(turns[1::2], hits, strict=True):
            assert len(found) <= 2
            assert set(marked_indices(reply)) <= {hit.index for hit in found}
            marks += bool(marked_indices(reply))
        assert not any(map(has_placeholder, turns[::2]))
        assert not any("<|im_" in turn for turn in turns)
    assert marks


@pytest.mark.parametrize("split", FILE_NAMES)
def test_the_samples_of_the_sample(split):
    check(*made(SAMPLE, split))


@pytest.mark.slow
@pytest.mark.parametrize("split", FILE_NAMES)
def test_the_samples_of_spc(spc_dir, split):
    check(*made(spc_dir, split))


def test_each_side_learns_its_own_replies_with_its_own_card():
    turns = [Turn(0, "Hi!"), Turn(1, "Any pets?"), Turn(0, "A cat."), Turn(1, "Mine is a snake."), Turn(0, "Bye!")]
    conversation = Conversation("train", 0, (["I have a cat."], ["I keep a snake."]), turns)
    retriever = TfidfRetriever.fit(conversation.cards)
    samples, rejects = make_samples([conversation], retriever)
    assert not rejects
    assert [sample.dialogue.turns for sample in samples] == [
        ["Any pets?", "A cat.", "Mine is a snake.", "Bye!"],
        ["Hi!", "Any pets?", "A cat.", "Mine is a snake."],
    ]
    assert [sample.dialogue.card for sample in samples] == [["I have a cat."], ["I keep a snake."]]


def test_a_side_that_never_replies_is_counted():
    conversation = Conversation("train", 3, (["I have a cat."], ["I keep a snake."]), [Turn(0, "Hi!")])
    samples, rejects = make_samples([conversation], TfidfRetriever.fit(conversation.cards))
    assert not samples
    assert [reject.reason for reject in rejects] == ["side without a reply"] * 2
