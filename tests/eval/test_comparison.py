import json

import numpy as np
import pytest

from eval.comparison import HEADLINE, System, compare, retrieval_measures
from eval.intervals import intervals, paired_difference
from eval.judging import open_judge
from eval.questions import open_split
from eval.replies import Line
from eval.text_metrics import unigram_f1

CARD = ["I play the banjo after dinner.", "I have two cats."]
TRUTHS = ["I play the banjo after dinner.", "My cats are asleep.", "That sounds nice!", "I have two cats."]
CITED = "I play the banjo after dinner. [P1]"


def lines(replies):
    return [
        Line(id=f"q{number}", card=CARD, other_card=[], history=[], message="Hi!", reference=truth, reply=reply,
             retrieved=[{"mark": "[P1]"}], seconds=number, finish_reason="stop")
        for number, (reply, truth) in enumerate(zip(replies, TRUTHS, strict=True), start=1)
    ]  # fmt: skip


def choices(nats):
    return [
        {"id": f"q{number}", "uses_fact": number < 3, "nats": each, "tokens": 10, "characters": 30, "rank": number}
        for number, each in enumerate(nats, start=1)
    ]


@pytest.fixture
def systems():
    base = System("a/base", "none", choices([20.0, 30.0, 40.0, 50.0]), lines(["Yes."] * 4))
    tuned = System("a/lora", "small", choices([10.0, 10.0, 40.0, 50.0]), lines([CITED, "Yes.", "Nice!", CITED]))
    other = System("a/base", "small", base.choices, base.replies)
    return [base, other, tuned, System("a/lora", "none", base.choices, base.replies)]


def compared(systems, judge):
    return compare({system: system.statistics(judge) for system in systems}, judge)


def test_values_are_those_by_hand_and_differences_are_paired(systems):
    result = compared(systems, open_judge("overlap"))
    base, _, tuned, same = result["systems"]
    assert (result["n"], result["n_uses_fact"], result["base"]) == (4, 2, {"model": "a/base", "retriever": "none"})
    assert base["measures"]["likelihood"]["loss"]["value"] == 140 / 40
    assert base["measures"]["likelihood"]["loss_uses_fact"]["value"] == 50 / 20
    assert tuned["measures"]["likelihood"]["loss_uses_fact"]["value"] == 1
    assert tuned["difference_to_base"]["likelihood"]["loss_uses_fact"]["value"] == -1.5
    assert tuned["measures"]["likelihood"]["hits_at_1"]["value"] == 0.25
    assert tuned["measures"]["latency"]["p50_seconds"]["value"] == 2.5
    # Two replies cite, one of them to a message whose true reply is about cats; both cite what they say.
    assert tuned["measures"]["citations"]["precision_marked"]["value"] == 1
    assert base["measures"]["citations"]["recall"]["value"] == 0
    # It has no mark that could be right or wrong.
    assert "precision_marked" not in {**base["measures"]["citations"], **tuned["difference_to_base"]["citations"]}
    said = [line.reply.removesuffix(" [P1]") for system in (systems[2], systems[0]) for line in system.replies]
    f1 = np.array([unigram_f1(*pair) for pair in zip(said, TRUTHS * 2, strict=True)])
    scores = [f1[:4], f1[4:]]
    expected = paired_difference(lambda values, axis=-1: values.mean(axis), scores[:1], scores[1:])
    assert tuned["difference_to_base"]["text"]["f1"] == expected
    assert not any(name.startswith("difference") for name in base)
    # The third system differs from the second in the retriever alone, and from the first in the model alone.
    back = tuned["difference_by_retriever"]["likelihood"]["loss_uses_fact"]
    assert (back["value"], "difference_by_retriever" in same) == (-1.5, False)
    assert same["difference_by_model"] == same["difference_to_base"]
    differences = [found for group in same["difference_to_base"].values() for found in group.values()]
    assert all(found == {"value": 0, "low": 0, "high": 0} for found in differences)
    assert result["true_replies"]["text"]["f1"]["value"] == 1


def test_the_measures_of_each_reply_make_up_those_of_the_system(systems):
    judge, tuned = open_judge("overlap"), systems[2]
    statistics = tuned.statistics(judge)
    rows = tuned.per_reply(statistics)
    assert [row.pop("id") for row in rows] == ["q1", "q2", "q3", "q4"]
    [*_, entry, _] = compared(systems, judge)["systems"]
    for group, found in entry["measures"].items():
        for name, measure in found.items():
            values = np.array([row[group][name] for row in json.loads(json.dumps(rows))]).T
            assert statistics[group][name].measure(*values, axis=-1) == pytest.approx(measure["value"], abs=1e-4)
    assert [row["likelihood"]["loss_uses_fact"] for row in rows] == [[10, 10], [10, 10], [0, 0], [0, 0]]


def test_a_reply_that_the_limit_cut_is_counted(systems):
    base = systems[0]
    cut = [line.model_copy(update={"finish_reason": "length"}) for line in base.replies[:1]]
    system = System("a/base", "none", base.choices, [*cut, *base.replies[1:]])
    assert intervals(system.statistics(open_judge("overlap"))["latency"])["cut"]["value"] == 0.25


def test_every_headline_measure_is_there_if_it_can_be(systems):
    base, *_, tuned, _ = compared(systems, open_judge("overlap"))["systems"]
    missing = lambda system: [name for group, name, _ in HEADLINE if name not in system["measures"][group]]  # noqa: E731
    assert missing(tuned) == []
    # It has no mark, and says nothing that a fact could support or fail to.
    assert missing(base) == ["recall_worthy", "precision_marked", "unsupported"]
    assert {better for *_, better in HEADLINE} == {"lower", "higher"}


def test_the_judge_is_the_one_given(systems):
    # One that knows nothing: no mark is right then.
    result = compared(systems, lambda conversations: [lambda sentence, facts: False for _ in conversations])
    assert result["systems"][2]["measures"]["citations"]["precision_marked"]["value"] == 0
    assert result["systems"][2]["measures"]["consistency"]["unsupported"]["value"] == 1


def test_retrieval_is_measured_by_the_facts_that_are_shown():
    split = open_split("sample", "test")
    oracle, none = (retrieval_measures(split.asked(None, 0, name)) for name in ("oracle", "none"))
    assert oracle["recall_used"]["value"] == 1
    assert (none["recall_used"]["value"], none["messages_shown_a_fact"]["value"]) == (0, 0)
    uses = np.mean([bool(question.record["used"]) for question in split.questions])
    assert oracle["messages_shown_a_fact"]["value"] == pytest.approx(uses, abs=1e-4)
    asked = split.asked(None, 0, "small")
    shares = []
    for question, sample in zip(asked.questions, asked.samples, strict=True):
        if used := question.record["used"]:
            found = {hit.index + 1 for hit in sample.hits[-1]} & {*used}
            shares.append(len(found) / min(2, len(used)))
    assert retrieval_measures(asked)["recall_used"]["value"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert json.dumps(oracle)
