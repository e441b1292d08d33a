import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_prep.rows import facts_of
from eval.mark_scores import CLOSE, MarkReader, align, mark_places, outside_marks, right_number
from retrieval.text import mark_runs
from tests.conftest import ROOT

MODEL = str(ROOT / "models" / "persona-tiny")
SYSTEM = "Be short."


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


# Where marks are, and where they could be.


def test_marks_in_a_row_belong_together():
    text = "I play. [P1][P12] And you? [P2]"
    assert [(text[run.start : run.end], [text[slice(*at)] for at in run.numbers]) for run in mark_runs(text)] == [
        (" [P1][P12]", ["1", "12"]),
        (" [P2]", ["2"]),
    ]
    assert mark_runs("Dr. P1 [D1] [P0] (P1)") == []


@pytest.mark.parametrize(
    ("reply", "before"),
    [
        ("I play tennis. [P1][P2] And you?", {"I play tennis.": True, "I play tennis. [P1][P2] And you?": False}),
        ("Hi! I sing. [P3]", {"Hi!": False, "Hi! I sing.": True}),
        ("I sing", {"I sing": False}),
        ("A. [P1] B. [P2] C.", {"A.": True, "A. [P1] B.": True, "A. [P1] B. [P2] C.": False}),
        ("我喜欢打网球。 [P1]你呢？", {"我喜欢打网球。": True, "我喜欢打网球。 [P1]你呢？": False}),
        ("I [P1] sing.", {"I": True, "I [P1] sing.": False}),  # not how we write it
    ],
)
def test_a_mark_could_start_at_every_sentence_end(reply, before):
    assert {reply[:place]: truth for place, truth in mark_places(reply)} == before


def test_the_tokens_of_a_mark_and_the_space_before_it_are_left_out(tokenizer):
    reply = "I play tennis. [P1][P2] And you?"
    ids = tokenizer.encode(reply + "<|im_end|>\n", add_special_tokens=False)
    outside = outside_marks(reply, align(tokenizer, reply, ids))
    assert tokenizer.decode(np.array(ids)[outside]) == "I play tennis. And you?<|im_end|>\n"


# The number of a mark, with choices made by hand. P1, P2 and P12 count as 0, 1 and 11 here.

NUMBERS = {0: (21,), 1: (22,), 11: (21, 22)}


@pytest.mark.parametrize(
    ("truth", "accepted", "shown", "chosen", "right"),
    [
        (0, {0}, {0, 1}, [21], True),
        (0, {0}, {0, 1}, [22], False),
        (0, {0, 1}, {0, 1}, [22], True),  # the other mark of the run
        (0, {0}, {0, 1}, [99], False),  # no number at all
        (0, {0}, {0, 11}, [21, CLOSE], True),
        (0, {0}, {0, 11}, [21, 22], False),  # P12 instead of P1
        (11, {11}, {0, 11}, [21, 22], True),
        (11, {11}, {0, 11}, [21, CLOSE], False),  # P1 instead of P12
        (11, {11}, {1, 11}, [21], True),  # settled by the first digit
    ],
)
def test_the_number_that_a_model_goes_on_with(truth, accepted, shown, chosen, right):
    assert right_number(truth, accepted, shown, NUMBERS, lambda step, options: chosen[step]) is right


def scores_of(tokenizer, reader, reply, likely):
    """Offsets and scores; true tokens are the most likely but for ``likely``: {text before: {text: logit}}."""
    ids = tokenizer.encode(reply + "<|im_end|>\n", add_special_tokens=False)
    offsets = align(tokenizer, reply, ids)
    logits = np.zeros((len(ids), 4096))
    logits[np.arange(len(ids)), ids] = 5
    for before, changed in likely.items():
        place = next(number for number, (start, _) in enumerate(offsets) if start == len(before))
        for text, logit in changed.items():
            logits[place, tokenizer.encode(text, add_special_tokens=False)[0]] = logit
    return offsets, SimpleNamespace(best=logits.argmax(1), watched=logits[:, reader.watched])


def test_marks_are_counted_as_by_hand(tokenizer):
    reader = MarkReader(tokenizer, range(12))
    reply = "Hi! I sing. [P1] I cook. [P2][P3] Bye."
    likely = {
        "Hi!": {" [": 9},  # a mark too many
        "Hi! I sing. [P": {"x": 9, "2": 6, "1": 7},  # P1 is the best of the facts shown, but not of the vocabulary
        "Hi! I sing. [P1] I cook.": {" And": 9},  # a mark too few
        "Hi! I sing. [P1] I cook. [P": {"3": 9},  # the second mark of the run first
    }
    counts = reader.count(reply, *with_shown(scores_of(tokenizer, reader, reply, likely), {0, 1, 2}))
    assert (counts.marks, counts.right, counts.right_shown) == (2, 1, 2)
    assert counts.chance == pytest.approx(1 / 3 + 2 / 3)
    assert (counts.open_marks, counts.open_right_shown, counts.open_chance) == (2, 2, counts.chance)
    assert (counts.places, counts.unseen, counts.tp, counts.fp, counts.fn) == (4, 0, 1, 1, 1)


def with_shown(scored, shown):
    offsets, scores = scored
    return offsets, shown, scores


def test_a_wrong_number_is_wrong_and_a_sole_fact_no_choice(tokenizer):
    reader = MarkReader(tokenizer, range(12))
    reply = "I sing. [P12]"
    for likely, shown, expected in (
        ({"I sing. [P1": {"]": 9}}, {0, 11}, (0, 0, 1)),  # P1 for P12
        ({"I sing. [P1": {"]": 9}}, {1, 11}, (1, 1, 1)),  # settled before
        ({"I sing. [P": {"2": 9}}, {1, 11}, (0, 0, 1)),
        ({"I sing. [P": {"2": 9}}, {11}, (0, 1, 0)),
    ):
        counts = reader.count(reply, *with_shown(scores_of(tokenizer, reader, reply, likely), shown))
        assert (counts.right, counts.right_shown, counts.open_marks) == expected


def test_qwens_tokens_are_read_too(spc_dir):
    from transformers import PreTrainedTokenizerFast

    path = spc_dir.parent / "qwen3_tokenizer" / "tokenizer.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    reader = MarkReader(tokenizer, [0, 1, 11])
    assert {tokenizer.decode([token]) for token in reader.watched} == {"1", "2", "]", "]["}
    reply = "I sing. [P1][P2] And?\n\nBye. [P12]"
    ids = tokenizer.encode(reply + "<|im_end|>\n")
    offsets = align(tokenizer, reply, ids)
    scores = SimpleNamespace(best=np.array(ids), watched=np.zeros((len(ids), len(reader.watched))))
    counts = reader.count(reply, offsets, {0, 1, 11}, scores)
    assert (counts.marks, counts.right, counts.tp, counts.fp, counts.fn) == (2, 2, 2, 0, 0)
    assert (counts.places, counts.unseen) == (2, 1)  # "?\n\n" is one token: no mark can start within


# With the model.


@pytest.fixture(scope="module")
def scorer():
    from eval.teacher_forced import TeacherForced

    return TeacherForced(MODEL)


def conversations(data, count):
    from eval.likelihood import read_conversations, turns_of

    rows = read_conversations(data / "spc_sharegpt_valid.json", count, seed=1).values()
    return [(turns_of(row), row.system) for row in rows]


@pytest.mark.slow
def test_the_loss_is_that_of_transformers(scorer, sample_data):
    encoded = [scorer.encode(*conversation) for conversation in conversations(sample_data, 5)]
    # Two go through the model together, so that one is padded.
    for conversation, replies in zip(encoded, scorer.score(encoded), strict=True):
        ids = torch.tensor([conversation.ids])
        labels = torch.full_like(ids, -100)
        for reply in conversation.replies:
            labels[0, list(reply)] = ids[0, list(reply)]
        with torch.inference_mode():
            expected = scorer.model(input_ids=ids, labels=labels)
        loss = -np.concatenate([reply.log_probabilities for reply in replies]).mean()
        assert loss == pytest.approx(expected.loss.item(), abs=1e-5)
        best = np.concatenate([reply.best for reply in replies])
        assert (best == expected.logits[0, :-1].argmax(-1)[labels[0, 1:] != -100].numpy()).all()


@pytest.mark.slow
def test_watched_tokens_and_single_replies_have_the_same_log_probabilities(scorer, sample_data):
    ((turns, system), *_) = conversations(sample_data, 2)
    whole = scorer.encode(turns, system)
    watched = sorted({whole.ids[place] for reply in whole.replies for place in reply})
    (replies,) = scorer.score([whole], watched)
    for number, (place, reply) in enumerate(zip(whole.replies, replies, strict=True)):
        # Among others, of which some are longer and some go through the model in another batch.
        others = [turn for turn in turns[1::2] if turn != turns[2 * number + 1]]
        alone = scorer.score_replies(system, turns[: 2 * number + 1], [*others, turns[2 * number + 1], "Yes."])[-2]
        assert (alone.ids == [whole.ids[token] for token in place]).all()
        true = [watched.index(whole.ids[token]) for token in place]
        assert np.allclose(reply.watched[np.arange(len(true)), true], reply.log_probabilities, atol=1e-5)
        assert np.allclose(alone.log_probabilities, reply.log_probabilities, atol=1e-4)


@pytest.mark.slow
def test_without_facts_no_fact_and_no_mark_is_left(sample_data):
    from eval.likelihood import without_facts

    for turns, _ in conversations(sample_data, None):
        assert any(facts_of(turn) for turn in turns[::2])
        plain = without_facts(turns)
        assert len(plain) == len(turns)
        for before, after in zip(turns, plain, strict=True):
            assert "[P" not in after
            assert after
            assert before.startswith(after) or mark_runs(before)


@pytest.mark.slow
def test_measures_are_sums_over_replies(scorer, sample_data):
    from eval.likelihood import evaluate, read_conversations

    rows = read_conversations(sample_data / "spc_sharegpt_valid.json", 4, seed=0)
    result = evaluate(scorer, rows)
    loss = result["loss"]
    for groups in loss.values():
        assert groups["all"]["tokens"] == groups["with_marks"]["tokens"] + groups["without_marks"]["tokens"]
        assert groups["all"]["replies"] == result["replies"]
    with_facts, outside, without = (groups["all"] for groups in loss.values())
    assert with_facts["perplexity"]["value"] == pytest.approx(math.exp(with_facts["loss_per_token"]["value"]), rel=1e-3)
    assert outside["characters"] == without["characters"] < with_facts["characters"]
    assert outside["tokens"] == without["tokens"]  # tiny's tokenizer never joins a mark with what stands next to it
    assert loss["with_facts"]["without_marks"] == loss["with_facts_outside_marks"]["without_marks"]
    nats, tokens = np.sum([row["with_facts"] for row in result["nats_and_tokens_by_row"].values()], axis=0)
    assert nats / tokens == pytest.approx(with_facts["loss_per_token"]["value"], abs=1e-3)


@pytest.mark.slow
def test_an_adapter_changes_what_its_model_says(scorer, sample_data, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from eval.teacher_forced import TeacherForced

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(tmp_path)
    adapted = TeacherForced(MODEL, str(tmp_path))
    encoded = [scorer.encode(*conversations(sample_data, 2)[0])]
    (plain,), (found,) = scorer.score(encoded), adapted.score(encoded)
    with torch.inference_mode():
        logits = model.merge_and_unload().eval()(torch.tensor([encoded[0].ids])).logits[0].log_softmax(-1)
    for place, before, after in zip(encoded[0].replies, plain, found, strict=True):
        expected = logits[[at - 1 for at in place], [encoded[0].ids[at] for at in place]].numpy()
        assert np.allclose(after.log_probabilities, expected, atol=1e-3)
        assert not np.allclose(after.log_probabilities, before.log_probabilities, atol=1e-2)


def command(monkeypatch, data, out, *arguments):
    from eval.likelihood import main

    monkeypatch.setattr("sys.argv", ["likelihood", "--data", str(data), "--json", str(out), *arguments])
    main()


@pytest.mark.slow
def test_the_command_writes_the_same_file_twice_and_prints_it(sample_data, tmp_path, monkeypatch, capsys):
    outs = [tmp_path / "a.json", tmp_path / "b.json"]
    for out in outs:
        command(monkeypatch, sample_data, out, "--model", MODEL, "--samples", "3", "--seed", "5")
    printed = capsys.readouterr().out
    assert outs[0].read_bytes() == outs[1].read_bytes()
    result = json.loads(outs[0].read_text(encoding="utf-8"))
    assert set(result) >= {"git", "config", "input_sha256"}
    assert set(result["input_sha256"]) == {"spc_sharegpt_valid.json", "model.safetensors"}
    assert result["rows"] == len(result["nats_and_tokens_by_row"]) == 3
    assert f"{result['loss']['without_facts']['all']['loss_per_token']['value']:.3f}" in printed
    assert f"{result['marks']['placing']['recall']['value']:.3f}" in printed


def no_marks(path):
    rows = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        for turn in row["conversations"]:
            turn["value"] = turn["value"].split("[")[0].strip()
    return json.dumps(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "arguments", "names"),
    [
        (None, ("--model", "no-such-folder"), "no-such-folder"),
        (None, ("--model", MODEL, "--adapter", "no-such-adapter"), "no-such-adapter"),
        (None, ("--model", MODEL, "--template", "no_such_template"), "no_such_template"),
        (None, ("--model", MODEL, "--split", "best"), "spc_sharegpt_best.json is missing"),
        (no_marks, ("--model", MODEL), "marks"),
        (lambda path: "[{]", ("--model", MODEL), "not valid JSON"),
        (lambda path: '[{"conversations": []}]', ("--model", MODEL), "row 1"),
    ],
)
def test_faults_of_the_input_are_one_sentence(sample_data, tmp_path, monkeypatch, capsys, change, arguments, names):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    data = sample_data
    if change:
        data = tmp_path
        (data / "spc_sharegpt_valid.json").write_text(change(sample_data / "spc_sharegpt_valid.json"))
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, data, out, *arguments)
    said = capsys.readouterr().err.splitlines()
    assert (stopped.value.code, len(said)) == (2, 1)
    assert names in said[0]
    assert not out.exists()
