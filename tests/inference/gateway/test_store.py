"""Cards and conversations survive a kill, and two writers."""

import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from inference.gateway.store import Full, Persona, Store, StoredConversation, StoreError, Taken, Turn
from tests.conftest import ROOT
from tests.inference.gateway.conftest import FACTS

TURNS = [Turn("user", "Hi", {}), Turn("assistant", "Hello", {"citations": []})]
WRITER = """
import sys
from inference.gateway.store import *
store = Store(sys.argv[1])
for number in range(100_000):
    store.put_persona("me", Persona(f"p{number}", "", ["I count."]), 10**6)
    conversation = store.conversation("me", "c") or StoredConversation("c", None, [], [])
    store.append("me", conversation, [Turn("user", str(number), {}), Turn("assistant", str(number), {})], 10)
    print(number, flush=True)
"""


def test_an_acknowledged_write_survives_kill_9(tmp_path):
    path = str(tmp_path / "store.sqlite")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in writer.stdout:
        if int(line) >= 20:
            break
    writer.send_signal(signal.SIGKILL)
    acknowledged = int(([line, *writer.stdout])[-1])
    writer.wait()
    store = Store(path)
    assert len(store.personas("me")) in (acknowledged + 1, acknowledged + 2)
    contents = [turn.content for turn in store.conversation("me", "c").turns]
    assert contents[::2] == contents[1::2] == [str(n) for n in range(len(contents) // 2)]
    assert len(contents) // 2 in (acknowledged + 1, acknowledged + 2)


def test_of_two_writers_to_one_conversation_one_is_told(tmp_path):
    stores = [Store(str(tmp_path / "store.sqlite")) for _ in range(2)]
    seen = StoredConversation("c", None, [], [])
    stores[0].append("me", seen, TURNS, 10)
    with pytest.raises(Taken):
        stores[1].append("me", seen, TURNS, 10)
    again = stores[1].conversation("me", "c")
    stores[1].append("me", again, TURNS, 10)
    assert [turn.role for turn in stores[0].conversation("me", "c").turns] == ["user", "assistant"] * 2
    stores[0].delete_conversation("me", "c")
    with pytest.raises(Taken):
        stores[1].append("me", stores[1].conversation("me", "c") or again, TURNS, 10)


def test_many_threads_lose_nothing(tmp_path):
    store = Store(str(tmp_path / "store.sqlite"))

    def write(who):
        for number in range(20):
            store.put_persona("me", Persona(f"{who}-{number}", "", FACTS), 1000)
            store.persona("me", f"{who}-{number}")

    threads = [threading.Thread(target=write, args=(who,)) for who in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.personas("me")) == 80


def test_a_store_that_another_program_holds_is_one_sentence(tmp_path):
    path = str(tmp_path / "store.sqlite")
    store = Store(path)
    store._db.execute("PRAGMA busy_timeout = 100")
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="cannot be used"):
        store.put_persona("me", Persona("a", "", FACTS), 1)
    assert store.personas("me") == []
    other.rollback()
    store.put_persona("me", Persona("a", "", FACTS), 1)
    assert store.personas("me")


def test_nobody_else_on_the_machine_reads_it(tmp_path):
    Store(str(tmp_path / "store.sqlite")).put_persona("me", Persona("a", "", FACTS), 1)
    assert {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {0}


def test_limits_are_one_sentence(tmp_path):
    store = Store(":memory:")
    store.put_persona("me", Persona("a", "", FACTS), 1)
    store.put_persona("me", Persona("a", "new", FACTS), 1)  # in its own place
    with pytest.raises(Full, match="1 cards already"):
        store.put_persona("me", Persona("b", "", FACTS), 1)
    store.put_persona("you", Persona("b", "", FACTS), 1)
    store.append("me", StoredConversation("c", None, [], []), TURNS, 1)
    with pytest.raises(Full, match="1 conversations already"):
        store.append("me", StoredConversation("d", None, [], []), TURNS, 1)
    (tmp_path / "no.sqlite").mkdir()
    with pytest.raises(ValueError, match=r"no\.sqlite cannot be opened"):
        Store(str(tmp_path / "no.sqlite"))
