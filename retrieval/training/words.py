"""Count the words of the training facts, for ``tfidf`` and ``bm25``:
``python -m retrieval.training.words --facts saves/retriever/facts.txt``.
"""

import argparse
import json
import sys
from pathlib import Path

from retrieval.lexical import count_words
from retrieval.registry import entry_of


def main() -> None:
    default = Path(entry_of("tfidf")["model"])
    parser = argparse.ArgumentParser(prog="python -m retrieval.training.words", description=__doc__.split("\n")[0])
    parser.add_argument("--facts", type=Path, required=True, help="text file, one fact a line")
    parser.add_argument("--out", type=Path, default=default, help=f"file to write (default: {default})")
    arguments = parser.parse_args()
    try:
        counted = count_words(arguments.facts.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        print(f"{arguments.facts} cannot be used ({error}); it must hold a fact a line.", file=sys.stderr)
        sys.exit(2)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(counted, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    print(f"{arguments.out}: {len(counted['counts']):,} words of {counted['documents']:,} facts")


if __name__ == "__main__":
    main()
