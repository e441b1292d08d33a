import fcntl
import json
from types import SimpleNamespace
from zlib import crc32

import pytest

from data_prep.errors import InputError
from data_prep.sources import find_files
from eval.answer_file import config_path
from eval.generation import ask
from eval.questions import draw, messages_of, read_questions, sample_hash, shown
from tests.conftest import free_port, in_process, python_m
from tests.inference.fake_openai import serving

SAMPLES = 6


def said(messages):
    return [f"I said {crc32(json.dumps(messages).encode())}. [P1] \ud83d \u2028"]


@pytest.fixture
def server():
    with serving() as one:
        one.say = said
        yield one


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run writes that is not interrupted: by another process, with other hashes of str."""
    out = tmp_path_factory.mktemp("whole") / "out.jsonl"
    with serving() as one:
        one.say = said
        assert generate(one.url, out, run=python_m).returncode == 0
    return out


def generate(url, out, *arguments, run=in_process):
    given = {"--spc": "sample", "--samples": str(SAMPLES), "--seed": "3", "--retriever": "small"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    given = [word for pair in given.items() for word in pair]
    return run("eval.generation", "--base-url", url, "--out", str(out), *given)


def lines_of(out):
    """The file's objects without the time that each took."""
    found = [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]]
    assert all(line.pop("seconds") >= 0 for line in found)
    return found


def config_of(out):
    return json.loads(config_path(out).read_text(encoding="utf-8"))


def sentence(done):
    """What a refused command says last; a progress bar may stand before."""
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["small", "none", "oracle"])
def test_every_question_is_asked_and_noted(server, tmp_path, name):
    out = tmp_path / "new" / "out.jsonl"
    done = generate(server.url, out, "--retriever", name, "--max-tokens", "40", "--served", "base")
    assert done.returncode == 0, done.stderr
    assert f"{SAMPLES} replies" in done.stdout
    questions = draw(read_questions(find_files("sample")["test"], "test"), SAMPLES, seed=3)
    samples, _ = shown(questions, name)
    assert [request["messages"] for request in server.requests] == [messages_of(sample) for sample in samples]
    assert {(r["model"], r["temperature"], r["max_tokens"]) for r in server.requests} == {("some-model", 0, 40)}
    for question, sample, line in zip(questions, samples, lines_of(out), strict=True):
        assert line["reply"] == server.say(messages_of(sample))[0]
        assert line["finish_reason"] == "stop"
        assert {name: line[name] for name in question.record} == question.record
        assert set(line) == {*question.record, "retrieved", "reply", "finish_reason"}
        shown_last = [f"{fact['mark']} {fact['fact']}" for fact in line["retrieved"]]
        assert sample.turns[-2].split("\n") == [*question.record["message"].split("\n"), *shown_last]
    config = config_of(out)
    assert config["sample_sha256"] == sample_hash(questions)
    assert (config["served"], config["model"], config["retriever"]) == ("base", "some-model", name)
    assert {"git", "seed", "split", "samples", "input_sha256", "prompts_sha256"} <= set(config)


@pytest.mark.parametrize("cut", [b"", b'{"id": "test-', b'{"id": "test-0-1", "reply": "Hel'])
def test_an_interrupted_run_goes_on_to_the_same_file(server, tmp_path, whole, cut):
    out = tmp_path / "out.jsonl"

    def failing(messages):
        if len(server.requests) == 2:
            server.status = 400
        return said(messages)

    server.say = failing
    assert "answered 400" in sentence(generate(server.url, out))
    assert len(lines_of(out)) == 2
    with out.open("ab") as file:
        file.write(cut)
    server.say, server.status, server.requests = said, 200, []
    done = generate(server.url, out)
    assert f"{SAMPLES - 2} of them new" in done.stdout
    assert len(server.requests) == SAMPLES - 2
    assert lines_of(out) == lines_of(whole)
    assert config_of(out) == config_of(whole)
    assert "0 of them new" in generate(server.url, out).stdout
    assert lines_of(out) == lines_of(whole)


def test_with_no_api_nothing_is_lost_and_it_is_said(server, tmp_path):
    out = tmp_path / "out.jsonl"
    generate(server.url, out)
    before = out.read_bytes()
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    assert sentence(generate(nowhere, out)).startswith(f"No API answers at {nowhere};")
    assert out.read_bytes() == before
    assert "no address of an API" in sentence(generate("nowhere", out))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--seed", "4"), "begun with seed 3, not 4"),
        (("--samples", "5"), "begun with samples 6, not 5"),
        (("--retriever", "none"), "begun with retriever 'small', not 'none'"),
        (("--model", "other"), "begun with model 'some-model', not 'other'"),
        (("--max-tokens", "9"), "begun with max_tokens 128, not 9"),
        (("--served", "lora"), "begun with served None, not 'lora'"),
        (("--split", "valid"), "begun with split 'test', not 'valid'"),
    ],
)
def test_another_configuration_is_refused(server, tmp_path, arguments, says):
    out = tmp_path / "out.jsonl"
    generate(server.url, out)
    before, server.requests = out.read_bytes(), []
    assert says in sentence(generate(server.url, out, *arguments))
    assert (out.read_bytes(), server.requests) == (before, [])


@pytest.mark.parametrize("answer", ["<html>", SimpleNamespace(choices=None), SimpleNamespace(choices=[])])
def test_an_answer_that_is_none_is_said(answer):
    completions = SimpleNamespace(create=lambda **options: answer)
    api = SimpleNamespace(chat=SimpleNamespace(completions=completions))
    with pytest.raises(InputError, match="not in OpenAI's form"):
        ask(api, "some-model", [], 9)


def without_config(out):
    config_path(out).unlink()


def with_no_object(out):
    config_path(out).write_text("[1]")


def with_another_line(out):
    first, rest = out.read_bytes().split(b"\n", 1)
    out.write_bytes(rest + first + b"\n")


def with_a_line_too_many(out):
    out.write_bytes(out.read_bytes() + b'{"id": "x"}\n')


def as_a_folder(out):
    out.unlink()
    out.mkdir()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without_config, "has no out.jsonl.config.json"),
        (with_no_object, "cannot be read"),
        (with_another_line, "line 1 is not the reply"),
        (with_a_line_too_many, "line 7 is not the reply"),
        (as_a_folder, "cannot be written"),
    ],
)
def test_a_file_that_is_not_this_run_s_is_refused(server, tmp_path, damage, says):
    out = tmp_path / "out.jsonl"
    generate(server.url, out)
    damage(out)
    assert says in sentence(generate(server.url, out))


def test_a_second_run_into_the_same_file_is_refused(server, tmp_path):
    out = tmp_path / "out.jsonl"
    with out.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "Another run is writing" in sentence(generate(server.url, out))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--spc", "nowhere"), "SPC=nowhere is not a folder"),
        (("--samples", "100000"), "There are"),
        (("--samples", "0"), "'0' is not a whole number above 0"),
        (("--retriever", "magic"), "'magic'"),
    ],
)
def test_each_fault_is_one_sentence(server, tmp_path, arguments, says):
    assert says in sentence(generate(server.url, tmp_path / "out.jsonl", *arguments))
    assert not (tmp_path / "out.jsonl").exists()
