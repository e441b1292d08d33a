import json
from dataclasses import replace

import pytest
from modelscope_hub.errors import ServerError

from data_prep.errors import InputError
from data_prep.provenance import sha256
from eval.answering import work_of
from eval.models import folder_of, open_model, weight_files
from eval.teacher_forced import TeacherForced
from tests.conftest import ROOT

TINY = ROOT / "models" / "persona-tiny"


def serve(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def adapter(folder):
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"1")
    return folder


def test_a_configuration_names_a_model_and_all_that_it_is_served_with():
    model = open_model("qwen3-1.7b/lora")
    assert (model.model_name_or_path, model.template) == ("Qwen/Qwen3-1.7B", "qwen3_nothink")
    assert str(model.folder) == model.adapter_name_or_path == "saves/qwen3-1.7b/lora"
    assert model.served_with["infer_backend"] == "huggingface"


def test_the_record_holds_the_hashes_of_model_and_adapter(tmp_path):
    own = adapter(tmp_path / "adapter")
    name = serve(tmp_path, f"model_name_or_path: {TINY}\nadapter_name_or_path: {own}\ntemplate: qwen3_nothink\n")
    record = open_model(name).record
    files = [TINY / "model.safetensors", own / "adapter_model.safetensors", own / "adapter_config.json"]
    assert record["weights_sha256"] == {file.name: sha256(file) for file in files}
    assert json.loads(json.dumps(record)) == record


def test_other_weights_and_other_settings_have_another_folder(tmp_path):
    own = adapter(tmp_path / "adapter")
    name = serve(tmp_path, f"model_name_or_path: {TINY}\nadapter_name_or_path: {own}\ntemplate: qwen3_nothink\n")
    model = open_model(name)
    first = work_of(tmp_path, model).folder
    assert work_of(tmp_path, open_model(name)).folder == first
    assert work_of(tmp_path, replace(model, served_with={"repetition_penalty": 1.2})).folder != first
    (own / "adapter_model.safetensors").write_bytes(b"2")
    other = work_of(tmp_path, open_model(name)).folder
    (own / "adapter_config.json").write_text('{"lora_alpha": 1}')
    assert len({first, other, work_of(tmp_path, open_model(name)).folder}) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("template: qwen3_nothink\n", "names no model_name_or_path"),
        ("model_name_or_path: a\n", "names no template"),
        ("model_name_or_path: a\ntemplate: b\nadapter_name_or_path: c,d\n", "more than one adapter, c,d"),
        ("[", "is not valid YAML"),
    ],
)
def test_a_configuration_that_will_not_do_is_refused(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        open_model(serve(tmp_path, text))


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="no model at nobody/nothing"):
        weight_files("nobody/nothing", None)
    with pytest.raises(InputError, match="no adapter at"):
        weight_files(str(TINY), str(tmp_path / "none"))
    with pytest.raises(InputError, match="no adapter at"):  # before a model is fetched
        weight_files("nobody/nothing", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no model at saves/nothing; train it first"):
        weight_files("saves/nothing", None)


def test_a_model_comes_from_modelscope_where_that_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setenv("USE_MODELSCOPE_HUB", "1")
    monkeypatch.setenv("HOME", str(tmp_path))  # LLaMA-Factory locks a file there
    monkeypatch.setattr("modelscope.snapshot_download", lambda model, **_: asked.append(model) or str(TINY))
    assert folder_of("nobody/nothing") == TINY
    assert weight_files("nobody/nothing", None) == [TINY / "model.safetensors"]
    assert asked == ["nobody/nothing"] * 2
    assert folder_of(str(TINY)) == TINY and len(asked) == 2
    assert TeacherForced("nobody/nothing").tokenizer.encode("Hi!")  # its tokenizer comes from there too


def test_what_modelscope_has_not_is_one_sentence(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ServerError("down")

    monkeypatch.setenv("USE_MODELSCOPE_HUB", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("modelscope.snapshot_download", fail)
    with pytest.raises(InputError, match="no model at nobody/nothing on ModelScope"):
        folder_of("nobody/nothing")
