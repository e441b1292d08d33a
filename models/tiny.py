"""Make persona-tiny: ``python -m models.tiny`` (``make tiny``).

A Qwen3-architecture model of 3.6 million random weights with a byte-level BPE tokenizer of its own, trained on the
bundled sample; both come out the same every time. It exists so that the real training, serving and client code can
run on a laptop CPU. It knows nothing until it is trained.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

TEXTS = Path(__file__).parents[1] / "data_prep" / "sample"
OUT = Path(__file__).parent / "persona-tiny"
VOCABULARY = 2048
SEED = 42

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
# Words with the space before them, digits one by one, runs of punctuation: so [P1] always ends in the same tokens.
WORDS = Regex(r"\s?\p{L}+|\p{N}|\s?[^\s\p{L}\p{N}]+|\s+")


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
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=3,
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


def main() -> None:
    argparse.ArgumentParser(prog="python -m models.tiny", description=__doc__.split("\n")[0]).parse_args()
    tokenizer = make_tokenizer([path.read_text(encoding="utf-8") for path in sorted(TEXTS.glob("*.csv"))])
    model = make_model(tokenizer)
    model.save_pretrained(OUT)
    tokenizer.save_pretrained(OUT)
    print(f"{OUT.name}: {model.num_parameters():,} random weights, {len(tokenizer):,} tokens, in {OUT}")


if __name__ == "__main__":
    main()
