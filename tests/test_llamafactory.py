"""LLaMA-Factory's own code on our data: it loads every row, and training and serving see the same token ids."""

import json
from types import SimpleNamespace

import httpx2
import pytest

from data_prep.placeholders import fill
from data_prep.reader import read_conversations
from data_prep.sources import FILE_NAMES, SAMPLE
from inference.client import PersonaClient
from retrieval.registry import load_retriever
from tests.conftest import ROOT, python_m

pytestmark = pytest.mark.slow
STAGES = {"sharegpt": "sft", "alpaca": "sft", "dpo": "rm", "kto": "kto", "inverse": "sft"}
NAMES = [f"spc_{form}_{split}" for form in STAGES for split in ("train", "valid", "test")]


class LlamaFactory:
    """The parts of LLaMA-Factory that turn rows and requests into token ids, on persona-tiny."""

    def __init__(self, data, name):
        stage = STAGES[name.split("_")[1]]
        from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
        from llamafactory.hparams import get_train_args
        from llamafactory.model import load_tokenizer

        arguments = {
            "model_name_or_path": str(ROOT / "models" / "persona-tiny"), "template": "qwen3_nothink",
            "stage": {"rm": "dpo"}.get(stage, stage),
            "do_train": True, "finetuning_type": "full", "use_cpu": True, "output_dir": str(data / "never-written"),
            "dataset": name, "dataset_dir": str(data), "cutoff_len": 100_000, "overwrite_cache": True,
            "report_to": "none",
        }  # fmt: skip
        model_args, data_args, training_args, _, generating_args = get_train_args(arguments)
        module = load_tokenizer(model_args)
        self.tokenizer = module["tokenizer"]
        self.template = get_template_and_fix_tokenizer(self.tokenizer, data_args)
        self.rows = get_dataset(self.template, model_args, data_args, training_args, stage=stage, **module)
        self.rows = self.rows["train_dataset"]
        self.generating = generating_args.to_dict()

    def request_ids(self, body: dict) -> list[int]:
        """Token ids that LLaMA-Factory's API feeds to the model for the JSON body of a request."""
        from llamafactory.api.chat import _process_request
        from llamafactory.api.protocol import ChatCompletionRequest
        from llamafactory.chat.hf_engine import HuggingfaceEngine

        messages, system, tools, *_ = _process_request(ChatCompletionRequest(**body))
        model = SimpleNamespace(device="cpu", config=None)
        arguments, _ = HuggingfaceEngine._process_args(
            model, self.tokenizer, None, self.template, self.generating, messages, system, tools
        )
        return arguments["inputs"][0].tolist()


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_the_sample_is_loaded(sample_data, name):
    assert len(LlamaFactory(sample_data, name).rows) == len(load(sample_data / f"{name}.json"))


def test_inverse_rows_are_loaded_beside_those_of_the_other_direction(sample_data):
    names = ("spc_sharegpt_train", "spc_inverse_train")
    rows = LlamaFactory(sample_data, ",".join(names)).rows
    assert len(rows) == sum(len(load(sample_data / f"{name}.json")) for name in names)


def test_the_loss_of_an_inverse_row_falls_on_the_message(sample_data):
    llamafactory = LlamaFactory(sample_data, "spc_inverse_valid")
    for loaded, row in zip(llamafactory.rows, load(sample_data / "spc_inverse_valid.json"), strict=True):
        learned = [token for token in loaded["labels"] if token != -100]
        assert llamafactory.tokenizer.decode(learned).removesuffix("\n") == row["output"] + "<|im_end|>"
        asked = f"{row['system']}<|im_end|>\n<|im_start|>user\n{row['instruction']}\n{row['input']}<|im_end|>"
        assert asked in llamafactory.tokenizer.decode(loaded["input_ids"])


def test_every_conversation_of_spc_is_loaded(spc_dir, tmp_path):
    done = python_m("data_prep.build", "--spc", str(spc_dir), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for name in (*NAMES[:3], "spc_alpaca_test", "spc_dpo_test", "spc_kto_test", "spc_inverse_train"):
        assert len(LlamaFactory(tmp_path, name).rows) == len(load(tmp_path / f"{name}.json")), name


class Recorder:
    """Keeps the JSON body of the last request."""

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.body = json.loads(request.content)
        choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
        return httpx2.Response(200, json={"id": "1", "object": "chat.completion", "choices": [choice]})


@pytest.fixture(scope="module")
def as_retrieved(tmp_path_factory):
    """The sample with the facts that retrieval finds, and no others: what serving will see."""
    out = tmp_path_factory.mktemp("as-retrieved") / "data"
    done = python_m("data_prep.build", "--spc", "sample", "--missed", "keep", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def messages_of_samples(conversation, side, left_out):
    """The messages of each sample of a side: an exchange that is left out ends one, and the next begins another."""
    turns = conversation.turns[1:] if conversation.turns[0].side == side else conversation.turns
    samples = [[]]
    for message, reply in zip(turns[::2], turns[1::2], strict=False):
        if (conversation.row, f"{message.text}\n{reply.text}") in left_out:
            samples.append([])
        else:
            samples[-1].append(message.text)
    return [messages for messages in samples if messages]


@pytest.mark.parametrize("form", ["sharegpt", "alpaca"])
def test_training_and_serving_see_the_same_token_ids(as_retrieved, form, monkeypatch):
    """Every turn of the sample's training split, asked by the client with the texts as they stand in the source."""
    monkeypatch.setenv("API_VERBOSE", "0")
    llamafactory = LlamaFactory(as_retrieved, f"spc_{form}_train")
    sharegpt = iter(load(as_retrieved / "spc_sharegpt_train.json"))
    rows = iter(llamafactory.rows)
    recorder = Recorder()
    client = PersonaClient(
        "http://fake/v1", "key", load_retriever(as_retrieved / "retriever.json"), model="persona",
        http_client=httpx2.Client(transport=httpx2.MockTransport(recorder)),
    )  # fmt: skip
    conversations, _ = read_conversations(SAMPLE / FILE_NAMES["train"], "train")
    rejects = map(json.loads, (as_retrieved / "rejects.jsonl").read_text(encoding="utf-8").splitlines())
    left_out = {(reject["row"], reject["text"]) for reject in rejects if reject["split"] == "train"}
    samples = [
        (conversation.cards[side], messages)
        for conversation in map(fill, conversations)
        for side in (0, 1)
        for messages in messages_of_samples(conversation, side, left_out)
    ]
    compared = 0
    for card, messages in samples:
        replies = [turn["value"] for turn in next(sharegpt)["conversations"]][1::2]
        row, talk = None, []
        for message, marked in zip(messages, replies, strict=True):
            talk.append({"role": "user", "content": message})
            client.reply(talk, card)
            prompt = llamafactory.request_ids(recorder.body)
            row = next(rows) if row is None or form == "alpaca" else row
            assert row["input_ids"][: len(prompt)] == prompt
            reply = row["labels"][len(prompt) :]
            target = llamafactory.tokenizer.encode(marked + "<|im_end|>\n", add_special_tokens=False)
            assert reply[: len(target)] == target
            talk.append({"role": "assistant", "content": marked})
            compared += 1
    assert next(sharegpt, None) is None
    assert next(rows, None) is None
    assert len(samples) > 2 * len(conversations)  # something was left out: later samples begin in mid-conversation
    assert compared == len(load(as_retrieved / "spc_alpaca_train.json"))
