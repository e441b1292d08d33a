import json
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest

from data_prep.errors import InputError
from data_prep.sources import find_files
from eval.choice import OTHERS, Choice, candidates, choose, summarise
from eval.questions import SYSTEM, draw, read_questions, sample_hash, shown
from tests.conftest import ROOT, in_process

MODEL = str(ROOT / "models" / "persona-tiny")


class Stub:
    """A scorer: ``nats(prompt, reply)`` a token. ``asked``: what it was asked."""

    def __init__(self, nats):
        self.nats, self.asked = nats, []

    def score_replies(self, system, asked):
        assert system == SYSTEM
        self.asked += asked
        lengths = [1 + len(reply) % 7 for _, reply in asked]
        return [
            SimpleNamespace(log_probabilities=np.full(length, -self.nats(prompt, reply), np.float32))
            for length, (prompt, reply) in zip(lengths, asked, strict=True)
        ]


def by_chance(prompt, reply):
    return crc32(json.dumps([prompt, reply]).encode()) / 2**32


@pytest.fixture(scope="module")
def pool():
    return read_questions(find_files("sample")["train"], "train")


def hits(choices):
    return summarise(choices)["all"]["value"]


def test_a_model_that_knows_the_true_reply_is_always_right_and_others_are_not(pool):
    questions = draw(pool, 40, seed=0)
    samples, _ = shown(questions, "small")
    truths = {(json.dumps(s.turns[:-1]), q.reference) for q, s in zip(questions, samples, strict=True)}
    known = Stub(lambda prompt, reply: 1.0 if (json.dumps(prompt), reply) in truths else 2.0)
    assert hits(choose(known, questions, samples, pool, seed=0)) == 1
    wrong = Stub(lambda prompt, reply: 2.0 if (json.dumps(prompt), reply) in truths else 1.0)
    found = choose(wrong, questions, samples, pool, seed=0)
    assert (hits(found), {choice.rank for choice in found}) == (0, {OTHERS + 1})
    assert hits(choose(Stub(lambda prompt, reply: 1.0), questions, samples, pool, seed=0)) == 0


def test_chance_is_one_in_twenty(pool):
    samples, _ = shown(pool, "none")
    found = choose(Stub(by_chance), pool, samples, pool, seed=0)
    assert len(found) == len(pool) > 500
    assert abs(hits(found) - 0.05) < 0.02
    assert abs(np.mean([choice.rank for choice in found]) - 10.5) < 0.7
    groups = summarise(found)
    assert groups["all"]["n"] == groups["uses_fact"]["n"] + groups["uses_no_fact"]["n"]
    assert groups["all"]["low"] <= groups["all"]["value"] <= groups["all"]["high"]


def test_the_candidates_are_of_other_conversations_unlike_and_without_marks(pool):
    questions = draw(pool, 20, seed=1)
    samples, _ = shown(questions, "oracle")
    stub = Stub(by_chance)
    choices = choose(stub, questions, samples, pool, seed=0)
    replies = {question.id: question for question in pool}
    assert any("[P" in turn for sample in samples for turn in sample.turns[1::2])
    for number, (question, sample, choice) in enumerate(zip(questions, samples, choices, strict=True)):
        asked = stub.asked[20 * number : 20 * number + 20]
        assert {json.dumps(prompt) for prompt, _ in asked} == {json.dumps(sample.turns[:-1])}
        assert [replies[one].reference for one in choice.candidates] == [reply for _, reply in asked]
        assert len({reply for _, reply in asked}) == 20
        assert not any("[P" in reply for _, reply in asked)
        assert asked[0][1] == question.reference
        assert all(replies[one].sample.row != question.sample.row for one in choice.candidates[1:])
        assert choice.nats == pytest.approx([by_chance(prompt, reply) for prompt, reply in asked])


def test_they_depend_on_seed_and_question_alone(pool):
    ids = lambda *arguments: [one.id for one in candidates(*arguments)]  # noqa: E731
    assert ids(pool[0], pool, 0) == ids(pool[0], pool, 0)
    assert len({tuple(ids(*some)[1:]) for some in ((pool[0], pool, 0), (pool[0], pool, 1), (pool[1], pool, 0))}) == 3


def test_too_few_candidates_or_replies_are_refused(pool):
    own = [question for question in pool if question.sample.row == pool[0].sample.row]
    others = [question for question in pool if question.sample.row != pool[0].sample.row]
    with pytest.raises(InputError, match="fewer than 19"):
        candidates(pool[0], [*own, *others[:18]], 0)
    with pytest.raises(InputError, match="at least two"):
        summarise([Choice("test-0-1", True, ["test-0-1"], [1.0])])


def command(tmp_path, *arguments):
    files = ("--out", str(tmp_path / "choices.jsonl"), "--json", str(tmp_path / "result.json"))
    given = {"--model": MODEL, "--spc": "sample", "--samples": "3", "--retriever": "small"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    return in_process("eval.choice", *files, *(word for pair in given.items() for word in pair))


@pytest.mark.slow
def test_the_command_ranks_by_the_model_s_own_perplexity(tmp_path):
    from eval.teacher_forced import TeacherForced

    done = command(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "choices.jsonl").read_text(encoding="utf-8").splitlines()]
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    pool = read_questions(find_files("sample")["test"], "test")
    questions = draw(pool, 3, seed=0)
    assert [line["id"] for line in lines] == [question.id for question in questions]
    assert result["hits_at_1"]["all"]["n"] == 3
    assert result["hits_at_1"]["all"]["value"] == pytest.approx(np.mean([line["hit"] for line in lines]), abs=1e-3)
    assert result["config"]["sample_sha256"] == sample_hash(questions)
    assert {"git", "input_sha256"} <= set(result)
    assert f"{result['hits_at_1']['all']['value']:.3f}" in done.stdout
    replies = {question.id: question.reference for question in pool}
    [sample], _ = shown(questions[:1], "small")
    texts = [replies[one] for one in lines[0]["candidates"]]
    scores = TeacherForced(MODEL).score_replies(SYSTEM, [(sample.turns[:-1], text) for text in texts])
    nats = [-score.log_probabilities.mean() for score in scores]
    assert lines[0]["nats_per_token"] == pytest.approx(nats, abs=1e-3)
    assert lines[0]["rank"] == 1 + sum(other < nats[0] for other in nats[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "no-such-folder"), "no-such-folder"),
        (("--adapter", "no-such-adapter"), "no-such-adapter"),
        (("--spc", "nowhere"), "SPC=nowhere is not a folder"),
        (("--samples", "1"), "at least two"),
    ],
)
def test_each_fault_is_one_sentence(tmp_path, monkeypatch, arguments, says):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = command(tmp_path, *arguments)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not (tmp_path / "result.json").exists()
