"""YAML for LLaMA-Factory, and the one way to run it that tells people what is missing before anything starts."""
