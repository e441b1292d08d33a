import json

import pytest

from eval.judging import open_judge
from eval.replies import TRUE, measure, read_lines
from tests.conftest import in_process

CARD, OTHER = ["I play the banjo after dinner.", "I have two cats."], ["I drive a night bus."]


def line(name, reply, reference="I play the banjo after dinner.", shown="[P1]"):
    return {
        "id": name, "card": CARD, "other_card": OTHER, "history": [], "message": "What do you play?",
        "reference": reference, "retrieved": [{"mark": shown, "fact": "", "score": 1.0}], "reply": reply,
        "seconds": 0.1,
        "finish_reason": "stop",
    }  # fmt: skip


def write(path, *lines):
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path):
    """Replies without and with marks to the same messages; the second file has one more, in another order."""
    base = write(tmp_path / "base.jsonl", *[line(f"q{n}", "I drive a night bus.") for n in range(4)])
    true = "I play the banjo after dinner. [P1]"
    tuned = write(tmp_path / "tuned.jsonl", line("more", "Hm."), *[line(f"q{n}", true) for n in (3, 2, 1, 0)])
    return base, tuned


def test_each_file_is_measured_on_what_all_have_and_compared_with_the_first(files):
    result = measure({path.name: read_lines(path) for path in files}, open_judge("overlap"))
    base, tuned = (result["replies"][path.name] for path in files)
    assert result["n"] == 4
    assert (base["f1"]["value"], tuned["f1"]["value"]) == (pytest.approx(2 / 9, abs=1e-4), 1)
    assert (base["recall"]["value"], tuned["recall"]["value"], tuned["precision"]["value"]) == (0, 1, 1)
    assert (base["replies_slipped"]["value"], tuned["replies_slipped"]["value"]) == (1, 0)
    assert result["difference_to_the_first"]["tuned.jsonl"]["recall"] == {"value": 1, "low": 1, "high": 1}
    assert result["replies"][TRUE]["f1"]["value"] == 1


def test_the_command_writes_the_result_and_a_table(files, tmp_path):
    out = tmp_path / "out.json"
    (tmp_path / "base.jsonl.config.json").write_text('{"retriever": "none"}', encoding="utf-8")
    done = in_process("eval.replies", *map(str, files), "--judge", "overlap", "--json", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert set(result["input_sha256"]) == {"base.jsonl", "tuned.jsonl"}
    assert result["config"]["replies_by"] == {"base.jsonl": {"retriever": "none"}}
    assert result["config"]["judge"] == "overlap"
    assert result["config"]["bleu"].startswith("nrefs:1|")
    assert len(done.stdout.splitlines()) == 1 + len(result["replies"]["tuned.jsonl"])
    assert "precision_marked" not in result["replies"]["base.jsonl"]  # it has no mark
    [row] = [line for line in done.stdout.splitlines() if line.startswith("precision_marked")]
    assert row.split()[1] == "-"


def test_each_fault_is_one_sentence(files, tmp_path):
    (tmp_path / "broken.jsonl").write_text(json.dumps(line("q0", "Hm.")) + '\n{"id": 1', encoding="utf-8")
    apart = write(tmp_path / "apart.jsonl", line("z", "Hm."))
    (tmp_path / "again").mkdir()
    for words, given in {
        "line 2": [tmp_path / "broken.jsonl"],
        "cannot be read": [tmp_path / "none.jsonl"],
        "in common": [files[0], apart],
        "the same name": [files[0], write(tmp_path / "again" / "base.jsonl", line("q0", "Hm."))],
    }.items():
        done = in_process("eval.replies", *map(str, given), "--judge", "overlap", "--json", str(tmp_path / "o"))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert words in done.stderr


def test_an_unknown_judge_is_one_sentence(files, tmp_path):
    done = in_process("eval.replies", *map(str, files), "--judge", "overlaps", "--json", str(tmp_path / "o"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'overlaps'; choose encoder, overlap, llm, or nli:MODEL" in done.stderr
