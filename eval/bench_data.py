"""How fast and how large ``data_prep.build`` is: ``python -m eval.bench_data --spc FOLDER --json OUT``.

Against the obvious loop, one scikit-learn ``TfidfVectorizer`` fitted per reply, in the same run on the same machine; on
ten times the input, with the peak memory of either; and how long the network takes to label what it has not seen.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import pandas as pd
import psutil
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.labellers.encoder import EncoderLabeller
from data_prep.labellers.precomputed import MODEL
from data_prep.placeholders import fill
from data_prep.reader import read_conversations
from data_prep.sources import find_files
from eval.results import check_writable, write_result

FORMATS = ("sharegpt", "alpaca")
LABELLED = 200  # conversations that the network is timed on
SYSTEM = "Reply as the person whose facts are shown."


def obvious_loop(files: dict[str, Path], out: Path) -> int:
    """Both formats the plain way: split lines at the colon, fit a vectorizer per reply, mark what it finds.

    Returns the number of replies.
    """
    replies = 0
    for split, path in files.items():
        sharegpt, alpaca = [], []
        table = pd.read_csv(path, na_filter=False)
        for card1, card2, text in tqdm(table.itertuples(index=False), total=len(table), desc=f"loop, {split}", delay=5):
            turns = [line.split(": ", 1)[1] for line in text.split("\n") if ": " in line]
            for card, start in ((card2.split("\n"), 0), (card1.split("\n"), 1)):
                conversation, history = [], []
                for message, reply in zip(turns[start::2], turns[start + 1 :: 2], strict=False):
                    found = _two_best(message, card)
                    facts = "\n".join(f"[P{number + 1}] {card[number]}" for number in found)
                    marked = reply + " " + "".join(f"[P{number + 1}]" for number in found)
                    conversation += [
                        {"from": "human", "value": f"{message}\n{facts}"},
                        {"from": "gpt", "value": marked},
                    ]
                    row = {"instruction": message, "input": facts, "output": marked, "system": SYSTEM}
                    alpaca.append(row | {"history": list(history)})
                    history.append([f"{message}\n{facts}", marked])
                    replies += 1
                sharegpt.append({"conversations": conversation, "system": SYSTEM})
        for form, rows in zip(FORMATS, (sharegpt, alpaca), strict=True):
            (out / f"{form}_{split}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return replies


def _two_best(message: str, card: list[str]) -> list[int]:
    try:
        vectors = TfidfVectorizer(stop_words="english").fit_transform([message, *card])
    except ValueError:  # nothing but stop words
        return []
    scores = (vectors[1:] @ vectors[0].T).toarray().ravel()
    return [int(number) for number in scores.argsort()[::-1][:2] if scores[number] > 0]


def build(spc: Path, out: Path, *options: str) -> tuple[float, float]:
    """Run the real command in processes of its own: seconds on the wall, peak memory of all of them in MiB.

    Memory is looked at ten times a second; what processes share is counted for each.
    """
    command = [sys.executable, "-m", "data_prep.build", "--spc", str(spc), "--out", str(out), "--formats", *FORMATS]
    start = time.perf_counter()
    with TemporaryFile() as log:
        process = psutil.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=log)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(process))
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise InputError(f"data_prep.build failed: {log.read().decode().splitlines()[-1]}")
    return seconds, peak / 2**20


def _memory(process: psutil.Process) -> int:
    """Bytes in memory of a process and all that it has started; those that end meanwhile do not count."""
    total, started = 0, []
    with suppress(psutil.NoSuchProcess):
        started = process.children(recursive=True)
    for one in (process, *started):
        with suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total


def copies(files: dict[str, Path], times: int, out: Path) -> Path:
    """CSV files with every row ``times`` times, each copy with facts and turns of its own."""
    out.mkdir()
    for path in files.values():
        table = pd.read_csv(path, dtype=str, na_filter=False)
        for copy in range(times):
            marked = table.map(lambda cell, word=f" copy{copy}": cell.replace("\n", f"{word}\n") + word)
            marked.to_csv(out / path.name, index=False, mode="a", header=copy == 0)
    return out


def measure(files: dict[str, Path], times: int) -> dict:
    """All measurements."""
    spc = next(iter(files.values())).parent
    with TemporaryDirectory() as name:
        folder = Path(name)
        seconds, peak = build(spc, folder / "ours")
        manifest = json.loads((folder / "ours" / "manifest.json").read_text(encoding="utf-8"))
        # With labels looked up, distinct copies would measure the network; word overlap computes them as it goes.
        once = build(copies(files, 1, folder / "once"), folder / "out", "--labeller", "overlap")
        many = build(copies(files, times, folder / "many"), folder / "out", "--labeller", "overlap")
        (folder / "loop").mkdir()
        start = time.perf_counter()
        loop_replies = obvious_loop(files, folder / "loop")
        loop = time.perf_counter() - start
    conversations = [fill(conversation) for conversation in read_conversations(files["valid"], "valid")[0][:LABELLED]]
    start = time.perf_counter()
    EncoderLabeller(MODEL).label(conversations)
    labelling = time.perf_counter() - start
    return {
        "build": {"replies": sum(counts["replies"] for counts in manifest["splits"].values()),
                  "labels": "looked up", "seconds": round(seconds, 1), "peak_mib": round(peak)},
        "loop": {"replies": loop_replies, "seconds": round(loop, 1)},
        "times_faster": round(loop / seconds, 1),
        "scale": {"labeller": "overlap", "times": times,
                  "once": {"seconds": round(once[0], 1), "peak_mib": round(once[1])},
                  "many": {"seconds": round(many[0], 1), "peak_mib": round(many[1])},
                  "times_longer": round(many[0] / once[0], 2)},
        "encoder": {"conversations": len(conversations), "seconds": round(labelling, 1)},
        "cores": os.cpu_count(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.bench_data", description=__doc__.split("\n")[0])
    parser.add_argument("--spc", default="hub", help="folder with the SPC CSV files, or `hub` (default: hub)")
    parser.add_argument("--new-persona", action="store_true", help="also SPC's conversations between new cards")
    parser.add_argument("--times", type=int, default=10, help="how often the input is repeated (default: 10)")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    try:
        check_writable(arguments.json)
        files = find_files(arguments.spc, arguments.new_persona)
        result = measure(files, arguments.times)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    config = {"formats": FORMATS, "times": arguments.times, "new_persona": arguments.new_persona}
    write_result(arguments.json, config, list(files.values()), result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
