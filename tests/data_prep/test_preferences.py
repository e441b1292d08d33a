from collections import Counter

import pytest

from data_prep.labellers.overlap import used_facts
from data_prep.preferences import preferences
from data_prep.reader import Conversation, Turn, read_conversations
from data_prep.samples import SampleSettings, make_samples
from data_prep.sources import FILE_NAMES, SAMPLE
from retrieval.registry import open_retriever
from retrieval.text import marked_indices, strip_marks
from tests.data_prep.test_samples import made


def check(samples):
    """Every grounded reply gives one pair at most; the chosen reply is the target, the rejected one is wrong."""
    pairs = list(preferences(samples))
    for pair in pairs:
        last, shown = pair.sample.exchanges[-1], {hit.index for hit in pair.sample.hits[-1]}
        right, wrong = set(marked_indices(pair.chosen)), set(marked_indices(pair.rejected))
        assert pair.chosen == pair.sample.dialogue.turns[-1]
        assert right == last.used.keys() <= shown
        assert pair.rejected != pair.chosen
        assert wrong  # marks alone do not tell the two apart
        if pair.kind == "wrong mark":
            assert strip_marks(pair.rejected) == strip_marks(pair.chosen)
            assert not wrong & right
        elif pair.kind == "contradicted fact":
            assert wrong == right
            assert strip_marks(pair.rejected) != strip_marks(pair.chosen)
        else:
            assert pair.kind == "another card"
            assert wrong <= shown
            assert not used_facts(strip_marks(pair.rejected), pair.sample.card)
    grounded = sum(bool(exchange.used) for sample in samples for exchange in sample.exchanges)
    assert 0.9 * grounded < len(pairs) <= grounded
    return Counter(pair.kind for pair in pairs)


def test_the_pairs_of_the_sample():
    conversations, _ = read_conversations(SAMPLE / FILE_NAMES["train"], "train")
    assert set(check(made(conversations)[3])) == {"another card", "wrong mark", "contradicted fact"}


@pytest.mark.slow
@pytest.mark.parametrize("split", FILE_NAMES)
def test_the_pairs_of_spc(spc_dir, split):
    conversations, _ = read_conversations(spc_dir / FILE_NAMES[split], split)
    kinds = check(made(conversations[:1000])[3])
    assert min(kinds.values()) > 0.1 * kinds.total()


@pytest.mark.parametrize(
    ("fact", "reply", "contradicted"),
    [
        ("I have a cat.", "Sure! I have a cat at home.", "Sure! I don't have a cat at home. [P1]"),
        ("I have never seen snow.", "I have never seen snow.", "I have seen snow. [P1]"),
        ("I do not like jazz.", "I don't like jazz.", "I like jazz. [P1]"),
        ("I am a nurse.", "I'm glad you ask, I'm a nurse.", "I'm glad you ask, I'm not a nurse. [P1]"),
        ("I live in Rome.", "I also live in Rome.", "I don't live in Rome. [P1]"),
        (
            "I have a dog.",
            "I'm happy you like my dog! I have a dog.",
            "I'm happy you like my dog! I don't have a dog. [P1]",
        ),
        ("My favorite food is pizza.", "My favorite is pizza.", "My least favorite is pizza. [P1]"),
    ],
)
def test_a_contradiction_turns_the_claim_that_rests_on_the_fact(fact, reply, contradicted):
    turns = [Turn(0, "And you?"), Turn(1, reply)]
    conversation = Conversation("train", 0, ([], [fact]), turns)
    number = reply.count("! ")
    [sample] = [
        sample
        for sample in make_samples([conversation], [[{}, {0: (number,)}]], open_retriever("tfidf"), SampleSettings())[0]
        if sample.side == 1
    ]
    [pair] = preferences([sample])  # a card of one fact: no other mark, no other card
    assert pair.kind == "contradicted fact"
    assert pair.rejected == contradicted
