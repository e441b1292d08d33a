"""What the READMEs name exists, and the two say the same."""

import json
import re
import subprocess

import pytest

from data_prep.formats import FORMATS
from inference.gateway.completions import OURS
from llamafactory_configs.config import FOLDER
from retrieval.prompt import SYSTEM_PROMPTS
from tests.conftest import ROOT

READMES = ("README.md", "README_zh.md")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", READMES)
def test_every_make_target_exists_and_is_documented(name):
    targets = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`|=\S+ )make ([a-z-]+)", read(name), re.MULTILINE)) <= targets
    assert {"demo", "test", "data", "train", "serve", "webui", "export", "lint"} <= targets


@pytest.mark.parametrize("name", READMES)
def test_every_configuration_and_path_exists(name):
    text = read(name)
    configs = {str(path.relative_to(FOLDER / "train").with_suffix("")) for path in (FOLDER / "train").rglob("*.yaml")}
    assert configs <= set(re.findall(r"`([\w./-]+)`", text))
    for task, config in re.findall(r"make (train|serve|export) CONFIG=([\w./-]+)", text):
        assert (FOLDER / task / f"{config}.yaml").is_file()
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", READMES)
def test_every_format_has_its_line_in_the_table_of_files(name):
    lines = re.findall(r"^\| `spc_(\w+)_\{train,valid,test\}\.json` \|", read(name), re.MULTILINE)
    assert lines == list(FORMATS)


@pytest.mark.parametrize("name", READMES)
def test_the_curl_example_is_what_the_client_sends(name):
    assert f'"content": "{SYSTEM_PROMPTS["en"]}"' in read(name)


@pytest.mark.parametrize("name", READMES)
def test_the_shell_blocks_are_valid_shell_and_the_body_of_curl_is_json(name):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", read(name), re.M | re.S)
    blocks = [block for language, block in fenced if not language and re.match("curl|make|printf", block)]
    assert len(blocks) == 7
    for block in blocks:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    [body] = re.findall(r"<<'EOF'\n(.*)EOF", "".join(blocks), re.S)
    assert json.loads(body)["messages"][0]["content"] == SYSTEM_PROMPTS["en"]


@pytest.mark.parametrize("name", READMES)
def test_every_field_of_the_gateways_own_is_in_its_table(name):
    assert {field for field in OURS if re.search(rf"^\| .*`{field}`.* \|", read(name), re.MULTILINE)} == OURS


def test_both_languages_show_the_same_commands_and_output():
    def blocks(name):
        found = re.findall(r"^```\w*\n(.*?)^```", read(name), re.MULTILINE | re.DOTALL)
        return [re.sub(r" *#.*", "", block) for block in found]

    assert blocks("README.md") == blocks("README_zh.md")


@pytest.mark.parametrize("name", READMES)
def test_the_table_of_retrievers_is_what_was_measured(name):
    files = (f"reports/results/retrieval_{part}.json" for part in ("kept_back", "valid"))
    kept, valid = (json.loads(read(file))["results"] for file in files)
    for retriever in kept:
        both = (kept[retriever], valid[retriever])
        measured = [found[label]["recall@2"] for found in both for label in ("used", "relevant")]
        measured.append(valid[retriever]["inject"]["f1"])
        cells = (f"{m['value']:.2f} [{m['low']:.2f}, {m['high']:.2f}]" for m in measured)
        assert f"\n| `{retriever}` | {' | '.join(cells)} |\n" in read(name)
