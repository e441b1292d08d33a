import json
import shutil
import struct

import httpx
import pytest

from data_prep.errors import InputError
from data_prep.provenance import sha256
from eval.browser import NAMES, chromium
from eval.screenshots import DRAWS_CHINESE, pictures
from inference.card_file import Persona
from retrieval.registry import open_retriever, save_retriever
from tests.conftest import in_process, python_m
from tests.inference.gateway.conftest import gateway_at
from tests.inference.gateway.page_fixtures import FakeBackend

needs_chromium = pytest.mark.skipif(not any(map(shutil.which, NAMES)), reason="no Chromium is installed")


@pytest.mark.slow
@needs_chromium
def test_the_command_talks_on_the_page_and_takes_its_pictures(tmp_path):
    card = tmp_path / "card.txt"
    card.write_text("I have two cats.\nI sing.\n", encoding="utf-8")
    out = tmp_path / "results" / "screenshots.json"
    messages = ("--message", "Do you have a cat?", "--message", "Do you sing?")
    done = python_m("eval.screenshots", "tiny/base", "--card", str(card), *messages, "--json", str(out))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(out.read_text(encoding="utf-8"))
    assert set(result["input_sha256"]) == {"base.yaml", "card.txt"}
    assert result["config"]["facts"] == ["I have two cats.", "I sing."]
    assert result["config"]["messages"] == [*messages[1::2]]
    names = [shown["file"] for shown in result["screenshots"]]
    in_chinese = [] if "no Chinese font" in done.stderr else ["screenshots/page-zh.png"]
    assert names == ["screenshots/page-en.png", *in_chinese]
    for shown in result["screenshots"]:
        picture = out.parent / shown["file"]
        assert sha256(picture) == shown["sha256"]
        assert struct.unpack(">II", picture.read_bytes()[16:24]) == (1000, 700)  # width and height of a PNG
        assert set(shown["caption"]) == {"en", "zh"}


@pytest.mark.slow
@needs_chromium
def test_a_person_is_made_asked_and_pictured_with_the_fact_behind_a_mark(tmp_path, request):
    retriever_json = tmp_path / "retriever.json"
    save_retriever(retriever_json, open_retriever("small"))
    seen = []
    with FakeBackend().running() as backend, gateway_at(backend.url, retriever_json, tmp_path) as (url, _):
        backend.says("I have two cats. [P1]")
        with chromium() as browser:
            new_page = browser.new_page
            browser.new_page = lambda **options: seen.append(new_page(**options)) or seen[0]
            taken = pictures(browser, url, Persona("", ["I have two cats."]), ["Do you have a cat?", "Cats?"])
            assert ("page-zh.png" in taken) is seen[0].evaluate(DRAWS_CHINESE)
            boxes = DRAWS_CHINESE.replace("人", "\ue000").replace("事", "\ue001")  # which no font has
            assert not seen[0].evaluate(boxes)
            assert seen[0].inner_text("#send") == "发送"
            assert seen[0].locator(".turn details[open]").count() == 1
            backend.says(status=500)
            with pytest.raises(InputError, match="Reply 1 did not come: "):
                pictures(browser, url, Persona("", ["I sing."]), ["Do you sing?"])
        [talk] = httpx.get(f"{url}/v1/conversations", trust_env=False).json()["data"][:1]
    assert talk["persona"] == "person"


def test_without_a_card_one_sentence(tmp_path):
    done = in_process("eval.screenshots", "tiny/base", "--card", str(tmp_path / "none.txt"), "--json", "never")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "none.txt" in done.stderr


def test_without_a_browser_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = in_process("eval.screenshots", "tiny/base", "--json", str(tmp_path / "out.json"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "chromium" in done.stderr
    assert not [*tmp_path.iterdir()]
