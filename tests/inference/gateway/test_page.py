"""The page, in a real browser, before the real gateway."""

import json
import re
import time

import httpx
import pytest

from inference.gateway.app import PAGE_HEADERS
from tests.conftest import persona_tiny_at
from tests.inference.gateway.conftest import gateway_at
from tests.inference.gateway.page_fixtures import FakeBackend, chromium

FACTS = ["I work as a baker in York.", "I have two cats and a dog.", "I play the guitar in a small band."]
MESSAGE = "Do you have a dog or a cat?"  # retrieves the second fact
TYPED = "A message of mine."


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def backend():
    with FakeBackend().running() as backend:
        yield backend


@pytest.fixture(scope="module")
def served(browser, backend, retriever_json, tmp_path_factory):
    with gateway_at(backend.url, retriever_json, tmp_path_factory.mktemp("gateway")) as (url, _):
        yield url


class Api:
    """The gateway's API, to see what the page left there."""

    def __init__(self, url):
        self._http = httpx.Client(base_url=url, trust_env=False)

    def get(self, path):
        return self._http.get(path).raise_for_status().json()

    def put(self, name, facts):
        self._http.put(f"/v1/personas/{name}", json={"name": name.title(), "facts": facts}).raise_for_status()

    def clear(self):
        for kind in ("personas", "conversations"):
            for item in self.get(f"/v1/{kind}")["data"]:
                self._http.delete(f"/v1/{kind}/{item['id']}").raise_for_status()


@pytest.fixture
def api(served, backend):
    api = Api(served)
    api.clear()
    backend.says("Hello.")
    return api


@pytest.fixture
def opened(browser):
    """Opens the page at a URL; at the end, no page may have met a script error, its policy, or another host."""
    pages, faults = [], []

    def open_page(url, **options):
        context = browser.new_context(**({"locale": "en-GB"} | options))
        context.set_default_timeout(20_000)
        page = context.new_page()
        pages.append(page)

        def console(message):
            # The browser itself writes a line for every status such as 401, which is what some tests are about.
            if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
                faults.append(message.text)

        page.on("console", console)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request", lambda request: request.url.startswith(("data:", "blob:", url)) or faults.append(request.url)
        )
        page.goto(url)
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert faults == []


def say(page, message):
    page.fill("#message", message)
    page.press("#message", "Enter")


def until(page, expression):
    """Playwright's own wait_for_function evaluates in the page, which the page's policy forbids."""
    deadline = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never: {expression}"
        page.wait_for_timeout(50)


def replied(page, replies=1):
    """Wait until that many replies are whole."""
    until(page, f"document.querySelectorAll('.turn details').length === {replies}")
    page.wait_for_selector("#send:visible")


def noticed(page):
    page.wait_for_selector("#notice:not(:empty)")
    return page.inner_text("#notice")


def tab_to(page, selector, key="Tab"):
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached with {key}")


def test_by_keyboard_alone_from_a_card_to_the_fact_behind_a_mark(opened, served, api, backend):
    # Emoji are two or more UTF-16 units each, and the gateway's places are in code points.
    backend.says("👩‍🍳🎸 Two ca", "ts [P", "2], 𝄞 and", " a dog! [P2][P9]")
    page = opened(served)
    tab_to(page, "#new-card")
    page.keyboard.press("Enter")
    page.keyboard.type("Nora Bell")
    tab_to(page, "#card-facts")
    page.keyboard.type("\n".join(FACTS))
    tab_to(page, "#card-form button")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'message'")
    assert api.get("/v1/personas/nora-bell") == {"id": "nora-bell", "name": "Nora Bell", "facts": FACTS}

    page.keyboard.type("Do you have")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("a dog or a cat?")
    page.keyboard.press("Enter")
    replied(page)
    assert page.locator(".user .text").text_content() == "Do you have\na dog or a cat?"
    assert page.locator(".assistant .text").text_content() == "👩‍🍳🎸 Two cats [P2], 𝄞 and a dog! [P2]"
    assert page.locator(".mark").all_text_contents() == ["[P2]", "[P2]"]

    [item] = api.get("/v1/conversations")["data"]
    reply = api.get(f"/v1/conversations/{item['id']}")["turns"][1]
    score = f"{reply['citations'][0]['score']:.3f}"
    tab_to(page, ".mark", "Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fact:popover-open")
    assert page.inner_text("#fact-text") == f"[P2] {FACTS[1]}"
    assert score in page.inner_text("#fact-score")
    page.keyboard.press("Escape")
    page.wait_for_selector("#fact", state="hidden")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.mark')[1]")

    tab_to(page, ".turn summary")
    page.keyboard.press("Enter")
    [first, *_] = page.locator(".turn details li").all_inner_texts()
    assert first == f"[P2] {FACTS[1]} {score}"


def test_the_conversation_is_there_after_a_reload_and_others_can_be_opened_and_deleted(opened, served, api, backend):
    api.put("nora", FACTS)
    backend.says("I have two cats. [P2]")
    page = opened(served)
    say(page, MESSAGE)
    replied(page)
    say(page, "Really?")
    replied(page, 2)
    log = page.inner_text("#log")
    page.reload()
    replied(page, 2)
    assert page.inner_text("#log") == log
    page.locator(".mark").first.click()
    assert FACTS[1] in page.inner_text("#fact-text")
    page.click("#fact-close")

    page.click("#new-talk")
    assert page.locator(".turn").count() == 0
    say(page, "Another one.")
    replied(page)
    assert [item["turns"] for item in api.get("/v1/conversations")["data"]] == [2, 4]
    page.locator("#talks .talk").last.click()
    replied(page, 2)
    page.go_back()
    replied(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#talks [aria-label^=Delete]").first.click()
    until(page, "document.querySelectorAll('#talks li').length === 1")
    assert page.locator(".turn").count() == 0


def test_marks_are_plain_text_until_the_reply_is_whole(opened, served, api, backend):
    api.put("nora", FACTS)
    backend.says("I have two cats. [P2]", " And", waits=True)
    page = opened(served)
    say(page, MESSAGE)
    until(page, "document.querySelector('.assistant .text').textContent.endsWith(' And')")
    assert page.locator(".mark").count() == 0
    assert page.get_attribute("#log", "aria-busy") == "true"
    backend.gate.set()
    replied(page)
    assert page.locator(".mark").count() == 1
    assert page.get_attribute("#log", "aria-busy") == "false"


def test_stop_ends_the_backends_work_and_the_next_message_works(opened, served, api, backend):
    api.put("nora", FACTS)
    backend.says("I could go on", waits=True)
    backend.hung_up.clear()
    page = opened(served)
    say(page, TYPED)
    until(page, "document.querySelector('.assistant .text').textContent.length > 5")
    page.click("#stop")
    assert noticed(page) == "Stopped."
    assert backend.hung_up.wait(10)
    assert page.input_value("#message") == TYPED
    assert page.evaluate("document.activeElement.id") == "message"
    backend.says("Hello.")
    page.press("#message", "Enter")
    replied(page)
    assert page.inner_text("#notice") == ""
    assert [item["turns"] for item in api.get("/v1/conversations")["data"]] == [2]


def test_stop_before_the_first_word_leaves_the_conversation_free(opened, served, api, backend):
    api.put("nora", FACTS)
    page = opened(served)
    say(page, "First.")
    replied(page)
    backend.says(waits=True)
    backend.hung_up.clear()
    say(page, TYPED)
    page.wait_for_selector("#stop:visible")
    page.wait_for_timeout(500)  # the backend has the question by now
    page.click("#stop")
    assert noticed(page) == "Stopped."
    assert backend.hung_up.wait(10)
    backend.says("Hello.")
    page.press("#message", "Enter")
    replied(page, 2)
    assert [item["turns"] for item in api.get("/v1/conversations")["data"]] == [4]


@pytest.mark.parametrize(
    ("fault", "sentence"), [({"status": 500}, "failed with status 500"), ({"dies": True}, "broke its answer off")]
)
def test_an_error_is_a_sentence_and_the_next_message_works(opened, served, api, backend, fault, sentence):
    api.put("nora", FACTS)
    backend.says("I was about to", **fault)
    page = opened(served)
    say(page, TYPED)
    assert sentence in noticed(page)
    assert page.input_value("#message") == TYPED
    backend.says("Hello.")
    page.press("#message", "Enter")
    replied(page)
    assert page.inner_text("#notice") == ""
    assert page.locator(".assistant .text").last.text_content() == "Hello."


def test_a_gateway_that_is_gone_is_a_sentence(opened, served, api):
    api.put("nora", FACTS)
    page = opened(served)
    page.route("**/v1/**", lambda route: route.abort())
    say(page, TYPED)
    assert "cannot be reached" in noticed(page)
    assert page.input_value("#message") == TYPED
    page.unroute("**/v1/**")
    page.press("#message", "Enter")
    replied(page)


def test_markup_from_cards_and_replies_is_text(opened, served, api, backend):
    attack = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
    backend.says(f"{attack} [P1]", " javascript:window.hit=1")
    api.put("nora", [f"{attack} is my dog or cat."])
    page = opened(served)
    page.click("#edit-card")
    page.fill("#card-name", attack)
    page.click("#card-form button")
    page.wait_for_selector("#card", state="hidden")
    say(page, f"{attack} Do you have a dog or a cat?")
    replied(page)
    page.locator(".mark").click()
    page.wait_for_selector("#fact:popover-open")
    page.reload()
    replied(page)
    assert page.locator(".assistant .text").text_content().startswith(attack)
    assert page.locator(".assistant h3").text_content() == attack
    assert page.locator("img, body script").count() == 0
    assert page.evaluate("window.hit") is None


def card_file(tmp_path, **data):
    path = tmp_path / "mia.json"
    card = {"spec": "chara_card_v2", "spec_version": "2.0", "data": {"name": "Mia", "tags": ["sea"], **data}}
    path.write_text(json.dumps(card), encoding="utf-8")
    return path


def exported(page):
    with page.expect_download() as download:
        page.click("#export-card")
    assert download.value.suggested_filename.endswith(".json")
    return json.loads(download.value.path().read_text(encoding="utf-8"))


def test_character_cards_come_in_and_go_out_with_all_that_they_say(opened, served, api, tmp_path):
    page = opened(served)
    page.set_input_files(
        "#card-file", card_file(tmp_path, description="{{char}} sails. She is 30.", scenario="A port.")
    )
    assert noticed(page) == "Mia was imported."
    assert page.locator("#facts li").all_inner_texts() == ["Mia sails.", "She is 30."]
    assert page.input_value("#person") == "mia"
    page.click("#edit-card")
    page.fill("#card-facts", "Mia sails.\n\n  She is 31.  ")
    page.click("#card-form button")
    until(page, "document.querySelectorAll('#facts li')[1].textContent === 'She is 31.'")
    card = exported(page)
    assert (card["spec"], card["data"]["scenario"], card["data"]["tags"]) == ("chara_card_v2", "A port.", ["sea"])
    assert card["data"]["description"] == "Mia sails.\nShe is 31."
    # The export comes in again, beside the first card, as the same one.
    again = tmp_path / "again.json"
    again.write_text(json.dumps(card), encoding="utf-8")
    page.set_input_files("#card-file", again)
    until(page, "document.querySelectorAll('#person option').length === 2")
    until(page, "document.querySelector('#person').value.startsWith('mia-')")
    assert exported(page) == card


def test_a_file_that_is_no_card_is_a_sentence(opened, served, api, tmp_path):
    page = opened(served)
    path = tmp_path / "photo.json"
    for content in (b"\x89PNG", b"[1]", b"null", b'{"spec": "chara_card_v3", "data": {}}'):
        path.write_bytes(content)
        page.set_input_files("#card-file", path)
        assert noticed(page) == "photo.json is no character card V2 in JSON."
    page.set_input_files("#card-file", card_file(tmp_path))
    until(page, "document.querySelector('#notice').textContent.includes('add a fact')")


def test_names_that_no_id_can_hold_get_one_and_cards_do_not_replace_each_other(opened, served, api):
    page = opened(served)
    for name in ("小明", "小红", "Zoë", "Zoe", "../ etc", "123"):
        page.click("#new-card")
        page.fill("#card-name", name)
        page.fill("#card-facts", FACTS[0])
        page.click("#card-form button")
        page.wait_for_selector("#card", state="hidden")
    found = {card["name"]: card["id"] for card in api.get("/v1/personas")["data"]}
    assert len(found) == 6
    assert (found["Zoë"], found["../ etc"], found["123"]) == ("zoe", "etc", "123")
    assert re.fullmatch(r"zoe-\w{6}", found["Zoe"])
    assert re.fullmatch(r"card-\w{6}", found["小明"])


def test_a_conversation_outlives_its_card(opened, served, api, backend):
    api.put("nora", FACTS)
    page = opened(served)
    say(page, TYPED)
    replied(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#delete-card")
    until(page, "document.querySelector('#person').selectedOptions[0].textContent === 'card deleted'")
    backend.says("Two cats. [P2]")
    say(page, MESSAGE)
    replied(page, 2)
    assert page.locator(".mark").count() == 1
    page.click("#new-talk")
    say(page, TYPED)
    assert noticed(page) == "Make a card first, or import one."


def test_another_person_is_another_conversation(opened, served, api):
    api.put("mia", ["I sail."])
    api.put("nora", FACTS)
    page = opened(served)
    say(page, TYPED)
    replied(page)
    page.select_option("#person", "nora")
    say(page, TYPED)
    replied(page)
    assert [item["persona"] for item in api.get("/v1/conversations")["data"]] == ["nora", "mia"]
    page.locator("#talks .talk").last.click()
    until(page, "document.querySelector('#person').value === 'mia'")


def test_the_switch_for_citations_is_sent(opened, served, api):
    api.put("nora", FACTS)
    page = opened(served)
    for choice in ("verified", "model", ""):
        page.select_option("#citations", choice)
        # Only what is asked is of interest here; the labeller has tests of its own.
        with page.expect_request("**/v1/chat/completions") as asked:
            page.route("**/v1/chat/completions", lambda route: route.abort())
            say(page, TYPED)
        assert asked.value.post_data_json["citations"] == (choice or None)
        noticed(page)


def test_a_phone_scrolls_nothing_sideways(opened, served, api, backend):
    word = "Donaudampfschifffahrtsgesellschaft" * 4
    api.put("nora", [f"I have a dog or a cat called {word}.", *FACTS])
    backend.says(f"{word} [P1]")
    page = opened(served, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)

    def fits():
        return page.evaluate("document.documentElement.scrollWidth <= 360 && log.scrollWidth <= log.clientWidth")

    say(page, MESSAGE)
    replied(page)
    assert fits()
    page.locator(".turn summary").tap()
    page.locator(".mark").tap()
    page.wait_for_selector("#fact:popover-open")
    box = page.locator("#fact").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert fits()
    page.locator("#fact-close").tap()
    page.locator("#side summary").tap()
    assert fits()
    page.locator("#new-card").tap()
    assert page.locator("#card").bounding_box()["width"] <= 360
    assert fits()


def test_the_page_speaks_chinese_and_english(opened, served, api):
    page = opened(served, locale="zh-CN")
    assert page.inner_text("#send") == "发送"
    assert page.get_attribute("html", "lang") == "zh-Hans"
    page.click("#language")
    assert page.inner_text("#send") == "Send"
    page.reload()
    assert page.inner_text("#send") == "Send"


@pytest.mark.parametrize("path", ["/", "/page/index.html", "/page/page.js"])
def test_every_way_to_the_page_has_its_policy_and_asks_anew(served, path):
    response = httpx.get(served + path, trust_env=False)
    assert response.status_code == 200
    assert {name: response.headers[name] for name in PAGE_HEADERS} == PAGE_HEADERS
    again = httpx.get(served + path, trust_env=False, headers={"If-None-Match": response.headers["etag"]})
    assert again.headers["Cache-Control"] == "no-cache"


def test_every_field_has_a_label_and_every_button_a_name(opened, served, api):
    api.put("nora", FACTS)
    page = opened(served)
    say(page, TYPED)
    replied(page)
    unnamed = """[...document.querySelectorAll('input, select, textarea, button')].filter(one =>
        !(one.labels?.length || one.ariaLabel || one.getAttribute('aria-labelledby') || one.textContent.trim()))"""
    assert page.evaluate(f"{unnamed}.map(one => one.outerHTML)") == []


def test_a_key_is_asked_for_kept_for_the_session_and_a_wrong_one_named(opened, backend, retriever_json, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("alice sk-alice\n", encoding="utf-8")
    backend.says("Hello.")
    with gateway_at(backend.url, retriever_json, tmp_path, "--keys", str(keys)) as (url, _):
        http = httpx.Client(base_url=url, trust_env=False, headers={"Authorization": "Bearer sk-alice"})
        http.put("/v1/personas/nora", json={"name": "Nora", "facts": FACTS}).raise_for_status()
        page = opened(url, viewport={"width": 360, "height": 640})
        assert noticed(page) == "This gateway asks for an API key; enter it under Settings."
        assert page.evaluate("document.activeElement.id") == "key"
        for wrong in ("sk-bob", "密钥"):
            page.keyboard.type(wrong)
            page.keyboard.press("Enter")
            until(page, "document.querySelector('#notice').textContent.includes('does not know this API key')")
        page.fill("#key", "sk-alice")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#person').value === 'nora'")
        assert page.inner_text("#notice") == ""
        say(page, TYPED)
        replied(page)
        page.reload()
        replied(page)
        assert page.evaluate("[sessionStorage.getItem('key'), localStorage.getItem('key')]") == ["sk-alice", None]


@pytest.mark.slow
def test_with_the_real_model(opened, retriever_json, tmp_path):
    with persona_tiny_at(tmp_path / "api.log") as api_url, gateway_at(api_url, retriever_json, tmp_path) as (url, _):
        Api(url).put("nora", FACTS)
        page = opened(url)
        for number, message in enumerate((MESSAGE, "Do you play the guitar in a band?"), start=1):
            say(page, message)
            replied(page, number)
            assert len(page.locator(".assistant .text").last.text_content()) > 5
        page.locator(".turn summary").last.click()
        assert f"[P3] {FACTS[2]}" in page.locator(".turn").last.inner_text()
        if page.locator(".mark").count():  # this small model sets marks often, not always
            page.locator(".mark").first.click()
            assert page.inner_text("#fact-text")[5:] in FACTS
