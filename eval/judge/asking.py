"""Questions to the judge, several at a time, every answer kept in a log, so that a run that stops goes on where it was.

The endpoint is named as the ``openai`` package has it, by ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from openai import DefaultHttpxClient, OpenAI, OpenAIError
from tqdm import tqdm

from data_prep.errors import InputError
from eval.judge.prompts import Messages
from inference.served import LOOPBACK, host_of

OPENAI = "https://api.openai.com/v1"
Key = tuple[str, str, str | None, int, str]


@dataclass(frozen=True)
class Question:
    """One answer that is wanted. ``order``: which file's reply stands first, ``AB`` or ``BA``; None for one reply.

    ``sample``: from 0; the same prompt is asked as often as there are samples. ``parse``: gives None for an answer
    that cannot be read.
    """

    mode: str
    id: str
    order: str | None
    sample: int
    messages: Messages
    parse: Callable[[str], Any]


@dataclass
class Counts:
    """``asked``: questions; ``malformed``: those with no answer that can be read, after all retries; ``resumed``:
    those that an earlier run had settled."""

    asked: int
    malformed: int
    resumed: int


class Log:
    """Answers by question, in the order they came, one a line. Raises InputError if the file cannot be used."""

    def __init__(self, path: Path):
        self.answers: dict[Key, list[str]] = {}
        self._path, self._lock = path, Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole, _, half = path.read_bytes().rpartition(b"\n") if path.is_file() else (b"", b"", b"")
            for line in whole.splitlines():
                row = json.loads(line)
                self.answers.setdefault(tuple(row["key"]), []).append(row["answer"])
            if half:  # of a killed run
                os.truncate(path, len(whole) + bool(whole))
            path.open("a").close()  # told now, not after the first answer was paid for
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is no log of the judge; move it away, or name another OUT.") from None

    def add(self, key: Key, answer: str) -> None:
        with self._lock:
            self.answers.setdefault(key, []).append(answer)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "answer": answer}) + "\n")


class Judge:
    """A model behind an OpenAI-compatible endpoint. Raises InputError if its address or key is missing or wrong."""

    def __init__(self, model: str, temperature: float, retries: int, concurrency: int, log: Path):
        base_url = os.environ.get("OPENAI_BASE_URL") or OPENAI
        try:
            # A proxy set for the outside world cannot reach this machine's loopback.
            client = DefaultHttpxClient(trust_env=False) if host_of(base_url) in LOOPBACK else None
            self._api = OpenAI(base_url=base_url, http_client=client)
        except ValueError as error:
            raise InputError(f"OPENAI_BASE_URL: {error}") from None
        except OpenAIError:
            raise InputError("The judge needs OPENAI_API_KEY= (any word, if the endpoint asks none).") from None
        self._request = {"model": model, "temperature": temperature}
        self._retries, self._concurrency = retries, concurrency
        self._log = Log(log)

    def ask(self, questions: Sequence[Question]) -> tuple[list[Any], Counts]:
        """What was read of the answer to each question, None if nothing was, with the counts.

        Questions that are the same in all but their place are asked once. Raises InputError if the endpoint fails;
        what has been answered by then is in the log.
        """
        by_key = {self._key(question): question for question in questions}
        unsettled = {key: question for key, question in by_key.items() if not self._is_settled(key, question)}
        resumed = len(by_key) - len(unsettled)
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            jobs = [pool.submit(self._settle, key, question) for key, question in unsettled.items()]
            asked = f"{self._request['model']} at {self._api.base_url.host}"  # who is told what people wrote
            shown = {"total": len(by_key), "initial": resumed, "desc": asked, "delay": 5}
            for job in tqdm(as_completed(jobs), **shown):
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)  # what is under way is still answered, and kept
        read = {key: question.parse(self._log.answers[key][-1]) for key, question in by_key.items()}
        counts = Counts(len(by_key), sum(value is None for value in read.values()), resumed)
        return [read[self._key(question)] for question in questions], counts

    def _key(self, question: Question) -> Key:
        request = json.dumps(self._request | {"messages": question.messages}, sort_keys=True)
        digest = hashlib.sha256(request.encode()).hexdigest()[:16]
        return question.mode, question.id, question.order, question.sample, digest

    def _is_settled(self, key: Key, question: Question) -> bool:
        answers = self._log.answers.get(key, [])
        return len(answers) > self._retries or bool(answers and question.parse(answers[-1]) is not None)

    def _settle(self, key: Key, question: Question) -> None:
        while not self._is_settled(key, question):
            self._log.add(key, self._answer(question.messages))

    def _answer(self, messages: Messages) -> str:
        url = self._api.base_url
        try:
            completion = self._api.chat.completions.create(messages=messages, **self._request)
            return completion.choices[0].message.content or ""
        except OpenAIError as error:
            said = " ".join(str(error).split())[:300].rstrip(".")
            raise InputError(f"The endpoint {url} failed, start again to go on: {said}.") from None
        except (AttributeError, IndexError, TypeError, json.JSONDecodeError):
            raise InputError(f"{url} answered with no chat completion; is it the address of an API?") from None
