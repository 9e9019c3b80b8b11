"""What tests share: a tiny BERT with random weights, and a bundle of it. No Ray, no network."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = [
    "vpn",
    "printer",
    "paper",
    "login",
    "password",
    "server",
    "disk",
    "invoice",
    "mail",
    "phone",
    "cable",
    "screen",
    "access",
    "denied",
    "slow",
    "down",
    "error",
    "reset",
    "order",
    "account",
    "the",
    "a",
    "is",
    "not",
    "and",
    "for",
    "my",
    "please",
    "help",
]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and 32 dimensions, with a WordPiece tokenizer of a few dozen words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters]
    pieces = list(dict.fromkeys([*pieces, *(f"##{letter}" for letter in letters)]))
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(str(folder))
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    ).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def make_bundle(tiny_model: Path) -> Callable[..., Path]:
    """A function that writes a bundle with random weights into a folder."""
    from jobs.classifier import bundle
    from jobs.classifier.network import new_network

    def make(
        folder: Path, labels: tuple[str, ...] = ("mail", "network", "printing"), **about: object
    ) -> Path:
        network = new_network(tiny_model, labels, dropout=0.1, seed=1)
        even = [1.0 / len(labels)] * len(labels)
        values = {
            "labels": list(labels),
            "max_tokens": 16,
            "text_columns": ["text"],
            "training_prior": even,
            "natural_prior": even,
            "decision_offset": [0.0] * len(labels),
            "configuration": {"model.name": "tiny"},
            "versions": bundle.versions(),
        } | about
        metrics = {"rows": 3, "accuracy": 0.5, "macro_f1": 0.4, "per_class": {}}
        bundle.write(
            folder,
            network=network,
            tokenizer_folder=tiny_model,
            about=bundle.About(**values),
            metrics=metrics,
            card="# A card\n",
        )
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Path]) -> Path:
    """A bundle of three labels; read only."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def tickets() -> list[dict[str, object]]:
    """Forty-eight separable tickets of three teams, unevenly many."""
    kinds = {"mail": ("mail", 24), "network": ("vpn", 16), "printing": ("printer", 8)}
    return [
        {"id": f"T{team}{number}", "text": f"my {word} is down {WORDS[number]}", "label": team}
        for team, (word, count) in kinds.items()
        for number in range(count)
    ]


def last_json(text: str) -> dict[str, object]:
    """The JSON object on the last line of a command's standard output."""
    found: dict[str, object] = json.loads(text.strip().splitlines()[-1])
    return found


def job_json(text: str) -> dict[str, object]:
    """The same of a job that Ray's own commands followed: their words about how it ended come
    after its last line."""
    (*_, last) = (line for line in text.splitlines() if line.startswith("{"))
    return last_json(last)
