"""``make train``: what must hold before a run begins, the run under supervision, and what is said when it ends."""

import contextlib
import os
import shlex
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from llamafactory_configs import output_folder, supervise
from llamafactory_configs.chat_template import write_chat_template
from llamafactory_configs.config import FOLDER, ConfigurationError, wants_gpu
from llamafactory_configs.environment import environment, has_gpu
from llamafactory_configs.output_folder import writing_alone
from llamafactory_configs.retriever_record import keep_record
from llamafactory_configs.run_record import RunRecord, begun_with_other_data


def check_train(config: DictConfig, name: str) -> None:
    """Raise ConfigurationError if ``config`` cannot be trained here and now; prints what the cards may not do."""
    if wants_gpu(config) and not has_gpu():
        raise ConfigurationError(
            f"{name} needs a GPU and this machine has none; `make demo` shows the whole path on a CPU."
        )
    if wants_gpu(config):
        from llamafactory_configs.hardware import cards_at_hand, fits  # PyTorch and transformers take seconds

        try:
            if cards := cards_at_hand():
                for sentence in fits(OmegaConf.to_container(config), cards):
                    print(f"Before it starts: {sentence}.", flush=True)  # what memory is computed is an upper estimate
        except ConfigurationError as unknown:  # a shape that only the memory is computed from
            print(f"Memory is not checked: {unknown}", flush=True)
    if not config.get("output_dir"):
        raise ConfigurationError(f"{name} names no output_dir; add one, such as output_dir=saves/mine.")
    info = Path(config.get("dataset_dir", "data")) / "dataset_info.json"
    if not info.is_file():
        raise ConfigurationError(f"{info} is not there; build the datasets with `make data`.")
    if output_folder.is_finished(Path(config.output_dir)) and not config.get("overwrite_output_dir"):
        raise ConfigurationError(
            f"{config.output_dir} holds a finished run; to start over add overwrite_output_dir=true to ARGS, "
            "to keep it add output_dir=saves/mine."
        )


def check_models(config: DictConfig) -> None:
    """Raise ConfigurationError if a model or adapter that a run of ours must have made is not there."""
    for key in ("model_name_or_path", "adapter_name_or_path"):
        for path in filter(None, (config.get(key) or "").split(",")):
            trained = [Path(path) / name for name in ("config.json", "adapter_config.json")]
            if path.startswith("saves/") and not any(file.is_file() for file in trained):
                name = path.removeprefix("saves/")
                ours = (FOLDER / "train" / f"{name}.yaml").is_file()
                hint = f"train it with `make train CONFIG={name}`" if ours else "make it first, or name another folder"
                raise ConfigurationError(f"{path} holds no model yet; {hint}.")


def train(name: str, command: list[str], config: DictConfig) -> None:
    """Train until the run is finished. Prints what it goes on from and how it ended.

    Raises ConfigurationError before the run, and supervise.Failed or supervise.Stopped for how it ended; both say
    where to go on.
    """
    output, env = Path(config.output_dir), environment(config)
    replace = bool(config.get("overwrite_output_dir"))
    # What is added is the same on every node: processes that go on from different steps wait for each other forever.
    checkpoint = None if replace else output_folder.checkpoint_to_go_on_from(output, config.get("max_steps", -1))
    if checkpoint:
        command = [*command, f"resume_from_checkpoint={checkpoint}"]
    if "include_num_input_tokens_seen" not in config:
        # The trainer sums the attention mask, which is not one of ones where rows are neatly packed.
        counted = "all" if config.get("neat_packing") else "non_padding"
        command = [*command, f"include_num_input_tokens_seen={counted}"]
    if int(os.environ.get("NODE_RANK", "0")):  # the first node keeps the shared folder
        supervise.run(command, env, output)
        return
    with writing_alone(output) as lock:
        _tidy(config, output, checkpoint, replace)
        record = RunRecord(name, config, checkpoint)
        try:
            supervise.run(command, env, output, keep_open=lock)
        except supervise.Stopped as stopped:
            record.end("stopped")
            raise supervise.Stopped(stopped.number, _where(config, output)) from None
        except supervise.Failed as failed:
            with contextlib.suppress(OSError):  # a full disk takes no record either
                record.end("failed")
            raise supervise.Failed(f"{failed} {_where(config, output)}", failed.traceback) from None
        else:
            print(_summary(record.end("finished")), flush=True)
        finally:
            # an adapter gets its template when it is exported
            if output_folder.is_finished(output) and config.get("finetuning_type") == "full" and config.get("template"):
                write_chat_template(output, config.template)


def _tidy(config: DictConfig, output: Path, checkpoint: Path | None, replace: bool) -> None:
    """Make the folder what the run goes on from, and say what that is. Raises ConfigurationError as the record does."""
    data = Path(config.get("dataset_dir", "data"))
    keep_record(data, output, replace)
    if replace:
        output_folder.clear(output)
    for broken in output_folder.remove_broken_checkpoints(output):
        print(f"{output / broken} was cut off in mid-write and is removed.", flush=True)
    output_folder.cut_log(output)
    if checkpoint:
        print(f"Going on from {checkpoint}.", flush=True)
        if begun_with_other_data(output, data):
            print(
                f"{data} was built anew since this run began; to learn from it alone, start over with"
                " overwrite_output_dir=true.",
                flush=True,
            )


def _where(config: DictConfig, output: Path) -> str:
    """What is left of a run that ended early, and how to go on."""
    if output_folder.is_finished(output):
        return f"The model is trained and lies in {output}; what was cut short came after it."
    same = "The same command" + (", without overwrite_output_dir=true," if config.get("overwrite_output_dir") else "")
    if whole := output_folder.checkpoints(output):
        return f"{same} goes on from {whole[-1]}."
    return "There is no checkpoint yet; the same command starts at the beginning."


def _summary(record: dict) -> str:
    loss, speed = record["loss"], record["tokens_per_second"]
    return (
        f"Finished after {record['steps']:,} steps"
        + (f", loss {loss['first']:.3f} to {loss['last']:.3f}" if loss else "")
        + (f", {speed:,.0f} tokens/s" if speed else "")
        + f"; all of it is in {shlex.quote(record['config']['output_dir'])}/run.json."
    )
