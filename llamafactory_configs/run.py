"""Run LLaMA-Factory on one of our configurations: ``python -m llamafactory_configs.run train tiny/lora``.

Checks first what would otherwise end in a traceback minutes later, sets the environment that the configuration
needs, and then becomes ``llamafactory-cli`` or, for training and export, watches over it. ``key=value`` arguments are
handed on and win over the YAML.
"""

import argparse
import os
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from llamafactory_configs import supervise
from llamafactory_configs.chat_template import write_chat_template
from llamafactory_configs.config import ConfigurationError, find_config, load_config
from llamafactory_configs.environment import check_port, environment
from llamafactory_configs.output_folder import check_writable
from llamafactory_configs.retriever_record import keep_record, model_folder
from llamafactory_configs.training import check_models, check_train, train

TASKS = {"train": "train", "serve": "api", "export": "export", "webui": "webui"}


def prepare(task: str, name: str | None, overrides: list[str]) -> tuple[list[str], DictConfig]:
    """The ``llamafactory-cli`` command and its configuration. Raises ConfigurationError if it cannot work."""
    path = find_config(task, name) if name else None
    config = load_config(path, overrides) if path else OmegaConf.create()
    check_models(config)
    if task == "train":
        check_train(config, name)
    elif task == "export" and not config.get("export_dir"):
        raise ConfigurationError(f"{name} names no export_dir; add one, such as export_dir=saves/merged.")
    command = [str(Path(sys.executable).with_name("llamafactory-cli")), TASKS[task]]
    return command + ([str(path), *overrides] if path else []), config


def start(task: str, name: str | None, overrides: list[str]) -> None:
    """Do the task. Raises ConfigurationError, supervise.Failed or supervise.Stopped."""
    command, config = prepare(task, name, overrides)
    if task == "train":
        train(name, command, config)
        return
    env = environment(config)
    if task == "serve":
        check_port(env["API_HOST"], env["API_PORT"], "PORT")
    elif task == "webui":
        check_port(env["GRADIO_SERVER_NAME"], env["GRADIO_SERVER_PORT"], "GRADIO_SERVER_PORT")
    elif task == "export":
        merged = Path(config.export_dir)
        check_writable(merged)
        keep_record(model_folder(config), merged, replace=True)
        supervise.run(command, env, merged)
        if config.get("template"):
            write_chat_template(merged, config.template)
        return
    os.execve(command[0], command, env)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llamafactory_configs.run", description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("config", nargs="?", help="e.g. tiny/lora, or a YAML file (webui: none)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="handed on to LLaMA-Factory")
    arguments = parser.parse_args()
    if (arguments.config is None) != (arguments.task == "webui"):
        parser.error("train, serve and export take a configuration, webui takes none")
    try:
        start(arguments.task, arguments.config, arguments.overrides)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # before or after LLaMA-Factory's own time
        sys.exit(130)
    except supervise.Stopped as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except supervise.Failed as failed:
        print(f"{failed.traceback}{failed}", file=sys.stderr)
        sys.exit(1 if failed.traceback else 2)


if __name__ == "__main__":
    main()
