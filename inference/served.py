"""What is known of the API that serves the model: its address, and which retriever the model learned with."""

from urllib.parse import urlsplit

from retrieval.base import Retriever

SERVED = "persona@"  # `make serve` names the model so, and then the retriever that it was trained with
BASE_URL = "http://127.0.0.1:8000/v1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_trained_with(model: str, retriever: Retriever) -> None:
    """Raise ValueError if the served ``model`` says ``persona@<identity>`` of another retriever than ours."""
    trained_with = model.removeprefix(SERVED)
    if trained_with not in (model, retriever.identity):
        raise ValueError(
            f"The model served was trained on facts that {trained_with} retrieved, but this retriever is"
            f" {retriever.identity}; name the retriever.json beside the model with --retriever."
        )


def host_of(base_url: str) -> str:
    """The host of an API's address. Raises ValueError if it is none."""
    parts = urlsplit(base_url)
    try:
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            return parts.hostname
    except ValueError:  # the port is no number, or too large a one
        pass
    raise ValueError(f"{base_url} is no address of an API; it looks like {BASE_URL}.")
