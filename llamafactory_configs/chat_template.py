"""The chat template of what is trained, where others look for it: vLLM and transformers in the model's folder, Ollama
in its Modelfile.
"""

from pathlib import Path


def write_chat_template(folder: Path, template: str) -> None:
    """Make the model in ``folder`` speak LLaMA-Factory's ``template``, with which it was trained, everywhere.

    LLaMA-Factory leaves the base model's own there, and Qwen3's can open a think block that training never saw.
    """
    from llamafactory.data import get_template_and_fix_tokenizer  # takes seconds
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None  # LLaMA-Factory then writes its own
    trained = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=template))
    (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    (folder / "Modelfile").write_text(trained.get_ollama_modelfile(tokenizer), encoding="utf-8")
