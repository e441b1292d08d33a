"""The real LLaMA-Factory, end to end on persona-tiny: train, serve, ask with client and curl, export, ZeRO-3."""

import json
import re
import shutil
import subprocess
import sys

import httpx
import pytest

from retrieval.registry import open_retriever, save_retriever
from tests.conftest import ENV, free_port, losses, python_m, running, train

pytestmark = pytest.mark.slow
ENV = ENV | {"API_KEY": "secret"}
MESSAGE = "Do you play an instrument after dinner?"
CARD = "I drive a night bus in Leeds.\nI play the banjo after dinner.\n"


def llamafactory(*arguments):
    """The command that starts LLaMA-Factory on one of our configurations."""
    return [sys.executable, "-m", "llamafactory_configs.run", *arguments]


@pytest.fixture(scope="module")
def adapter(sample_data, tmp_path_factory):
    """The LoRA configuration trained for a few dozen steps on the sample; gives the folder and what was printed."""
    output = tmp_path_factory.mktemp("trained") / "lora"
    steps = ("max_steps=60", "logging_steps=5", "eval_strategy=steps", "eval_steps=30", "eval_on_start=true")
    return output, train("tiny/lora", sample_data, output, *steps, "eval_dataset=spc_sharegpt_valid")


@pytest.fixture(scope="module")
def api(adapter, tmp_path_factory):
    """LLaMA-Factory's API on the adapter; gives its base URL and its log."""
    log = tmp_path_factory.mktemp("served") / "api.log"
    port = free_port()
    base_url = f"http://127.0.0.1:{port}/v1"
    command = llamafactory("serve", "tiny/lora", f"adapter_name_or_path={adapter[0]}")
    with running(command, base_url + "/models", log, API_PORT=str(port), API_KEY="secret"):
        yield base_url, log


def test_training_uses_every_row_and_the_loss_falls(sample_data, adapter):
    output, printed = adapter
    for split, words in (("train", "***** Running training *****"), ("valid", "***** Running Evaluation *****")):
        rows = len(json.loads((sample_data / f"spc_sharegpt_{split}.json").read_text(encoding="utf-8")))
        counted = re.search(re.escape(words) + r".*?Num examples = ([\d,]+)", printed, re.DOTALL)
        assert int(counted[1].replace(",", "")) == rows
    assert losses(output)[-1] < losses(output)[0] - 0.3
    before, *_, after = losses(output, "eval_loss")
    assert after < before - 0.3
    assert (output / "training_loss.png").stat().st_size > 1000
    assert (output / "adapter_model.safetensors").exists()


def ask(base_url, data, tmp_path, *arguments, **env):
    card = tmp_path / "card.txt"
    card.write_text(CARD, encoding="utf-8")
    arguments = ("--card", str(card), "--base-url", base_url, "--retriever", str(data / "retriever.json"), *arguments)
    return python_m("inference.client", *arguments, env=ENV | env)


def test_the_client_gets_a_reply(api, sample_data, tmp_path):
    done = ask(api[0], sample_data, tmp_path, "--json", "--temperature", "0", MESSAGE, "And what do you drive?")
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["text"].strip()
    assert second["text"].strip()
    assert [fact["mark"] for fact in first["retrieved"]] == ["[P2]"]
    assert "[P1]" in [fact["mark"] for fact in second["retrieved"]]


def test_a_retriever_that_training_did_not_have_is_refused(api, adapter, sample_data, tmp_path):
    assert (adapter[0] / "retriever.json").read_bytes() == (sample_data / "retriever.json").read_bytes()
    save_retriever(tmp_path / "retriever.json", open_retriever("bm25"))
    done = ask(api[0], tmp_path, tmp_path, MESSAGE)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert json.loads((sample_data / "retriever.json").read_text(encoding="utf-8"))["identity"] in done.stderr
    assert open_retriever("bm25").identity in done.stderr


def test_the_wrong_key_is_one_sentence(api, sample_data, tmp_path):
    done = ask(api[0], sample_data, tmp_path, MESSAGE, API_KEY="wrong")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "API_KEY" in done.stderr


def test_curl_gets_a_reply(api):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    body = {"model": "persona", "messages": [{"role": "user", "content": MESSAGE}], "temperature": 0, "max_tokens": 20}
    command = [curl, "--silent", "--noproxy", "*", f"{api[0]}/chat/completions", "-H", "Authorization: Bearer secret",
               "-H", "Content-Type: application/json", "-d", json.dumps(body)]  # fmt: skip
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert answer["choices"][0]["message"]["content"].strip()


def test_the_api_is_on_the_loopback_only_and_keeps_prompts_out_of_its_log(api, sample_data, tmp_path):
    base_url, log = api
    assert ask(base_url, sample_data, tmp_path, MESSAGE).returncode == 0
    text = log.read_text(encoding="utf-8")
    assert "Uvicorn running on http://127.0.0.1" in text
    assert "POST /v1/chat/completions" in text
    assert "instrument" not in text
    assert "banjo" not in text


def test_the_merged_model_answers_as_the_adapter_does(api, adapter, sample_data, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = tmp_path / "merged"
    arguments = ("tiny/lora", f"adapter_name_or_path={adapter[0]}", f"export_dir={merged}")
    done = python_m("llamafactory_configs.run", "export", *arguments, env=ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (merged / "retriever.json").read_bytes() == (sample_data / "retriever.json").read_bytes()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": MESSAGE}]
    body = {"model": "persona", "messages": messages, "temperature": 0, "max_tokens": 20}
    headers = {"Authorization": "Bearer secret"}
    answer = httpx.post(f"{api[0]}/chat/completions", json=body, headers=headers, trust_env=False, timeout=60).json()
    tokenizer = AutoTokenizer.from_pretrained(merged)
    model = AutoModelForCausalLM.from_pretrained(merged, dtype="float32")
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    text = tokenizer.decode(output[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert text == answer["choices"][0]["message"]["content"]


def test_webui_comes_up_with_our_datasets_in_it(sample_data, tmp_path):
    from llamafactory.webui.control import list_datasets

    names = [name for name, _ in list_datasets(str(sample_data), "Supervised Fine-Tuning").choices]
    assert {"spc_sharegpt_train", "spc_alpaca_train"} <= set(names)
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with running(llamafactory("webui"), url, tmp_path / "webui.log", GRADIO_SERVER_PORT=str(port)):
        assert "LLaMA" in httpx.get(url, trust_env=False).text
