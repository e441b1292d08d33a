import hashlib
import json
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from data_prep.sources import FILE_NAMES, SAMPLE
from tests.conftest import python_m


def test_a_missing_folder_and_a_missing_file_are_named(tmp_path):
    done = python_m("data_prep.build", "--spc", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nowhere" in done.stderr
    (tmp_path / "empty").mkdir()
    done = python_m("data_prep.build", "--spc", str(tmp_path / "empty"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert FILE_NAMES["train"] in done.stderr


def test_without_the_hub_one_sentence_names_the_other_sources(tmp_path):
    # The real hub client, pointed at a port where nobody listens: HF_ENDPOINT is honoured, or it would go elsewhere.
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    done = python_m("data_prep.build", "--out", str(tmp_path / "data"), env=env)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert "SPC=sample" in sentence
    assert "SPC=<folder" in sentence
    assert "http://127.0.0.1:9" in sentence
    assert not (tmp_path / "data").exists()


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the hub does for the three files of the dataset, with the sample's content or what ``spoil`` makes."""

    spoil = staticmethod(lambda content: content)

    def do_GET(self):
        repository = "/datasets/google/Synthetic-Persona-Chat/resolve/main/data/"
        path = SAMPLE / self.path.removeprefix(repository)
        if not self.path.startswith(repository) or not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.spoil(content))

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@contextmanager
def hub(spoil=None):
    handler = type("Handler", (FakeHub,), {"spoil": staticmethod(spoil)} if spoil else {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def build_from_hub(endpoint, tmp_path):
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    return python_m("data_prep.build", "--out", str(tmp_path / "data"), env=env)


def test_the_hub_is_the_default_source_and_a_mirror_will_do(sample_data, tmp_path):
    with hub() as endpoint:
        done = build_from_hub(endpoint, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "data" / "manifest.json").read_text(encoding="utf-8"))["source"] == "hub"
    for name in ("spc_sharegpt_train.json", "retriever.json", "rejects.jsonl"):
        assert (tmp_path / "data" / name).read_bytes() == (sample_data / name).read_bytes()


def test_a_mirror_that_breaks_off_is_one_sentence(tmp_path):
    with hub(lambda content: content[:20]) as endpoint:
        done = build_from_hub(endpoint, tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "SPC=sample" in done.stderr.splitlines()[-1]
