import asyncio
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.layout import Layout
from inference.memory import FRESH_STEPS, MODES, NOTE, STEP, SUMMARIES, Memory, TooLong
from inference.prompts import PromptBuilder
from inference.responder import Question, Responder
from inference.tokens import TokenCounter
from retrieval.prompt import SYSTEM_PROMPTS
from retrieval.registry import open_retriever
from tests.conftest import ROOT
from tests.inference.fake_openai import FakeBackend

CARD = ["I play tennis on Saturdays.", "I have a dog called Rex.", "I drive a night bus."]
RETRIEVERS = {language: open_retriever("tfidf", language=language) for language in ("en", "zh")}
RETRIEVER = RETRIEVERS["en"]
COUNTERS = [TokenCounter(), TokenCounter(str(ROOT / "models/persona-tiny"))]
FACT = "My sister is called Ursula and she sails."


def build(said, language="en"):
    return PromptBuilder(RETRIEVERS[language]).build(said, CARD)


def talk(exchanges, words=20):
    """``exchanges`` exchanges and a message; no two turns share a word that tells anything."""
    letters = [chr(ord("a") + n // 26) + chr(ord("a") + n % 26) for n in range(26 * 26)]
    turns = [f"t{n} " + " ".join(f"w{letters[n]}x{letters[i]}" for i in range(words)) for n in range(2 * exchanges)]
    return [*turns, f"Message {exchanges}?"]


class Summing:
    """Stands in for the model that sums up; records what it was asked."""

    def __init__(self, text="Scene: a café. #{}"):
        self.text, self.asked = text, []

    async def __call__(self, messages, max_tokens):
        self.asked.append((messages, max_tokens))
        return self.text.format(len(self.asked))


def fit(memory, prompt, mode, reply=100, ask=None, layout=None, language="en"):
    laid_out = (lambda some: layout.messages(some, language)) if layout else lambda some: some.messages
    kept, noted = memory.fit(prompt, mode, memory.max_length - reply, laid_out)
    return asyncio.run(memory.remember(prompt, kept, mode, ask or Summing())) if noted else kept


def test_what_fits_stays_as_it_is():
    prompt, ask = build(talk(3)), Summing()
    assert all(fit(Memory(COUNTERS[0], RETRIEVER, 2048), prompt, mode, ask=ask) is prompt for mode in MODES)
    assert not ask.asked


TURN = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["tennis on Saturdays " * 9, "我打网球。" * 30, "My dog Rex. [P2]", "🦆" * 40, "a" * 300, FACT]),
)
SUMMARY = st.one_of(
    st.just(""), st.text(max_size=40), st.sampled_from(["word " * 400, "总结" * 300, "[P1] <|im_end|>"])
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(TURN, TURN), max_size=14), TURN.filter(str.strip), st.sampled_from(MODES), SUMMARY,
    st.sampled_from([256, 300, 512, 1024]), st.floats(0.05, 0.5), st.sampled_from(COUNTERS),
    st.sampled_from([Layout(), Layout("block", True, "Tim"), Layout("turns", True), Layout("block")]),
    st.sampled_from(["en", "zh"]),
)  # fmt: skip
def test_whatever_is_said_prompts_stay_within_the_length(
    exchanges, message, mode, summary, length, share, counter, layout, language
):
    prompt = build([turn for pair in exchanges for turn in pair] + [message], language)
    memory, ask, reply = (
        Memory(counter, RETRIEVERS[language], length),
        Summing(re.sub("[{}]", "", summary)),
        int(length * share),
    )

    def laid_out(some):
        return layout.messages(some, language)

    def size(some):
        return counter.prompt(laid_out(some))

    last = prompt.without_first(len(prompt.found) - 1)
    try:
        fitted = fit(memory, prompt, mode, reply, ask, layout, language)
    except TooLong:
        assert size(last) > length - reply
        return
    assert size(last) <= length - reply
    assert size(fitted) <= length - reply
    gone = len(prompt.found) - len(fitted.found)
    assert (fitted.turns, fitted.said, fitted.found) == (
        prompt.turns[2 * gone :], prompt.said[2 * gone :], prompt.found[gone:],
    )  # fmt: skip
    assert (gone == 0) == (size(prompt) <= length - reply)
    for messages, most in ask.asked:
        assert counter.prompt(messages) + most <= length
    assert bool(ask.asked) <= (mode == "summary" and gone > 0)


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("said", [["word " * 3000], [*talk(6), "ok", "word " * 3000]])
def test_a_message_that_cannot_fit_is_one_sentence(counter, said):
    for mode in MODES:
        with pytest.raises(
            TooLong, match=r"^The message, its facts .* [\d,]+ tokens, .* room for 924; shorten it, .*\.$"
        ):
            fit(Memory(counter, RETRIEVER, 1024), build(said), mode)


def test_where_no_room_is_left_to_remember_the_message_is_answered_all_the_same():
    memory, ask = Memory(COUNTERS[0], RETRIEVER, 512), Summing()
    said = [*talk(3, words=40)[:-1], "word " * 190]
    room = COUNTERS[0].prompt(build(said[-1:]).messages)
    assert 512 - room - 50 < memory.note  # the message fits with its reply, but a summary would not
    for mode in ("summary", "retrieve"):
        fitted = fit(memory, build(said), mode, reply=50, ask=ask)
        assert (fitted.said, fitted.recalled, fitted.system) == (
            build(said[-1:]).said, "", SYSTEM_PROMPTS["en"],
        )  # fmt: skip
    assert not ask.asked


def starts(mode, memory, ask=None, exchanges=60, layout=None):
    """For each message of a long conversation: the first exchange that stays, and what is sent."""
    said, found = talk(exchanges), []
    for number in range(exchanges):
        turns = [*said[: 2 * number], f"Message {number}?"] if number == exchanges else said[: 2 * number + 1]
        prompt = build(turns)
        fitted = fit(memory, prompt, mode, ask=ask, layout=layout)
        messages = layout.messages(fitted, "en") if layout else fitted.messages
        found.append((len(prompt.found) - len(fitted.found), messages))
    return found


def test_most_requests_begin_as_the_one_before_did():
    found = starts("drop", Memory(COUNTERS[0], RETRIEVER, 700))
    firsts = [first for first, _ in found]
    assert firsts == sorted(firsts)
    assert all(first % STEP == 0 for first in firsts)
    assert firsts[-1] > 40
    prefixes = [later[: len(earlier)] == earlier for (_, earlier), (_, later) in pairwise(found)]
    assert sum(prefixes) >= len(prefixes) * (STEP - 1) / STEP
    # As much as that stays: what is dropped is no more than a step beyond what has to be.
    sizes = [COUNTERS[0].prompt(messages) for _, messages in found[20:]]
    assert max(sizes) > 540
    assert max(sizes) <= 600


@pytest.mark.parametrize("mode", ["summary", "retrieve"])
def test_in_the_other_modes_too(mode):
    found = starts(mode, Memory(COUNTERS[0], RETRIEVER, 1000), Summing("Scene: a café."))
    assert all(first % STEP == 0 for first, _ in found)
    # What was looked up stands in the last message alone, which the next request has without it.
    prefixes = [later[: len(earlier) - 1] == earlier[:-1] for (_, earlier), (_, later) in pairwise(found)]
    assert sum(prefixes) >= len(prefixes) * (STEP - 1) / STEP


def test_the_model_sums_up_step_by_step_below_the_system_line():
    memory, ask = Memory(COUNTERS[0], RETRIEVER, 1000), Summing()
    found = starts("summary", memory, ask)
    assert len(ask.asked) == max(first for first, _ in found) / STEP  # once each
    for first, messages in found:
        if first:
            expected = f"{SYSTEM_PROMPTS['en']}\n\nEarlier in this conversation:\nScene: a café. #{first // STEP}"
            assert messages[0] == {"role": "system", "content": expected}
        else:
            assert messages[0]["content"] == SYSTEM_PROMPTS["en"]
    for number, (messages, most) in enumerate(ask.asked):
        [text] = [message["content"] for message in messages]
        assert most == memory.note
        assert re.search(r"Scene: .*\nRoles: .*\nTopics: .*\nSaid: ", text)
        assert re.findall(r"^(User|You): t(\d+) ", text, re.MULTILINE) == [
            (("User", "You")[n % 2], str(n)) for n in range(2 * STEP * number, 2 * STEP * (number + 1))
        ]
        assert (f"Scene: a café. #{number}\n\nUser: " in text) == (number > 0)


def test_a_conversation_from_elsewhere_is_summed_up_once_and_a_long_one_from_its_last_steps():
    memory, ask = Memory(COUNTERS[0], RETRIEVER, 1000), Summing()
    prompt = build(talk(40))
    first = fit(memory, prompt, "summary", ask=ask)
    asked = len(ask.asked)
    steps = (len(prompt.found) - len(first.found)) / STEP
    assert steps > FRESH_STEPS == asked
    assert fit(memory, prompt, "summary", ask=ask) == first
    assert len(ask.asked) == asked
    other = build(["Something else", *talk(40)[1:]])
    fit(memory, other, "summary", ask=ask)
    assert len(ask.asked) == 2 * asked


def test_a_summary_is_harmless_and_not_longer_than_asked():
    memory = Memory(COUNTERS[0], RETRIEVER, 1000)
    fitted = fit(memory, build(talk(30)), "summary", ask=Summing("[P1] <|im_end|> " + "word " * 500))
    assert "(P1) ‹|im_end|› word" in fitted.system
    assert fitted.system.endswith("…")
    assert COUNTERS[0].count(fitted.system) - COUNTERS[0].count(SYSTEM_PROMPTS["en"]) <= memory.note


def test_an_empty_summary_changes_nothing():
    fitted = fit(Memory(COUNTERS[0], RETRIEVER, 1000), build(talk(30)), "summary", ask=Summing(" \n"))
    assert fitted.system == SYSTEM_PROMPTS["en"]


def test_only_so_many_summaries_are_kept(monkeypatch):
    monkeypatch.setattr("inference.memory.SUMMARIES", 3)
    memory = Memory(COUNTERS[0], RETRIEVER, 1000)
    starts("summary", memory, exchanges=40)
    assert len(memory.summaries) == 3 < SUMMARIES


def test_what_fits_the_message_is_looked_up_turn_by_turn():
    said = talk(30)
    said[4:6] = ["What is your sister called?", f"{FACT} [P2]"]
    said[8:10] = ["Does your sister sail?", "She sails a yacht."]
    said[-1] = "Your sister, does she sail?"
    fitted = fit(Memory(COUNTERS[0], RETRIEVER, 1000), build(said), "retrieve")
    assert fitted.recalled == (
        f"Earlier in this conversation:\nUser: What is your sister called?\nYou: {FACT}\n"
        "User: Does your sister sail?\nYou: She sails a yacht."
    )
    assert fitted.messages[-1]["content"] == f"{fitted.recalled}\n\n{fitted.turns[-1]}"
    assert "Ursula" not in "".join(fitted.turns)


def test_where_nothing_fits_nothing_is_looked_up():
    said = [*talk(30)[:-1], "Quark?"]
    assert fit(Memory(COUNTERS[0], RETRIEVER, 1000), build(said), "retrieve").recalled == ""


def test_the_longest_of_what_is_remembered_is_an_eighth_of_a_short_prompt():
    assert Memory(COUNTERS[0], RETRIEVER, 2048).note == NOTE
    assert Memory(COUNTERS[0], RETRIEVER, 512).note == 64


def test_the_responder_asks_the_backend_itself_and_the_layout_counts():
    backend = FakeBackend(
        lambda messages: ["Scene: a", " café."] if "Summarise" in messages[-1]["content"] else ["Hi."]
    )
    memory = Memory(COUNTERS[0], RETRIEVER, 700)
    responder = Responder(PromptBuilder(RETRIEVER), backend, memory, lambda: None)
    question = Question(talk(30), CARD, memory="summary", layout=Layout("block", True, "A rather long name"))

    async def ask():
        prepared = await responder.prepare(question)
        return prepared, await responder.answer(prepared)

    prepared, answer = asyncio.run(ask())
    assert answer.text == "Hi."
    assert prepared.tokens == COUNTERS[0].prompt(prepared.messages) <= 700 - 256
    assert prepared.messages[0]["content"].endswith("Earlier in this conversation:\nScene: a café.")
    *summaries, (messages, _) = backend.asked
    assert messages == prepared.messages
    assert {options["temperature"] for _, options in summaries} == {0}
