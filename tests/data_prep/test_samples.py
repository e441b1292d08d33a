import re
from collections import Counter

import pytest

from data_prep.labellers.registry import LABELLERS
from data_prep.placeholders import fill, has_placeholder
from data_prep.reader import Conversation, Turn, read_conversations
from data_prep.samples import MISSED, SampleSettings, make_samples
from data_prep.sources import FILE_NAMES, HELD_OUT, SAMPLE
from retrieval.prompt import fact_lines, render
from retrieval.registry import open_retriever
from retrieval.sentences import split_sentences
from retrieval.text import marked_indices

EXCHANGE_REASONS = {
    "placeholder in an exchange", "reply states a fact of the other side", "reply uses no fact",
    "reply uses a fact not shown", "reply uses more facts than k",
}  # fmt: skip


def made(conversations, labeller="encoder", retriever=None, **settings):
    filled = [fill(conversation) for conversation in conversations]
    retriever = retriever or open_retriever("tfidf")
    labels = LABELLERS[labeller]().label(filled)
    return filled, labels, retriever, *make_samples(filled, labels, retriever, SampleSettings(**settings))


def check(conversations, labels, retriever, samples, rejects, missed):
    """What holds for every sample, whatever the settings."""
    sides = {(talk.row, side): turns for talk, turns in zip(conversations, labels, strict=True) for side in (0, 1)}
    exchanges = Counter()
    for sample in samples:
        turn_labels = sides[sample.row, sample.side]
        turns = sample.dialogue.turns
        assert sample.exchanges
        assert len(turns) == 2 * len(sample.hits)
        exchanges[sample.row, sample.side] += len(sample.exchanges)
        for number, (exchange, found) in enumerate(zip(sample.exchanges, sample.hits, strict=True)):
            shown, marked = {hit.index for hit in found}, turns[2 * number + 1]
            assert len(found) == len(shown) <= retriever.settings.k
            assert exchange.used.items() <= turn_labels[exchange.turn].items() or missed == "drop"
            # Marks are true: of facts that the reply uses, and that its turn shows.
            assert set(marked_indices(marked)) == shown & exchange.used.keys()
            if missed != "keep":
                assert exchange.used.keys() <= shown
            check_places(exchange, marked, shown)
            assert not has_placeholder(exchange.message)
            assert not has_placeholder(exchange.reply)
        assert not any("<|im_" in turn for turn in turns)
        if missed in ("keep", "drop", "leave"):
            [again] = retriever.retrieve([sample.dialogue])
            assert again == sample.hits  # serving would show the same
    lost = sum(reject.reason in EXCHANGE_REASONS for reject in rejects)
    assert exchanges.total() + lost == sum(len(conversation.turns) - 1 for conversation in conversations)
    return samples


def check_places(exchange, marked, shown):
    """Each mark stands right after a sentence that uses its fact, and no such sentence lacks it."""
    rest = marked
    for number, sentence in enumerate(split_sentences(exchange.reply)):
        assert rest.startswith(sentence.strip())
        rest = rest[len(sentence.strip()) :]
        marks = re.match(r"(?: (?:\[P\d+\])+)?", rest)[0]
        rest = rest[len(marks) :].lstrip()
        assert marked_indices(marks) == sorted(
            fact for fact, sentences in exchange.used.items() if fact in shown and number in sentences
        )
    assert not rest


@pytest.mark.parametrize("missed", MISSED)
@pytest.mark.parametrize("split", FILE_NAMES)
def test_the_samples_of_the_sample(split, missed):
    conversations, _ = read_conversations(SAMPLE / FILE_NAMES[split], split)
    assert check(*made(conversations, missed=missed), missed)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "missed"), [("train", "show"), *((s, m) for s in HELD_OUT for m in MISSED)])
def test_the_samples_of_spc(spc_dir, split, missed):
    conversations, _ = read_conversations(spc_dir / FILE_NAMES[split], split)
    assert check(*made(conversations, missed=missed), missed)


def test_marks_stand_after_the_sentence_that_the_labeller_names():
    turns = [Turn(0, "Any pets?"), Turn(1, "Hi! I keep a snake. She is green. And you?")]
    conversation = Conversation("train", 0, (["I sing."], ["I keep a snake."]), turns)
    retriever = open_retriever("tfidf")
    samples, _ = make_samples([conversation], [[{}, {0: (1, 2)}]], retriever, SampleSettings())
    assert samples[0].dialogue.turns[1] == "Hi! I keep a snake. [P1] She is green. [P1] And you?"


def test_each_side_learns_its_own_replies_with_its_own_card():
    turns = [Turn(0, "Hi!"), Turn(1, "Any pets?"), Turn(0, "A cat."), Turn(1, "Mine is a snake."), Turn(0, "Bye!")]
    conversation = Conversation("train", 0, (["I have a cat."], ["I keep a snake."]), turns)
    *_, samples, rejects = made([conversation], "overlap", missed="keep")
    assert not rejects
    assert [[(e.message, e.reply) for e in sample.exchanges] for sample in samples] == [
        [("Any pets?", "A cat."), ("Mine is a snake.", "Bye!")],
        [("Hi!", "Any pets?"), ("A cat.", "Mine is a snake.")],
    ]
    assert [sample.card for sample in samples] == [["I have a cat."], ["I keep a snake."]]


@pytest.mark.parametrize(
    ("reply", "reason", "sides"),
    [
        ("It is [band name].", "placeholder in an exchange", 2),
        ("I mend old clocks.", "reply states a fact of the other side", 1),
    ],
)
def test_an_exchange_that_is_left_out_ends_its_sample(reply, reason, sides):
    texts = ["Hi!", "Hello.", "And you?", reply, "Any pets?", "A snake."]
    turns = [Turn(number % 2, text) for number, text in enumerate(texts)]
    conversation = Conversation("train", 0, (["I mend old clocks."], ["I keep a snake."]), turns)
    *_, samples, rejects = made([conversation], "overlap")
    assert [[exchange.message for exchange in sample.exchanges] for sample in samples if sample.side == 1] == [
        ["Hi!"], ["Any pets?"],
    ]  # fmt: skip
    assert {reject.reason for reject in rejects} == {reason}
    assert [reject.text for reject in rejects] == [f"{reply}\nAny pets?", f"And you?\n{reply}"][-sides:]


CARD = ["I sing.", "I drive a bus.", "I have a cat."]
BUS = Conversation(
    "train", 0, (CARD, CARD),
    [
        Turn(0, "What do you do for a living?"), Turn(1, "Good question. I drive a bus."), Turn(0, "Nice, a cat?"),
        Turn(1, "Yes."),
    ],
)  # fmt: skip
# The bus driver's job is not found by its words; its second reply uses no fact.
LABELS = [{}, {1: (1,)}, {}, {}]


def of_bus(labels=LABELS, k=2, **settings):
    retriever = open_retriever("tfidf", k=k, query_turns=1)
    samples, rejects = make_samples([BUS], [labels], retriever, SampleSettings(**settings))
    return [sample for sample in samples if sample.side == 1], [reject.reason for reject in rejects]


def shown(samples):
    return [[[hit.index for hit in hits] for hits in sample.hits] for sample in samples]


def replies(samples):
    return [sample.dialogue.turns[1::2] for sample in samples]


def test_keep_shows_what_retrieval_found():
    samples, reasons = of_bus(missed="keep")
    assert (shown(samples), reasons) == ([[[], [2]]], [])
    assert replies(samples) == [["Good question. I drive a bus.", "Yes."]]


def test_show_adds_the_fact_that_retrieval_missed():
    samples, reasons = of_bus(missed="show")
    assert (shown(samples), reasons) == ([[[1], [2]]], [])
    assert replies(samples) == [["Good question. I drive a bus. [P2]", "Yes."]]


def test_show_takes_the_place_of_the_weakest_unused_fact_only():
    samples, _ = of_bus([{}, {}, {}, {0: (0,)}], k=1)
    assert shown(samples) == [[[], [0]]]
    samples, _ = of_bus([{}, {}, {}, {0: (0,), 2: (0,)}])
    assert [sorted(hits) for hits in shown(samples)[0]] == [[], [0, 2]]


def test_the_place_of_an_added_fact_does_not_give_it_away():
    conversations = [fill(c) for c in read_conversations(SAMPLE / FILE_NAMES["train"], "train")[0]]
    retriever = open_retriever("tfidf")
    labels = LABELLERS["encoder"]().label(conversations)
    samples, _ = make_samples(conversations, labels, retriever, SampleSettings(missed="show"))
    added = Counter(
        number
        for sample in samples for hits in sample.hits if len(hits) == 2
        for number, hit in enumerate(hits) if hit.score == 0
    )  # fmt: skip
    assert min(added[0], added[1]) > 0.25 * added.total() > 0


def test_more_used_facts_than_fit_leave_the_exchange_out():
    samples, reasons = of_bus([{}, {0: (0,), 1: (1,), 2: (1,)}, {}, {}])
    assert reasons == ["reply uses more facts than k"]
    assert [exchange.turn for sample in samples for exchange in sample.exchanges] == [3]


def test_drop_cuts_out_the_sentence():
    samples, reasons = of_bus(missed="drop")
    assert (replies(samples), reasons) == ([["Good question.", "Yes."]], [])
    samples, reasons = of_bus([{}, {1: (1,), 2: (0,)}, {}, {}], missed="drop")
    assert (replies(samples), reasons) == ([["Yes."]], ["reply uses a fact not shown"])


def test_leave_leaves_the_exchange_out():
    samples, reasons = of_bus(missed="leave")
    assert (replies(samples), reasons) == ([["Yes."]], ["reply uses a fact not shown"])


def test_distractors_are_thinned_for_replies_without_a_fact():
    assert shown(of_bus(distractors=0.0)[0]) == [[[1], []]]
    conversations, _ = read_conversations(SAMPLE / FILE_NAMES["train"], "train")
    shares = []
    for share in (0.0, 0.5, 1.0):
        *_, samples, _ = made(conversations, distractors=share)
        pairs = [pair for sample in samples for pair in zip(sample.exchanges, sample.hits, strict=True)]
        assert all(hits for exchange, hits in pairs if exchange.used)
        shares.append(sum(bool(hits) for exchange, hits in pairs if not exchange.used))
    assert shares[0] == 0
    assert 0.35 * shares[2] < shares[1] < 0.65 * shares[2]


def test_one_side_and_only_grounded_exchanges_on_demand():
    assert len(made([BUS], "overlap", sides="one")[3]) == 1
    samples, reasons = of_bus(only_grounded=True)
    assert replies(samples) == [["Good question. I drive a bus. [P2]"]]
    assert Counter(reasons) == {"reply uses no fact": 2, "side without an exchange": 1}


def test_a_side_that_never_replies_is_counted():
    conversation = Conversation("train", 3, (["I have a cat."], ["I keep a snake."]), [Turn(0, "Hi!")])
    *_, samples, rejects = made([conversation], "overlap")
    assert not samples
    assert [reject.reason for reject in rejects] == ["side without an exchange"] * 2


def test_what_is_shown_is_what_the_prompt_holds():
    conversations, _ = read_conversations(SAMPLE / FILE_NAMES["valid"], "valid")
    for sample in made(conversations)[3]:
        for turn, hits in zip(render(sample.dialogue, sample.hits)[::2], sample.hits, strict=True):
            assert turn.endswith(fact_lines(sample.dialogue.card, hits))
