"""Rebuild persona-tiny: ``make tiny``. The two ends of it; the training between them is LLaMA-Factory's.

``python -m models.tiny init --data DATA --out DIR`` makes a byte-level BPE tokenizer from the conversations of a built
dataset and a Qwen3-architecture model of 4.2 million random weights. ``python -m models.tiny drill SOURCE TARGET``
makes exercises in citing. ``python -m models.tiny finish RUN RUN`` stores what the last run trained as
``models/persona-tiny`` in bfloat16.
"""

import argparse
import json
import random
import re
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

OUT = Path(__file__).parent / "persona-tiny"
VOCABULARY = 4096
SEED = 42
CONVERSATIONS = "spc_sharegpt_train"  # the dataset that all parts begin with
DRILLS = "spc_sharegpt_drills"
EXCHANGES = 8  # of a drill, at most

# The control tokens of Qwen3 that its chat template and LLaMA-Factory's `qwen3*` templates can produce.
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORD_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
# ChatML as `qwen3_nothink` writes it: every turn between <|im_start|>role and <|im_end|>.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Words with the space before them, digits one by one, runs of punctuation: [P1] always becomes the same tokens. The
# line break after "assistant" stands alone: LLaMA-Factory encodes prompt and reply apart, a chat template in one piece.
WORDS = Regex(r"(?<=assistant)\n|\s?\p{L}+|\p{N}|\s?[^\s\p{L}\p{N}]+|\s+")


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of ``VOCABULARY`` tokens, control tokens included, trained on ``texts``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(WORD_TAGS),
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(list(WORD_TAGS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=2048,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """The model with random float32 weights, drawn from ``SEED``."""
    torch.manual_seed(SEED)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def init(data: Path, out: Path) -> None:
    """Untrained model and tokenizer to ``out``; ``data`` is a ShareGPT file as LLaMA-Factory reads it."""
    rows = json.loads(data.read_text(encoding="utf-8"))
    tokenizer = make_tokenizer([turn["value"] for row in rows for turn in row["conversations"]])
    model = make_model(tokenizer)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(f"{out}: {model.num_parameters():,} random weights, {len(tokenizer):,} tokens")


def drill(source: Path, target: Path, rows: int) -> None:
    """Conversations in which every reply repeats one of the facts shown, with its mark; ``rows`` of them at most.

    To end a sentence with the mark of the fact that it states, the model must find the line it copied from; in real
    replies that is a rare and noisy lesson, here it is the only one. ``source``: a folder built with several facts a
    turn; each turn keeps its message and facts, with numbers drawn anew, so that they can only be read off.
    """
    draw = random.Random(SEED)
    drills = []
    conversations = json.loads((source / f"{CONVERSATIONS}.json").read_text(encoding="utf-8"))
    for row in draw.sample(conversations, min(rows, len(conversations))):
        turns = []
        for turn in row["conversations"][::2][:EXCHANGES]:
            message, *facts = re.split(r"\n\[P\d+\] ", turn["value"])
            if facts:
                numbers = draw.sample(range(1, 10), len(facts))
                lines = [f"[P{number}] {fact}" for number, fact in zip(numbers, facts, strict=True)]
                chosen = draw.randrange(len(facts))
                turns.append({"from": "human", "value": "\n".join([message, *lines])})
                turns.append({"from": "gpt", "value": f"{facts[chosen]} [P{numbers[chosen]}]"})
        if turns:
            drills.append({"conversations": turns, "system": row["system"]})
    lines = ",\n".join(json.dumps(drill, ensure_ascii=False) for drill in drills)
    (target / f"{DRILLS}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    listed = target / "dataset_info.json"
    info = json.loads(listed.read_text(encoding="utf-8"))
    info[DRILLS] = info[CONVERSATIONS] | {"file_name": f"{DRILLS}.json"}
    listed.write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    print(f"{target}/{DRILLS}.json: {len(drills):,} conversations")


def finish(runs: list[Path]) -> None:
    """The model that the last of LLaMA-Factory's ``runs`` left to ``OUT``, and the losses of all.

    The weights are stored in bfloat16, for the size; ``config.json`` has them computed with in float32, since many CPUs
    take twenty times as long in bfloat16, and LLaMA-Factory would follow what stands there.
    """
    model = AutoModelForCausalLM.from_pretrained(runs[-1], dtype=torch.bfloat16)
    model.save_pretrained(OUT)
    model.config.dtype = torch.float32
    model.config.save_pretrained(OUT)
    AutoTokenizer.from_pretrained(runs[-1]).save_pretrained(OUT)
    parts = []
    for run in runs:
        history = json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        kept = ({key: entry[key] for key in ("step", "loss", "eval_loss") if key in entry} for entry in history)
        lines = ",\n".join(json.dumps(entry) for entry in kept if len(entry) > 1)
        parts.append(f"{json.dumps(run.name)}: [\n{lines}\n]")
    (OUT / "training_record.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    print(f"{OUT}: the weights of {runs[-1]} in bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.tiny", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("init", help="untrained model and tokenizer")
    first.add_argument("--data", type=Path, required=True, help="ShareGPT file to learn the tokenizer from")
    first.add_argument("--out", type=Path, required=True, help="folder to write")
    middle = commands.add_parser("drill", help="conversations whose replies repeat a fact, with its mark")
    middle.add_argument("source", type=Path, help="folder of datasets with several facts a turn")
    middle.add_argument("target", type=Path, help="folder of datasets to add them to")
    middle.add_argument("--rows", type=int, default=9000, help="conversations to make, at most (default: 9000)")
    last = commands.add_parser("finish", help="store a trained run as models/persona-tiny")
    last.add_argument("runs", type=Path, nargs="+", help="output folders of LLaMA-Factory, in order")
    arguments = parser.parse_args()
    if arguments.command == "init":
        init(arguments.data, arguments.out)
    elif arguments.command == "drill":
        drill(arguments.source, arguments.target, arguments.rows)
    else:
        finish(arguments.runs)


if __name__ == "__main__":
    main()
