"""The thin client in front of any OpenAI-compatible API, and the demo that shows the whole path."""
