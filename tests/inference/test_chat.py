import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from inference.card_file import EXAMPLE, read_persona
from inference.character_card import to_card
from inference.chat import Chat, parser, plain
from inference.chat import build as build_chat
from retrieval.documents import build_store
from retrieval.prompt import SYSTEM_PROMPTS
from retrieval.registry import open_retriever, save_retriever
from tests.conftest import ENV, ROOT, free_port, in_process, persona_tiny_at, python_m
from tests.inference.fake_openai import serving

DOGS = "Do you have a dog or a cat?"
SAID = ["Yes, I have ", "a dog. [P", "2] And you? [P", "9]"]


@pytest.fixture
def server():
    with serving() as one:
        one.say = lambda messages: SAID
        yield one


@pytest.fixture(scope="session")
def retriever(tmp_path_factory):
    path = tmp_path_factory.mktemp("retriever") / "retriever.json"
    save_retriever(path, open_retriever("small", query_turns=1))
    return path


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents") / "store"
    build_store(ROOT / "tests/retrieval/documents", "small", query_turns=1).save(folder)
    return folder


@pytest.fixture
def open_chat(server, retriever):
    def opening(*arguments, styled=False) -> Chat:
        arguments = ("--backend", server.url, "--retriever", str(retriever), *arguments)
        return build_chat(parser().parse_args(arguments), styled)

    return opening


def contents(request):
    return [message["content"] for message in request["messages"]]


def test_the_facts_stand_before_the_reply_and_the_cited_ones_after_it(open_chat, capsys):
    open_chat().run([DOGS + "\n"])
    out, err = capsys.readouterr()
    *retrieved, reply, cited, empty = out.splitlines()
    assert [re.fullmatch(r"  retrieved  0\.\d{3}  (\[P\d\] .+)", line)[1] for line in retrieved] == [
        f"[P2] {EXAMPLE[1]}", f"[P5] {EXAMPLE[4]}",
    ]  # fmt: skip
    assert (reply, cited, empty) == ("Persona: Yes, I have a dog. [P2] And you?", f"  cited      [P2] {EXAMPLE[1]}", "")
    assert err == ""


def test_where_nothing_fits_and_nothing_is_cited_it_says_so(open_chat, server, capsys):
    server.say = lambda messages: ["Hello."]
    open_chat().run(["Quark?"])
    assert capsys.readouterr().out == "  retrieved  nothing fits\nPersona: Hello.\n  cited      nothing\n\n"


def test_the_conversation_goes_on_with_true_marks_until_a_new_one(open_chat, server, capsys):
    open_chat().run([DOGS, "\n", "Do you play in a band?", "newsession", "Pizza?", "/new", "Guitar?"])
    requests = server.requests
    assert [len(request["messages"]) for request in requests] == [2, 4, 2, 2]
    assert contents(requests[1])[:3] == [*contents(requests[0]), "Yes, I have a dog. [P2] And you?"]
    assert contents(requests[0])[0] == SYSTEM_PROMPTS["en"]
    assert contents(requests[3])[1].startswith("Guitar?\n[P3] ")
    assert capsys.readouterr().out.count("A new conversation with Persona.\n") == 2


@pytest.mark.parametrize("word", ["quit", "/quit"])
def test_quit_ends_the_chat(open_chat, server, word):
    open_chat().run([word, DOGS])
    assert server.requests == []


def test_facts_shows_the_card_and_what_was_retrieved(open_chat, capsys):
    chat = open_chat("--hide-facts")
    chat.run(["/facts", DOGS, "/facts", "/new", "/facts"])
    out = capsys.readouterr().out
    card = "".join(f"  [P{number}] {fact}\n" for number, fact in enumerate(EXAMPLE, start=1))
    assert out.startswith(card + "Persona: ")
    assert out.count(card) == 3
    assert out.count("For the last message:\n") == 1
    assert re.findall(r"  retrieved  0\.\d+  \[(P\d)\]", out) == ["P2", "P5"]


def test_documents_can_be_turned_on_and_off(open_chat, server, store, capsys):
    museum = "When does the museum open, and on which days is it shut?"
    server.say = lambda messages: ["At ten. [D5]"]
    open_chat().run([museum, f"/docs {store}", museum, "Quark?", "/docs", "/docs off", museum])
    shown = [re.findall(r"\[D\d\]", contents(request)[-1]) for request in server.requests]
    assert [bool(marks) for marks in shown] == [False, True, False, False]
    out, err = capsys.readouterr()
    assert out.count("7 passages of 3 documents are looked through.\n") == 2
    assert out.count("Documents are off.\n") == 1
    assert out.count("Persona: At ten. [D5]\n") == 2  # once from the turn before; elsewhere it points at nothing
    assert re.search(r"  cited      \[D5\] The Harbour Museum opens at ten .* \(museum\.txt\)\n", out)
    assert err == ""


def test_another_persona_begins_a_new_conversation(open_chat, server, tmp_path, capsys):
    card = tmp_path / "ann.json"
    card.write_text(json.dumps(to_card("Ann", ["I sail a yacht.", "I have a parrot."])), encoding="utf-8")
    lines = tmp_path / "card.txt"
    lines.write_text("I drive a night bus.\n", encoding="utf-8")
    server.say = lambda messages: ["Yes. [P1]"]
    open_chat("--card", str(lines)).run(["Do you drive a bus?", f"/persona {card}", "Do you sail a yacht?", "/facts"])
    out = capsys.readouterr().out
    assert "Persona: Yes. [P1]\n  cited      [P1] I drive a night bus.\n" in out
    assert "A new conversation with Ann.\n" in out
    assert "Ann: Yes. [P1]\n  cited      [P1] I sail a yacht.\n" in out
    assert out.count("[P2] I have a parrot.") >= 1
    assert [len(request["messages"]) for request in server.requests] == [2, 2]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/foo bar", r"There is no command /foo; /help lists what there is\."),
        ("/persona", r"/persona needs a file: .*\."),
        ("/persona nowhere.txt", r"The card nowhere\.txt cannot be read \(.*\)\."),
        ("/persona nowhere.json", r"The card nowhere\.json cannot be read \(.*\)\."),
        ("/docs nowhere", r"nowhere holds no whole store \(.*\)\."),
        ("word " * 4000, r"The message, its facts and the instructions take .*\."),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_the_chat_goes_on(open_chat, server, capsys, line, sentence):
    open_chat().run([line, DOGS])
    assert re.fullmatch(sentence + "\n", capsys.readouterr().err)
    assert [len(request["messages"]) for request in server.requests] == [2]


def test_help_names_every_command(open_chat, capsys):
    open_chat().run(["/help"])
    out = capsys.readouterr().out
    assert {"/new", "/quit", "/persona", "/facts", "/docs"} <= set(re.findall(r"/[a-z]+", out))


def test_what_the_model_is_asked_with(open_chat, server, monkeypatch):
    monkeypatch.setenv("API_KEY", "secret")
    server.say = lambda messages: ['Ann: "Yes. ', '"', "\nUser: No."]
    chat = open_chat("--temperature", "0.001", "--max-tokens", "30", "--history", "block", "--quote", "--name", "Ann")
    chat.run([DOGS, "Really?"])
    first, second = server.requests
    assert (first["temperature"], first["max_tokens"], first["stream"]) == (0.0, 30, True)
    assert contents(first)[1].startswith(f'User: "{DOGS}"\n[P2] {EXAMPLE[1]}\n')
    assert 'Ann: "Yes."\nUser: "Really?"' in contents(second)[1]
    assert set(server.keys) == {"Bearer secret"}


def test_in_a_script_the_reply_ends_before_the_next_line_of_the_user(open_chat, server, capsys):
    server.say = lambda messages: ["Ann: Yes.\nUs", "er: And then?\nAnn: No."]
    open_chat("--history", "block", "--name", "Ann").run([DOGS])
    assert "Ann: Yes.\n  cited      nothing\n" in capsys.readouterr().out


def test_a_long_conversation_is_summed_up(open_chat, server, capsys):
    def say(messages):
        return ["Scene: a café."] if messages[-1]["content"].startswith("Summarise") else ["So it is. " * 10]

    server.say = say
    open_chat("--memory", "summary", "--max-length", "600", "--max-tokens", "60").run(["I like pizza. " * 5] * 9)
    out, err = capsys.readouterr()
    assert (out.count("Persona: So it is."), err) == (9, "")
    assert contents(server.requests[-1])[0].endswith("Earlier in this conversation:\nScene: a café.")


def test_marks_are_verified_on_demand(open_chat, server, capsys, monkeypatch):
    from data_prep.labellers.overlap import OverlapLabeller

    monkeypatch.setattr("inference.assembly.open_labeller", OverlapLabeller)
    server.say = lambda messages: ["I play the guitar. ", "[P1] My dog barks."]
    open_chat("--citations", "verified").run([DOGS])
    assert "Persona: I play the guitar. [P3] My dog barks. [P2][P5]\n" in capsys.readouterr().out


def test_a_backend_that_is_down_is_one_sentence_and_the_chat_goes_on(retriever, capsys):
    port = free_port()
    arguments = ("--backend", f"http://127.0.0.1:{port}/v1", "--retriever", str(retriever))
    chat = build_chat(parser().parse_args(arguments), False)

    def lines():
        yield DOGS
        with serving(port) as server:
            yield "Do you play in a band?"
            assert [len(request["messages"]) for request in server.requests] == [2]

    chat.run(lines())
    out, err = capsys.readouterr()
    assert err == f"No backend answers at http://127.0.0.1:{port}/v1; start one with `make serve`.\n"
    assert out.endswith("Persona: Hello.\n  cited      nothing\n\n")


def test_a_reply_that_breaks_off_is_forgotten(open_chat, server, capsys):
    def lines():
        server.broken = True
        yield DOGS
        server.broken = False
        yield DOGS

    open_chat().run(lines())
    out, err = capsys.readouterr()
    assert "Persona: Yes, I have\n  retrieved" in out.replace("have \n", "have\n")
    assert err.count("\n") == 1
    assert [len(request["messages"]) for request in server.requests] == [2, 2]


def test_a_model_that_says_nothing_is_forgotten(open_chat, server, capsys):
    server.say = lambda messages: ["", "[P9]"]
    open_chat().run([DOGS, DOGS])
    out, err = capsys.readouterr()
    assert "Persona:" not in out
    assert err == "The model said nothing; this exchange is forgotten.\n" * 2
    assert [len(request["messages"]) for request in server.requests] == [2, 2]


def test_the_reply_is_shown_as_it_comes(open_chat, server, capsys):
    server.say, server.pause = lambda messages: ["I drive ", "a bus", "."], 0.2
    shown = []

    class Screen:
        def write(self, text):
            shown.append(text)

        def flush(self):
            pass

        def isatty(self):
            return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", Screen())
        open_chat().run([DOGS])
    pieces = [text for text in shown if text.strip() and "retrieved" not in text and "cited" not in text]
    assert pieces == ["Persona:", "I drive", " a bus", "."]


def test_no_text_moves_the_cursor(open_chat, server, capsys):
    server.say = lambda messages: ["\x1b[2J", "Hi\x07\tthere."]
    open_chat("--name", "A\x1bB").run([DOGS])
    assert "AB: [2JHi\tthere.\n" in capsys.readouterr().out
    assert plain("a\r\x9b\n") == "a\n"


def test_styles_are_for_terminals(open_chat, capsys):
    open_chat(styled=True).run([DOGS])
    assert "\x1b[1mPersona:\x1b[0m Yes" in capsys.readouterr().out
    open_chat().run([DOGS])
    assert "\x1b" not in capsys.readouterr().out


def test_a_character_card_has_its_name_and_facts(tmp_path):
    path = tmp_path / "card.JSON"
    path.write_text(json.dumps({"spec": "chara_card_v2", "data": {"name": "Ann", "description": "{{char}} sails."}}))
    persona = read_persona(path)
    assert (persona.name, persona.facts) == ("Ann", ["Ann sails."])


@pytest.mark.parametrize("text", ["[]", '{"name": "Ann"}', '{"data": {}}', "no JSON"])
def test_what_is_no_character_card_is_one_sentence(tmp_path, text):
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^The (character )?card .*\.$"):
        read_persona(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--card", "nowhere.txt"],
        ["--retriever", "nowhere.json"],
        ["--temperature", "3"],
        ["--temperature", "nan"],
        ["--max-tokens", "0"],
        ["--max-length", "100"],
        ["--backend", "nowhere"],
        ["--documents", "nowhere"],
        ["--tokenizer", "/nowhere"],
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(retriever, arguments):
    done = in_process("inference.chat", "--retriever", str(retriever), *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.endswith(".\n")


def test_lines_can_be_piped_in(server, retriever):
    arguments = ("inference.chat", "--base-url", server.url, "--retriever", str(retriever))
    done = python_m(*arguments, input=f"/facts\n{DOGS}\n\nnewsession\n", env=ENV)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"  [P1] {EXAMPLE[0]}\n")
    assert done.stdout.endswith(f"  cited      [P2] {EXAMPLE[1]}\n\nA new conversation with Persona.\n")
    assert "You:" not in done.stdout


class Terminal:
    """A chat in a terminal of its own."""

    def __init__(self, url, retriever):
        import pty

        self.main, side = pty.openpty()
        command = [sys.executable, "-m", "inference.chat", "--backend", url, "--retriever", str(retriever)]
        env = {**ENV, "TERM": "dumb"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=side, stdout=side, stderr=side, env=env, start_new_session=True
        )
        os.close(side)
        self.seen = ""

    def until(self, text):
        """Read on until ``text`` comes."""
        deadline = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self.seen += os.read(self.main, 4096).decode()
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text):
        os.write(self.main, text.encode())

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def end_by_interrupts(self):
        """One that comes between the prompt and readline's wait for a key is only seen at the next one."""
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            self.interrupt()
            time.sleep(0.5)
        return self.ended()

    def ended(self):
        code = self.process.wait(timeout=30)
        os.close(self.main)
        return code


@pytest.fixture
def terminal(server, retriever):
    one = Terminal(server.url, retriever)
    yield one
    if one.process.poll() is None:
        one.process.kill()
        one.process.wait()


def test_ctrl_c_stops_the_reply_and_then_the_chat(terminal, server):
    server.pause = 1.0
    server.say = lambda messages: ["I drive ", *["on and on "] * 100]
    terminal.until("You: ")
    terminal.type(DOGS + "\n")
    terminal.until("Persona: I drive on")
    terminal.interrupt()
    terminal.until("Stopped; this exchange is forgotten.")
    terminal.until("You: ")
    server.say = lambda messages: ["Hello."]
    terminal.type("\x1b[A\n")  # the line before, called up again
    terminal.until("Persona: Hello.")
    assert [contents(request)[-1].split("\n")[0] for request in server.requests] == [DOGS, DOGS]
    assert [len(request["messages"]) for request in server.requests] == [2, 2]
    terminal.until("You: ")
    assert terminal.end_by_interrupts() == 0


def test_ctrl_d_ends_the_chat(terminal):
    assert "chat with Persona; /help" in terminal.until("You: ")
    terminal.type("\x04")
    assert terminal.ended() == 0


@pytest.mark.slow
def test_a_conversation_with_the_real_api(retriever, store, tmp_path):
    save_retriever(tmp_path / "retriever.json", open_retriever("small"))
    lines = [
        DOGS,
        "/facts",
        f"/docs {store}",
        "When does the museum open?",
        "newsession",
        "Do you play in a band?",
        "quit",
    ]
    with persona_tiny_at(tmp_path / "api.log", API_KEY="secret") as url:
        done = python_m(
            "inference.chat", "--backend", f"{url}/v1", "--retriever", str(tmp_path / "retriever.json"), "--tokenizer",
            "models/persona-tiny", "--temperature", "0", "--max-tokens", "40", input="\n".join(lines),
            env=ENV | {"API_KEY": "secret"},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"^Persona: \S.*\n  cited      (?:\[|nothing)", done.stdout, re.MULTILINE)) == 3
    first, second, third = re.split(r"passages of 3 documents are looked through\.|A new conversation.*", done.stdout)
    assert re.search(r"  retrieved  0\.\d+  \[P2\] I have two cats and a dog\.\n", first)
    assert first.count("[P1] I work as a baker in York.") == 1
    assert "(museum.txt)" in second
    assert "[P3] I play the guitar in a small band." in third
