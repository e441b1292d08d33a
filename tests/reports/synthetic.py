"""Small but complete results with made-up numbers, as the commands of eval/ write them."""

import hashlib
import json
from pathlib import Path

from eval.comparison import HEADLINE

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)
GROUPS = {
    "likelihood": ("loss", "loss_uses_fact", "perplexity", "perplexity_uses_fact", "nats_per_character",
                   "nats_per_character_uses_fact", "hits_at_1", "hits_at_1_uses_fact"),
    "text": ("f1", "rouge_l", "bleu", "distinct_2", "words", "keywords"),
    "citations": ("recall", "precision", "recall_worthy", "precision_worthy", "precision_marked", "well_formed",
                  "off_card", "not_shown"),
    "consistency": ("claims", "unsupported", "replies_unsupported", "replies_slipped"),
    "latency": ("p50_seconds", "cut"),
}  # fmt: skip
MODELS, RETRIEVERS = ("tiny/pretrain", "tiny/full"), {"none": "none", "small": "static-1", "oracle": "oracle"}


def measure(value: float, width: float = 0.05) -> dict:
    return {"value": round(value, 4), "low": round(value - width, 4), "high": round(value + 2 * width, 4)}


def system(model: str, retriever: str, at: float) -> dict:
    """All measures differ from each other and from those of systems that are ``at`` other places."""
    made = {"model": model, "retriever": retriever, "measures": {}}
    differences = {}
    for g, (group, names) in enumerate(GROUPS.items()):
        made["measures"][group] = {name: measure(at + 0.31 * g + 0.023 * i) for i, name in enumerate(names)}
        differences[group] = {name: measure(at - 0.2 + 0.013 * g - 0.07 * i, 0.02) for i, name in enumerate(names)}
    base = (MODELS[0], "none")
    for number, (name, other) in enumerate(
        (("to_base", base), ("by_model", (MODELS[0], retriever)), ("by_retriever", (model, "none")))
    ):
        if other != (model, retriever):
            shifted = {group: {key: measure(one["value"] - 0.37 * number, 0.02) for key, one in of_group.items()}
                       for group, of_group in differences.items()}  # fmt: skip
            made[f"difference_{name}"] = shifted
    return made


def comparison(retrievers: dict[str, str] = RETRIEVERS) -> dict:
    pairs = [(model, retriever) for model in MODELS for retriever in retrievers]
    return {
        "git": "c" * 40,
        "config": {
            "models": [
                {"name": name, "model_name_or_path": f"saves/{name}", "adapter_name_or_path": None,
                 "template": "qwen3_nothink", "weights_sha256": {"model.safetensors": letter * 64}}
                for name, letter in zip(MODELS, "ab", strict=True)
            ],
            "retrievers": retrievers,
            "spc": "path/to/spc", "split": "test", "samples": 300, "seed": 17, "max_tokens": 64, "judge": "encoder",
            "bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
            "resamples": 2000, "bootstrap_seed": 3, "candidates": 20,
            "command": "python -m eval.compare tiny/pretrain tiny/full --spc spc --samples 300",
            "hardware": {"cores": 2, "memory_mib": 24105, "gpus": [{"name": "Imagined GPU", "memory_mib": 81920}]},
        },
        "input_sha256": {"Synthetic-Persona-Chat_test.csv": "d" * 64},
        "sample_sha256": "e" * 64,
        "n": 300,
        "n_uses_fact": 61,
        "base": {"model": "tiny/pretrain", "retriever": "none"},
        "headline": [dict(zip(("group", "measure", "better"), one, strict=True)) for one in HEADLINE],
        "systems": [system(*pair, 0.11 * place) for place, pair in enumerate(pairs)],
        "true_replies": {group: system("", "", 0.9)["measures"][group] for group in ("text", "consistency")},
        "retrieval": {
            name: {"recall_used": measure(0.4 + 0.1 * i), "messages_shown_a_fact": measure(0.3 + 0.1 * i)}
            for i, name in enumerate(retrievers)
        },
        "training": {"name": "tiny/full", "record": record(), "curve": curve()},
        "examples": [example("test-3-5", True), example("test-4-2", False)],
    }  # fmt: skip


def record() -> dict:
    return {
        "name": "tiny/full", "status": "finished", "git": "f" * 40,
        "config": {"model_name_or_path": "models/persona-tiny", "stage": "sft", "finetuning_type": "full",
                   "dataset": "spc_sharegpt_train", "template": "qwen3_nothink", "cutoff_len": 2048,
                   "per_device_train_batch_size": 4, "learning_rate": 5.0e-4, "max_steps": 300, "use_cpu": True,
                   "an_unknown_parameter": 7, "seed": 42},
        "data": {"folder": "data", "manifest_sha256": "9" * 64, "retriever": "static-1"},
        "versions": {"llamafactory": "0.9.5", "torch": "2.11.0"},
        "hardware": {"cores": 4, "memory_mib": 16000, "gpus": []},
        "legs": [{"from_step": 0, "started": "2026-01-01T00:00:00Z", "seconds": 471.5, "status": "stopped",
                  "to_step": 100},
                 {"from_step": 100, "started": "2026-01-01T01:00:00Z", "seconds": 800.5, "status": "finished",
                  "to_step": 300}],
        "steps": 300, "loss": {"first": 3.4681, "last": 1.5953}, "tokens_per_second": 512.3,
        "peak_memory_mib": {"host": 1843, "gpu": 733},
    }  # fmt: skip


def curve() -> dict:
    return {
        "folder": "saves/tiny/full",
        "steps": [10, 20, 30, 40],
        "loss": [3.4681, 2.9, None, 1.5953],
        "epochs": [0.1, 0.2, 0.3, 0.4],
        "eval_steps": [20, 40],
        "eval_loss": [2.71, 2.62],
        "findings": [{"name": "spike", "step": 20, "says": "The loss jumps at step 20."}],
    }


def example(name: str, good: bool) -> dict:
    return {
        "id": name, "model": "tiny/full", "retriever": "small", "good": good,
        "card": ["I drive a night bus.", "I play the banjo."], "message": "What do you play?",
        "retrieved": [{"mark": "[P2]", "fact": "I play the banjo.", "score": 0.514}],
        "reply": "I play the banjo. [P2]", "reference": "The banjo! [P2]", "base_reply": "I don't know.",
        "wrong_marks": 0 if good else 2, "unsupported_claims": 0 if good else 3,
    }  # fmt: skip


def retrieval(gold: str) -> dict:
    entry = lambda at: {  # noqa: E731
        "used": {"recall@1": measure(at), "recall@2": measure(at + 0.01), "MRR": measure(at + 0.02), "replies": 108},
        "relevant": {"recall@2": measure(at + 0.03), "MRR": measure(at + 0.04), "replies": 182},
        "inject": {"precision": measure(at), "recall": measure(at), "f1": measure(at + 0.05)},
        "latency": {"p50_ms": 0.119, "batch_ms": 0.02},
    }
    return {
        "git": "1" * 40, "config": {"retrievers": {}, "resamples": 2000, "seed": 0}, "input_sha256": {gold: "2" * 64},
        "replies": 400, "results": {"tfidf": entry(0.7), "small": entry(0.8)},
    }  # fmt: skip


def settings() -> dict:
    chosen = {"query_turns": 4, "whose": "both", "threshold": 0.23609}
    queries = [{"query_turns": turns, "whose": "both", "used": 0.5 + turns / 20, "relevant": 0.6} for turns in (1, 4)]
    thresholds = [{"threshold": 0.2, "precision": 0.7, "recall": 0.8, "f1": 0.7742}]
    return {
        "git": "3" * 40, "config": {"seen_turns": 5}, "input_sha256": {"valid.gold.jsonl": "4" * 64},
        "retrievers": {"small": {"chosen": chosen, "queries": queries, "thresholds": thresholds}},
    }  # fmt: skip


def judge() -> dict:
    outcomes = ("win", "tie", "lose", "first_place", "second_place", "flipped")
    dimensions = ("consistency", "human-likeness", "engagement", "quality", "safety", "correctness")
    counts = {"asked": 1200, "malformed": 7, "resumed": 0}
    scored = {"ids_judged": 300, "measures": {name: measure(3 + i / 9) for i, name in enumerate(dimensions)}}
    return {
        "git": "5" * 40,
        "config": {"judge_model": "a-judge", "samples": 2, "temperature": 0.7, "retries": 2},
        "input_sha256": {}, "n": 300,
        "files": {"A": {"file": "tuned.jsonl", "sha256": "6" * 64}, "B": {"file": "base.jsonl", "sha256": "7" * 64}},
        "pairwise": {"counts": counts, "ids_judged": 298,
                     "measures": {name: measure(0.1 + i / 9) for i, name in enumerate(outcomes)}},
        "scored": {"counts": counts, "replies": {"A": scored, "B": scored}},
        "check": {"counts": counts, "groups": {"all": {"ids": 22, "accuracy": measure(0.9)}}},
    }  # fmt: skip


def results() -> dict[str, dict]:
    """The content of every file, by its name without ``.json``."""
    models = {name: measure(0.3 + i / 9) for i, name in enumerate(MODELS)}
    task = {"metric": "acc_norm", "n": 10042, "models": models, "difference": measure(0.111)}
    grounding = {name: measure(0.8 + i / 90) for i, name in enumerate(("precision", "recall", "f1"))}
    sections = ("summary", "retrieval", "training", "comparison", "citations", "limits")
    compared = comparison()
    about = {
        "weights": [[model["name"], model["weights_sha256"]] for model in compared["config"]["models"]],
        "retrievers": [[*pair] for pair in RETRIEVERS.items()],
        "sample_sha256": compared["sample_sha256"],
        "max_tokens": 64,
        "judge": "encoder",
    }
    return {
        "comparison": compared,
        "retrieval_valid": retrieval("valid.gold.jsonl"),
        "retrieval_kept_back": retrieval("kept_back.gold.jsonl"),
        "retrieval_settings": settings(),
        "grounding_valid": {"git": "8" * 40, "input_sha256": {"valid.gold.jsonl": "0" * 64}, "replies": 400,
                            "labelled_pairs": 122, "scores": {"encoder": grounding}},
        "general": {"git": "a" * 40, "results": {"hellaswag": task},
                    "config": {"tasks": {"hellaswag": "1"}, "limit": 500, "few_shot": 0, "lm_eval": "0.4.13"}},
        "judge": judge(),
        "screenshots": {"git": "b" * 40, "screenshots": [
            {"file": "screenshots/page-1.png", "sha256": hashlib.sha256(PNG).hexdigest(),
             "caption": {"en": "The page.", "zh": "网页。"}}]},
        "remarks": {"about": about, "remarks": {
            name: {"en": f"A *remark* on {name}.", "zh": f"关于 {name} 的*说明*。"} for name in sections}},
    }  # fmt: skip


def write(folder: Path, content: dict[str, dict]) -> Path:
    """The files as they lie in ``reports/results``; gives ``folder``."""
    (folder / "screenshots").mkdir(parents=True, exist_ok=True)
    (folder / "screenshots" / "page-1.png").write_bytes(PNG)
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return folder
