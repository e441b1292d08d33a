import json
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
from transformers import AutoTokenizer

from data_prep.errors import InputError
from data_prep.sources import find_files
from eval.answer_file import config_path
from eval.choice import OTHERS, candidates, choice_statistics, choose
from eval.intervals import intervals
from eval.mark_scores import align, outside_marks
from eval.questions import SYSTEM, draw, read_questions, sample_hash, shown
from retrieval.text import strip_marks
from tests.conftest import ROOT, in_process

MODEL = str(ROOT / "models" / "persona-tiny")


class Stub:
    """A scorer: ``nats(prompt, reply)`` a token. ``asked``: what it was asked."""

    tokenizer = AutoTokenizer.from_pretrained(MODEL)

    def __init__(self, nats):
        self.nats, self.asked = nats, []

    def score_replies(self, system, prompt, replies):
        assert system == SYSTEM
        self.asked.append((prompt, replies))
        found = []
        for reply in replies:
            ids = np.array(self.tokenizer(f"{reply}<|im_end|>\n", add_special_tokens=False)["input_ids"])
            of_each = np.full(len(ids), -self.nats(prompt, reply), np.float32)
            found.append(SimpleNamespace(ids=ids, log_probabilities=of_each))
        return found


def by_chance(prompt, reply):
    return crc32(json.dumps([prompt, reply]).encode()) / 2**32


@pytest.fixture(scope="module")
def pool():
    return read_questions(find_files("sample")["train"], "train")


def choose_each(stub, questions, samples, pool, seed=0):
    return [choose(stub, *pair, pool, seed) for pair in zip(questions, samples, strict=True)]


def hits(lines):
    return intervals(choice_statistics(lines))["hits_at_1"]["value"]


def test_a_model_that_knows_the_true_reply_is_always_right_and_others_are_not(pool):
    questions = draw(pool, 40, seed=0)
    samples, _ = shown(questions, "small")
    truths = {(json.dumps(s.turns[:-1]), q.reference) for q, s in zip(questions, samples, strict=True)}
    known = Stub(lambda prompt, reply: 1.0 if (json.dumps(prompt), reply) in truths else 2.0)
    assert hits(choose_each(known, questions, samples, pool)) == 1
    wrong = Stub(lambda prompt, reply: 2.0 if (json.dumps(prompt), reply) in truths else 1.0)
    found = choose_each(wrong, questions, samples, pool)
    assert (hits(found), {line["rank"] for line in found}) == (0, {OTHERS + 1})
    assert hits(choose_each(Stub(lambda prompt, reply: 1.0), questions, samples, pool)) == 0


def test_chance_is_one_in_twenty(pool):
    samples, _ = shown(pool, "none")
    found = choose_each(Stub(by_chance), pool, samples, pool)
    assert len(found) == len(pool) > 500
    assert abs(hits(found) - 0.05) < 0.02
    assert abs(np.mean([line["rank"] for line in found]) - 10.5) < 0.7
    measures = intervals(choice_statistics(found))
    assert all(measure["low"] <= measure["value"] <= measure["high"] for measure in measures.values())
    parts = [[line for line in found if line["uses_fact"] is uses] for uses in (True, False)]
    assert measures["hits_at_1_uses_fact"]["value"] == pytest.approx(hits(parts[0]), abs=1e-4)
    assert not any("uses_fact" in name for name in choice_statistics(parts[1]))


def test_the_candidates_are_of_other_conversations_unlike_and_without_marks(pool):
    questions = draw(pool, 20, seed=1)
    samples, _ = shown(questions, "oracle")
    stub = Stub(by_chance)
    lines = choose_each(stub, questions, samples, pool)
    replies = {question.id: question for question in pool}
    assert any("[P" in turn for sample in samples for turn in sample.turns[1::2])
    for question, sample, line, (prompt, asked) in zip(questions, samples, lines, stub.asked, strict=True):
        assert prompt == sample.turns[:-1]
        assert asked[0] == sample.turns[-1]
        assert [replies[one].reference for one in line["candidates"]] == asked[1:]
        assert len({*asked[1:]}) == 20
        assert not any("[P" in reply for reply in asked[1:])
        assert asked[1] == question.reference
        assert all(replies[one].sample.row != question.sample.row for one in line["candidates"][1:])
        assert line["nats_per_token"] == pytest.approx([by_chance(prompt, reply) for reply in asked[1:]], abs=1e-5)


def test_the_loss_is_of_the_reply_as_trained_outside_of_marks(pool):
    questions = draw(pool, 60, seed=2)
    samples, _ = shown(questions, "oracle")
    lines = choose_each(Stub(lambda prompt, reply: 2.0), questions, samples, pool)
    marked = 0
    for question, sample, line in zip(questions, samples, lines, strict=True):
        reply = sample.turns[-1]
        assert line["nats"] == pytest.approx(2.0 * line["tokens"])
        plain = Stub.tokenizer(f"{question.reference}<|im_end|>\n", add_special_tokens=False)["input_ids"]
        assert line["characters"] == len(question.reference) == len(strip_marks(reply))
        # A mark between two sentences can keep apart what is one token without it.
        assert len(plain) <= line["tokens"] <= len(plain) + reply.count("[P")
        marked += "[P" in reply
    assert marked > 10
    measures = intervals(choice_statistics(lines))
    assert measures["loss"] == measures["loss_uses_fact"] == dict.fromkeys(("value", "low", "high"), 2.0)
    assert measures["perplexity"]["value"] == pytest.approx(np.exp(2), abs=1e-4)
    characters = sum(line["characters"] for line in lines)
    assert measures["nats_per_character"]["value"] == pytest.approx(
        sum(line["nats"] for line in lines) / characters, abs=1e-4
    )


def test_they_depend_on_seed_and_question_alone(pool):
    ids = lambda *arguments: [one.id for one in candidates(*arguments)]  # noqa: E731
    assert ids(pool[0], pool, 0) == ids(pool[0], pool, 0)
    assert len({tuple(ids(*some)[1:]) for some in ((pool[0], pool, 0), (pool[0], pool, 1), (pool[1], pool, 0))}) == 3


def test_too_few_candidates_are_refused(pool):
    own = [question for question in pool if question.sample.row == pool[0].sample.row]
    others = [question for question in pool if question.sample.row != pool[0].sample.row]
    with pytest.raises(InputError, match="fewer than 19"):
        candidates(pool[0], [*own, *others[:18]], 0)


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
    assert (result["n"], result["n_uses_fact"]) == (3, sum(bool(question.record["used"]) for question in questions))
    expected = np.mean([line["rank"] == 1 for line in lines])
    assert result["measures"]["hits_at_1"]["value"] == pytest.approx(expected, abs=1e-3)
    assert result["config"]["sample_sha256"] == sample_hash(questions)
    assert {"git", "input_sha256"} <= set(result)
    assert f"{result['measures']['hits_at_1']['value']:.3f}" in done.stdout
    replies = {question.id: question.reference for question in pool}
    [sample], _ = shown(questions[:1], "small")
    texts = [replies[one] for one in lines[0]["candidates"]]
    scorer = TeacherForced(MODEL)
    # Each conversation goes through the model alone and whole.
    whole = lambda reply: scorer.score([scorer.encode([*sample.turns[:-1], reply], SYSTEM)])[0][-1]  # noqa: E731
    nats = [-whole(text).log_probabilities.mean() for text in texts]
    assert lines[0]["nats_per_token"] == pytest.approx(nats, abs=1e-3)
    assert lines[0]["rank"] == 1 + sum(other < nats[0] for other in nats[1:])
    true = sample.turns[-1]
    trained = whole(true)
    outside = outside_marks(true, align(scorer.tokenizer, true, trained.ids.tolist()))
    assert lines[0]["nats"] == pytest.approx(-trained.log_probabilities[outside].sum(), abs=1e-2)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_file(tmp_path):
    assert command(tmp_path).returncode == 0
    out, result = tmp_path / "choices.jsonl", tmp_path / "result.json"
    before = out.read_bytes(), result.read_bytes()
    first, second, _ = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(first + second[:40])
    assert command(tmp_path).returncode == 0
    assert (out.read_bytes(), result.read_bytes()) == before
    other = command(tmp_path, "--seed", "1")
    assert (other.returncode, out.read_bytes()) == (2, before[0])
    assert "begun with seed 0, not 1" in other.stderr
    config_path(out).unlink()
    assert command(tmp_path).returncode == 2


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
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = command(tmp_path, *arguments)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not (tmp_path / "result.json").exists()
