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
    assert len(samples) + sum(reject.reason == "side without an exchange" for reject in rejects) == 2 * len(
        conversations
    )
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


def test_an_exchange_with_an_unknown_placeholder_is_left_out_and_counted():
    texts = ["Hi!", "Hello.", "Your band?", "It is [band name].", "Any pets?", "A snake."]
    turns = [Turn(number % 2, text) for number, text in enumerate(texts)]
    conversation = Conversation("train", 0, (["I have a cat."], ["I keep a snake."]), turns)
    samples, rejects = make_samples([conversation], TfidfRetriever.fit(conversation.cards))
    assert samples[1].dialogue.turns == ["Hi!", "Hello.", "Any pets?", "A snake."]
    assert [reject.text for reject in rejects if "snake" not in reject.text] == [
        "It is [band name].\nAny pets?",
        "Your band?\nIt is [band name].",
    ]


BUS = Conversation(
    "train", 0, (["I sing.", "I drive a bus."], ["I sing.", "I drive a bus."]),
    [Turn(0, "What do you do for a living?"), Turn(1, "I drive a bus."), Turn(0, "Nice."), Turn(1, "Yes.")],
)  # fmt: skip


def test_a_used_fact_that_retrieval_missed_is_shown_on_demand():
    retriever = TfidfRetriever.fit(BUS.cards)
    kept = make_samples([BUS], retriever)[0][1]
    shown = make_samples([BUS], retriever, missed="show")[0][1]
    assert [hit.index for hit in kept.hits[0]] == []
    assert kept.dialogue.turns[1] == "I drive a bus."
    assert [hit.index for hit in shown.hits[0]] == [1]
    assert shown.dialogue.turns[1] == "I drive a bus. [P2]"


def test_one_side_and_only_grounded_exchanges_on_demand():
    retriever = TfidfRetriever.fit(BUS.cards)
    assert len(make_samples([BUS], retriever, sides="one")[0]) == 1
    samples, rejects = make_samples([BUS], retriever, only_grounded=True)
    assert [sample.dialogue.turns for sample in samples] == [["What do you do for a living?", "I drive a bus."]]
    assert [reject.reason for reject in rejects] == [
        "reply uses no fact", "side without an exchange", "reply uses no fact",
    ]  # fmt: skip


def test_a_side_that_never_replies_is_counted():
    conversation = Conversation("train", 3, (["I have a cat."], ["I keep a snake."]), [Turn(0, "Hi!")])
    samples, rejects = make_samples([conversation], TfidfRetriever.fit(conversation.cards))
    assert not samples
    assert [reject.reason for reject in rejects] == ["side without an exchange"] * 2
