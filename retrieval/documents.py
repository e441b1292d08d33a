"""Documents besides the card: ``python -m retrieval.documents FOLDER --out saves/documents``.

Reads every ``.txt``, ``.md`` and ``.pdf`` of a folder, cuts them at sentence ends into chunks that overlap, and indexes
these with any retriever. A chunk whose score passes the gate is shown with its mark, ``[D1]``; below it nothing is.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import PyPdfError
from tqdm import tqdm

from retrieval.lexical import analyze
from retrieval.registry import entry_of, open_retriever
from retrieval.sentences import split_sentences
from retrieval.store import FactStore

SUFFIXES = (".txt", ".md", ".pdf")
WORDS = 60  # of a chunk at most, about four sentences: two of them must not drown the message
_PARAGRAPH = re.compile(r"\n\s*\n")
_MARKDOWN = re.compile(r"^[ \t]*(?:#{1,6}|[-*+>]|\d{1,2}[.)])[ \t]+|`", re.MULTILINE)
_BOLD = re.compile(r"\*\*(\S(?:[^*]*\S)?)\*\*")
# A Chinese character counts as a word, as it does in ``lexical``, and so do forty letters without a space.
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]{1,40}\s*|\s+")
_HYPHENATED = re.compile(r"(?<=[a-z])-\n(?=[a-z])")  # at the end of a PDF's line


def document_paths(folder: Path) -> list[Path]:
    """The documents below ``folder``, by name. Raises ValueError if there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise ValueError(f"{folder} holds no document; put {', '.join(SUFFIXES)} files there.")
    return paths


def read_document(path: Path) -> str:
    """The text of a document; of Markdown without the signs that begin a line or make text bold.

    Raises ValueError that names the file, if it cannot be read.
    """
    try:
        if path.suffix.lower() == ".pdf":
            return _HYPHENATED.sub("", "\n".join(page.extract_text() for page in PdfReader(path).pages))
        text = path.read_text(encoding="utf-8-sig")
    # pypdf meets a damaged file with errors of its own, and now and then with one of Python's.
    except (OSError, UnicodeDecodeError, PyPdfError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path} cannot be read ({error}); mend it or take it out of the folder.") from None
    return _BOLD.sub(r"\1", _MARKDOWN.sub("", text)) if path.suffix.lower() == ".md" else text


def cut(text: str) -> Iterator[str]:
    """Chunks of whole sentences, of ``WORDS`` words at most, each a line that begins with the last sentence of the one
    before, if that leaves room for the next. A longer sentence is cut between words."""
    chunk: list[str] = []
    size = fresh = 0
    for sentence in _sentences(text):
        words = len(_WORD.findall(sentence))
        if chunk and size + words > WORDS:
            yield " ".join("".join(chunk).split())
            last = len(_WORD.findall(chunk[-1]))
            chunk, size, fresh = ([chunk[-1]], last, 0) if last + words <= WORDS else ([], 0, 0)
        chunk.append(sentence)
        size += words
        fresh += 1
    if fresh:
        yield " ".join("".join(chunk).split())


def _sentences(text: str) -> Iterator[str]:
    """Sentences with the white space after them; a paragraph ends one (a heading has no full stop)."""
    for paragraph in _PARAGRAPH.split(text):
        for sentence in split_sentences(paragraph.strip() + "\n"):
            words = _WORD.findall(sentence)
            for start in range(0, len(words), WORDS):
                if (part := "".join(words[start : start + WORDS])).strip():
                    yield part


def build_store(folder: Path, retriever: str, **changes) -> FactStore:
    """Index the documents of ``folder``.

    ``changes``: to the retriever's entry; ``threshold`` is the gate, ``k`` how many chunks a message gets at most.
    Raises ValueError for a document that cannot be read, and if none holds any text.
    """
    chunks, sources = [], []
    for path in tqdm(document_paths(folder), desc="reading", unit="document", delay=2, leave=False):
        found = list(cut(read_document(path)))
        if not found:
            print(f"{path} holds no text and is left out (a scanned PDF?).", file=sys.stderr)
        chunks += found
        sources += [str(path.relative_to(folder))] * len(found)
    if not chunks:
        raise ValueError(f"No document of {folder} holds any text.")
    if entry_of(retriever)["kind"] == "bm25":  # it weighs words by how long a chunk is for its kind, not for a fact
        changes["mean_length"] = sum(len(analyze(chunk)) for chunk in chunks) / len(chunks)
    return FactStore.build(open_retriever(retriever, **changes), chunks, sources)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m retrieval.documents", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("folder", type=Path, help=f"with {', '.join(SUFFIXES)} files; folders in it are read too")
    add("--out", type=Path, default=Path("saves/documents"), help="folder to write (default: saves/documents)")
    add("--retriever", default="small", metavar="NAME", help="of retrieval/retrievers.yaml (default: small)")
    add("--gate", type=float, help="score that a chunk must pass to be shown (default: the retriever's threshold)")
    add("--k", type=int, default=2, help="chunks that a message gets at most (default: 2)")
    arguments = parser.parse_args()
    gate = {} if arguments.gate is None else {"threshold": arguments.gate}
    try:
        if gate and entry_of(arguments.retriever)["kind"] == "hybrid":
            raise ValueError("hybrid has no gate of its own, since its parts have theirs; leave --gate out.")
        store = build_store(arguments.folder, arguments.retriever, k=arguments.k, **gate)
        store.save(arguments.out)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    documents = len(set(store.sources))
    print(f"{len(store):,} chunks of {documents:,} documents; ask with `--documents {arguments.out}`")


if __name__ == "__main__":
    main()
