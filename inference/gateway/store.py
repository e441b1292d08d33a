"""Cards and conversations in SQLite. What was acknowledged survives a kill and a power cut; each owner has its own."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

SCHEMA = """
CREATE TABLE IF NOT EXISTS persona (
    owner TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, facts TEXT NOT NULL,
    card TEXT,  -- the character card that it came from, whose other fields an export gives back
    PRIMARY KEY (owner, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conversation (
    number INTEGER PRIMARY KEY, owner TEXT NOT NULL, id TEXT NOT NULL, persona TEXT, facts TEXT NOT NULL,
    UNIQUE (owner, id)
);
CREATE TABLE IF NOT EXISTS turn (
    conversation INTEGER NOT NULL REFERENCES conversation (number) ON DELETE CASCADE,
    place INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, details TEXT NOT NULL,
    PRIMARY KEY (conversation, place)
) WITHOUT ROWID;
"""


class Taken(Exception):
    """Somebody else wrote to the conversation in the meantime."""


class Full(Exception):
    """The owner has as many as may be."""


class StoreError(Exception):
    """SQLite cannot read or write: the disk is full, or another program holds the file."""


@dataclass(frozen=True)
class Persona:
    """A card. ``card``: the data of the character card that it came from, or None."""

    id: str
    name: str
    facts: list[str]
    card: dict | None = None


@dataclass(frozen=True)
class Turn:
    """A message. ``details``: JSON that belongs to it, such as the citations of a reply."""

    role: str
    content: str
    details: dict


@dataclass(frozen=True)
class StoredConversation:
    """A conversation, with the facts of its card as they were when it began (none: no card)."""

    id: str
    persona: str | None
    facts: list[str]
    turns: list[Turn]


class Store:
    """A SQLite file, or ``:memory:``. Raises ValueError if it cannot be opened.

    Reads have a connection of their own, so that they wait for no writer: a card is read in some 20 microseconds.
    """

    def __init__(self, path: str):
        self._lock = self._reading_lock = Lock()
        try:
            if path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).touch(mode=0o600)  # what people say to each other is nobody else's on a shared machine
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # else the last writes are lost with the power
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.executescript(SCHEMA)
            self._reading = self._db
            if path != ":memory:":
                self._reading = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
                self._reading_lock = Lock()
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"The store {path} cannot be opened ({error}); name another with --store.") from None

    def close(self) -> None:
        with self._lock:
            self._db.close()
        with self._reading_lock:
            self._reading.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _transaction(self._db, "BEGIN IMMEDIATE"):
            yield self._db

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """All that is read in it is of one state."""
        with self._reading_lock, _transaction(self._reading, "BEGIN"):
            yield self._reading

    def put_persona(self, owner: str, persona: Persona, limit: int) -> None:
        """Store a card, in the place of one with its id. Raises Full if ``owner`` has ``limit`` others."""
        with self._writing() as db:
            [(others,)] = db.execute("SELECT count(*) FROM persona WHERE owner = ? AND id <> ?", (owner, persona.id))
            if others >= limit:
                raise Full(f"There are {limit:,} cards already; delete some.")
            db.execute(
                "INSERT OR REPLACE INTO persona VALUES (?, ?, ?, ?, ?)",
                (owner, persona.id, persona.name, json.dumps(persona.facts), json.dumps(persona.card)),
            )

    def persona(self, owner: str, name: str) -> Persona | None:
        """The card of that id, if there is one."""
        query = "SELECT id, name, facts, card FROM persona WHERE owner = ? AND id = ?"
        with self._snapshot() as db:
            row = db.execute(query, (owner, name)).fetchone()
        return row and Persona(row[0], row[1], json.loads(row[2]), json.loads(row[3]))

    def personas(self, owner: str) -> list[Persona]:
        """All cards, by id, without what other programs keep in them."""
        query = "SELECT id, name, facts FROM persona WHERE owner = ? ORDER BY id"
        with self._snapshot() as db:
            return [Persona(row[0], row[1], json.loads(row[2])) for row in db.execute(query, (owner,))]

    def delete_persona(self, owner: str, name: str) -> bool:
        """Whether there was one."""
        with self._writing() as db:
            return db.execute("DELETE FROM persona WHERE owner = ? AND id = ?", (owner, name)).rowcount > 0

    def conversation(self, owner: str, name: str) -> StoredConversation | None:
        """The conversation of that id, if there is one."""
        query = "SELECT number, persona, facts FROM conversation WHERE owner = ? AND id = ?"
        with self._snapshot() as db:
            row = db.execute(query, (owner, name)).fetchone()
            if row is None:
                return None
            query = "SELECT role, content, details FROM turn WHERE conversation = ? ORDER BY place"
            turns = db.execute(query, (row[0],)).fetchall()
        turns = [Turn(role, content, json.loads(details)) for role, content, details in turns]
        return StoredConversation(name, row[1], json.loads(row[2]), turns)

    def conversations(self, owner: str) -> list[tuple[str, str | None, int]]:
        """Id, persona and number of turns of all conversations, the newest first."""
        query = (
            "SELECT id, persona, (SELECT count(*) FROM turn WHERE conversation = number)"
            " FROM conversation WHERE owner = ? ORDER BY number DESC"
        )
        with self._snapshot() as db:
            return db.execute(query, (owner,)).fetchall()

    def delete_conversation(self, owner: str, name: str) -> bool:
        """Whether there was one."""
        with self._writing() as db:
            return db.execute("DELETE FROM conversation WHERE owner = ? AND id = ?", (owner, name)).rowcount > 0

    def append(self, owner: str, conversation: StoredConversation, turns: list[Turn], limit: int) -> None:
        """Add ``turns`` to ``conversation``, which is begun if it has none yet, all or none.

        Raises Taken if there are others by now, and Full if ``owner`` has ``limit`` conversations.
        """
        key = (owner, conversation.id)
        with self._writing() as db:
            row = db.execute("SELECT number FROM conversation WHERE owner = ? AND id = ?", key).fetchone()
            if row is None:
                if conversation.turns:
                    raise Taken
                [(others,)] = db.execute("SELECT count(*) FROM conversation WHERE owner = ?", (owner,))
                if others >= limit:
                    raise Full(f"There are {limit:,} conversations already; delete some.")
                insert = "INSERT INTO conversation (owner, id, persona, facts) VALUES (?, ?, ?, ?) RETURNING number"
                row = db.execute(insert, (*key, conversation.persona, json.dumps(conversation.facts))).fetchone()
            [(there,)] = db.execute("SELECT count(*) FROM turn WHERE conversation = ?", row)
            if there != len(conversation.turns):
                raise Taken
            db.executemany(
                "INSERT INTO turn VALUES (?, ?, ?, ?, ?)",
                [(*row, there + n, t.role, t.content, json.dumps(t.details)) for n, t in enumerate(turns)],
            )


@contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    """All or nothing. Raises StoreError for what SQLite cannot do."""
    try:
        db.execute(begin)
        try:
            yield
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise StoreError(f"The gateway's store cannot be used ({error}); try again later.") from error
