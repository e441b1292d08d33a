import pytest

from tests.eval.judge_server import FakeJudge, better, judged, row, scores, serving, write


def faults():
    good = [row("0", "a"), row("1", "b")]
    other = [row("0", "a", message="Else?"), row("1", "b")]
    return {
        "no file": ([None], (), "cannot be read"),
        "no JSON": (["{"], (), "line 1 is not JSON"),
        "a list": (["[]"], (), "line 1 is no JSON object"),
        "half a character": (['{"id": "\\ud83d"}'], (), "half a character"),
        "no text": ([[row("0", 3)]], (), "'reply' must be text, not 3"),
        "no reference": ([[{k: v for k, v in row("0", "a").items() if k != "reference"}]], (), "'reference'"),
        "no list": ([[row("0", "a", card="I sing.")]], (), "'card' must be a list"),
        "odd history": ([[row("0", "a", history=["Hi!"])]], (), "has 1 turns"),
        "twice": ([[*good, row("0", "c")]], (), "'0' is there twice"),
        "one id": ([good[:1]], (), "at least two"),
        "none in common": ([good, [row("7", "a")]], (), "no id in common"),
        "other message": ([good, other], (), "'0' of 0.jsonl has another"),
        "three files": ([good, good, good], (), "one file or two, not 3"),
        "pairwise of one": ([good], ("--mode", "pairwise"), "second one"),
        "neither": ([], (), "or both"),
        "no model": ([good], ("--judge-model", ""), "JUDGE_MODEL"),
        "no key": ([good], ("OPENAI_API_KEY",), "OPENAI_API_KEY="),
        "no address": ([good], ("OPENAI_BASE_URL",), "ftp://x is no address"),
        "a folder": ([good], ("FOLDER",), "is a folder"),
        "no log": ([good], ("LOG",), "is no log"),
        "no place": ([good], ("PLACE",), "cannot be written"),
    }


@pytest.mark.parametrize("fault", faults())
def test_a_fault_is_one_sentence(fault, tmp_path, monkeypatch):
    contents, options, sentence = faults()[fault]
    paths = [tmp_path / f"{number}.jsonl" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif content:
            write(path, content)
    out = tmp_path / "out.json"
    with serving(FakeJudge(lambda *_: scores(*[3] * 6)), monkeypatch) as judge:
        match options:
            case ("OPENAI_API_KEY",):
                monkeypatch.delenv("OPENAI_API_KEY")
            case ("OPENAI_BASE_URL",):
                monkeypatch.setenv("OPENAI_BASE_URL", "ftp://x")
            case ("FOLDER",):
                out.mkdir()
            case ("LOG",):
                (tmp_path / "out.json.log.jsonl").write_text("[1]\n", encoding="utf-8")
            case ("PLACE",):
                out = paths[0] / "out.json"
        replies = ("--replies", *paths) if paths else ()
        done, _ = judged(out, *replies, *(o for o in options if not o.isupper()))
    assert (done.returncode, done.stderr.count("\n"), judge.requests) == (2, 1, [])
    assert sentence in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [("--samples", "0"), ("--samples", "x"), ("--temperature", "0"), ("--temperature", "nan"), ("--retries", "-1"),
     ("--concurrency", "0"), ("--mode", "best")],
)  # fmt: skip
def test_an_option_out_of_range_is_named(option, value, tmp_path):
    done, _ = judged(tmp_path / "out.json", "--check", f"{option}={value}")
    assert done.returncode == 2
    assert f"argument {option}" in done.stderr
    assert f"'{value}'" in done.stderr


@pytest.mark.parametrize(("answer", "sentence"), [(401, "failed"), ({"error": "busy"}, "no chat completion")])
def test_an_endpoint_that_fails_is_one_sentence(answer, sentence, tmp_path, monkeypatch):
    with serving(FakeJudge(lambda *_: answer), monkeypatch):
        done, result = judged(tmp_path / "out.json", "--check")
    assert (done.returncode, result, done.stderr.count("\n")) == (2, None, 1)
    assert "127.0.0.1" in done.stderr
    assert sentence in done.stderr


def test_ctrl_c_is_one_sentence(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("eval.judge.asking.Judge.ask", stop)
    with serving(FakeJudge(better), monkeypatch):
        done, result = judged(tmp_path / "out.json", "--check")
    assert (done.returncode, result, done.stderr) == (130, None, "Stopped; the same command goes on from here.\n")
