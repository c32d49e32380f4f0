"""What comes from outside: a pre-trained encoder or encoder-decoder and its tokenizer.

Weights are read from safetensors alone and no remote code is run. What cannot be used is refused
here, by name, and nothing is left random that should have been read.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from muppet_zoo.encode import TOKENIZER_FILE, open_tokenizer
from muppet_zoo.errors import UsageError

_TOKENIZER_FILES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
# Encoder-decoders that the tests go through: two families, each with its multilingual kin.
ENCODER_DECODERS = ("bart", "mbart", "t5", "mt5", "umt5")
# Families whose position embeddings start behind the padding id, as in fairseq.
_OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta",
     "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)  # fmt: skip


def load_encoder(name: str, *, random_init: bool) -> nn.Module:
    """A Hugging Face encoder without its pooling layer, which no head reads, or an encoder-decoder
    with its output layer, which generation does.

    Raises:
        UsageError: when the folder or name holds no usable model.
    """
    config = read_config(name)
    model_class, extra = _model_class(name, config)
    if random_init:
        try:
            encoder = model_class.from_config(config, trust_remote_code=False, **extra)
        except Exception as error:  # odd values make the library raise whatever it runs into
            raise _unreadable(name, error) from error
        return _with_plain_generation(encoder.float())
    if Path(name).is_dir() and not list(Path(name).glob("*.safetensors")):
        raise UsageError(
            f"no .safetensors weights in {name}; set model.random_init: true to start from random "
            f"weights, or save the model again with save_pretrained"
        )
    with quiet_transformers():
        try:
            encoder, info = model_class.from_pretrained(
                name,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, by name
                **extra,
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # as above
            raise _unreadable(name, error) from error
    # Surplus weights (a pooler, a pre-training head) are of no use here; missing ones would be
    # left random, and nobody would notice.
    if missing := sorted(info["missing_keys"]):
        raise UsageError(f"the weights of '{name}' lack {len(missing)} parameters: {_few(missing)}")
    if misfits := sorted(key for key, *_ in info["mismatched_keys"]):
        raise UsageError(
            f"the weights of '{name}' do not fit its config.json; {len(misfits)} parameters have "
            f"another shape: {_few(misfits)}"
        )
    return _with_plain_generation(encoder)


def _with_plain_generation(encoder: Any) -> nn.Module:
    """Leave a model's own generation settings aside, down to the ids of its special tokens.

    A minimum length or a forbidden repetition that suits one data set would be wrong for others,
    and what a call does not state the library takes from the model.
    """
    if hasattr(encoder, "generation_config"):
        from transformers import GenerationConfig

        ids = ("pad", "eos", "bos", "decoder_start")
        encoder.generation_config = GenerationConfig(
            **{
                f"{name}_token_id": getattr(encoder.config, f"{name}_token_id", None)
                for name in ids
            }
        )
    return encoder  # type: ignore[no-any-return]


def read_config(name: str) -> Any:
    """The configuration of a folder or hub name.

    Raises:
        UsageError: it cannot be read.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # as above
        raise _unreadable(name, error) from error
    # Layers that are left out at random would differ between processes.
    for key in ("encoder_layerdrop", "decoder_layerdrop"):
        if getattr(config, key, 0.0):
            setattr(config, key, 0.0)
    return config


def is_encoder_decoder(config: Any) -> bool:
    """Whether the model of this configuration can generate answers."""
    return bool(getattr(config, "is_encoder_decoder", False))


def first_position(config: Any) -> int:
    """Index of a sequence's first position embedding.

    Raises:
        UsageError: it is counted from the padding id, and there is none.
    """
    if config.model_type not in _OFFSET_POSITIONS:
        return 0
    if not isinstance(config.pad_token_id, int):
        raise UsageError(
            f"the encoder's config.json has pad_token_id {config.pad_token_id}; its positions "
            f"count from it, so it must be a whole number"
        )
    return config.pad_token_id + 1


def _model_class(name: str, config: Any) -> tuple[Any, dict[str, Any]]:
    """The class that loads the model, and what else to tell it; other models are refused."""
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    if is_encoder_decoder(config):
        if config.model_type not in ENCODER_DECODERS:
            raise UsageError(
                f"model.encoder '{name}' ({config.model_type}) is an encoder-decoder that cannot "
                f"be trained; those that can: {', '.join(ENCODER_DECODERS)}"
            )
        _check_token_ids(name, config)
        return AutoModelForSeq2SeqLM, {}
    # Encoders of text have masked-language models.
    text = type(config) in AutoModelForMaskedLM._model_mapping
    if not text or getattr(config, "is_decoder", False):
        raise UsageError(
            f"model.encoder '{name}' ({config.model_type}) is no bidirectional text encoder, such "
            f"as BERT, RoBERTa or DeBERTa, and no encoder-decoder, such as BART or T5; no other "
            f"model can be trained"
        )
    return AutoModel, {"add_pooling_layer": False} if _has_pooler(config) else {}


def _check_token_ids(name: str, config: Any) -> None:
    """A decoder begins and ends with these, and both are shifted in by their numbers."""
    keys = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    odd = [key for key in keys if not isinstance(getattr(config, key, None), int)]
    if odd:
        raise UsageError(
            f"config.json of model.encoder '{name}' states no number for {', '.join(odd)}; take "
            f"them from the model's tokenizer or generation_config.json"
        )


def read_tokenizer(encoder: str) -> dict[str, bytes]:
    """The tokenizer files of an encoder by name: a folder's as they are, or the hub's.

    tokenizer.json is what a build reads, to the byte: its digest tells which data a model is for,
    and a library that saves it writes other bytes.

    Raises:
        UsageError: they cannot be read, or there is no tokenizer.json.
    """
    own = open_tokenizer(encoder)
    try:
        if Path(encoder).is_dir():
            return _tokenizer_files(Path(encoder))
        from transformers import AutoTokenizer

        with TemporaryDirectory() as folder:
            AutoTokenizer.from_pretrained(encoder, trust_remote_code=False).save_pretrained(folder)
            return {**_tokenizer_files(Path(folder)), TOKENIZER_FILE: own.path.read_bytes()}
    except (OSError, ValueError) as error:
        raise UsageError(f"the tokenizer of '{encoder}' cannot be read: {first_line(error)}") from (
            error
        )


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _TOKENIZER_FILES
            if (folder / name).is_file()}  # fmt: skip


def _unreadable(name: str, error: Exception) -> UsageError:
    where = "" if Path(name).is_dir() else "there is no such folder, and as a name on the hub: "
    return UsageError(f"model.encoder '{name}' cannot be read: {where}{first_line(error)}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and load reports of the library, nor of the libraries that it loads in passing; the
    loop has a display of its own."""
    from transformers.utils import logging as library

    verbosity, disabled = library.get_verbosity(), logging.root.manager.disable
    library.set_verbosity_error()
    library.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        library.set_verbosity(verbosity)
        library.enable_progress_bar()


def _has_pooler(config: Any) -> bool:
    from transformers import AutoModel

    model_class = AutoModel._model_mapping[type(config)]
    return "add_pooling_layer" in inspect.signature(model_class.__init__).parameters


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def first_line(error: Exception) -> str:
    """The first line of a library's message; its kind when it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
