"""The bundle: a plain Hugging Face folder that notices every change."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.errors import BundleError
from jobs.classifier import bundle
from jobs.classifier.card import card
from jobs.classifier.network import new_network
from jobs.classifier.predictor import Predictor
from tests.unit.memory import write_sharp_bundle

FILES = (
    "README.md",
    "config.json",
    "metrics.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def change(folder: Path, **values: Any) -> None:
    path = folder / bundle.COMMIT
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_bundle_holds_safetensors_and_text_and_names_each_of_its_files(
    tiny_bundle: Path,
) -> None:
    found = {path.name for path in tiny_bundle.iterdir()}
    assert found == {*FILES, bundle.COMMIT}
    raw = json.loads((tiny_bundle / bundle.COMMIT).read_text())
    assert set(raw["sha256"]) == set(FILES)


def test_a_sound_bundle_says_all_about_itself(make_bundle: Callable[..., Path], tmp_path) -> None:
    values = {
        "labels": ["a", "ß", "支付"],
        "max_tokens": 24,
        "text_columns": ["subject", "body"],
        "training_prior": [0.25, 0.5, 0.25],
        "natural_prior": [0.1, 0.2, 0.7],
        "temperature": 1.5,
        "decision_offset": [0.5, -0.25, 0.0],
        "abstention_threshold": 0.4,
        "calibration": {"rows": 7, "nll_after": 0.25},
        "configuration": {"model.name": "tiny", "train.seed": 3},
        "data": {"uri": "s3://rows"},
        "manifest_digest": "abc",
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {"torch": "2"},
    }
    folder = make_bundle(tmp_path / "new", **values)
    assert bundle.check(folder) == bundle.read_about(folder) == bundle.About(**values)
    assert json.loads((folder / "metrics.json").read_text())["rows"] == 3
    assert (folder / "README.md").read_text() == "# A card\n"


@pytest.mark.parametrize("name", FILES)
def test_a_single_changed_byte_is_noticed_and_its_file_named(copy: Path, name: str) -> None:
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="was changed after the bundle was made") as raised:
        bundle.check(copy)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"is incomplete: {name} is missing"):
        bundle.check(copy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_bundle_that_does_not_vouch_for_what_it_needs_is_incomplete(
    copy: Path, name: str
) -> None:
    hashes = json.loads((copy / bundle.COMMIT).read_text())["sha256"]
    del hashes[name]
    change(copy, sha256=hashes)
    with pytest.raises(BundleError, match=f"names no {name}"):
        bundle.check(copy)


def test_hashes_of_files_elsewhere_are_refused(copy: Path) -> None:
    (copy.parent / "outside").write_bytes(b"x")
    hashes = json.loads((copy / bundle.COMMIT).read_text())["sha256"]
    change(copy, sha256=hashes | {"../outside": "00"})
    with pytest.raises(BundleError, match=r"\.\./outside is missing"):
        bundle.check(copy)


@pytest.mark.parametrize("found", [0, 2, "1", None])
def test_another_format_is_refused_and_named(copy: Path, found: object) -> None:
    change(copy, format_version=found)
    for read in (bundle.check, bundle.read_about):
        with pytest.raises(BundleError, match=f"is of format {found}; this version reads 1"):
            read(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no bundle: there is no bundle.json in it"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[1]", "is of format None"),
        (b'{"format_version": 1, "labels": []}', "does not fit format 1"),
    ],
)
def test_a_folder_that_is_no_bundle_is_refused_in_a_sentence(
    copy: Path, content: bytes | None, message: str
) -> None:
    path = copy / bundle.COMMIT
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=message):
        bundle.read_about(copy)


def test_plain_transformers_gives_the_same_labels_and_scores(
    tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = write_sharp_bundle(tmp_path / "sharp", tiny_model)
    texts = [
        "my printer is down",
        "vpn",
        "please help my account is not down and the password reset for the server is slow " * 3,
        "支付 error!",
        "Login\n\ndenied",
    ]
    ours = Predictor(folder, device="cpu").predict(texts)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = model(**inputs).logits.softmax(-1).numpy()
    assert inputs["input_ids"].shape[1] == 16
    np.testing.assert_allclose(ours.scores, theirs, atol=1e-5)
    names = bundle.read_about(folder).labels
    assert [names[label] for label in ours.labels] == [
        model.config.id2label[int(label)] for label in theirs.argmax(-1)
    ]
    assert len(set(ours.labels.tolist())) > 1
    assert ours.scores.std(axis=0).min() > 0.05


def test_weights_are_stored_in_float32_whatever_they_were_trained_in(
    tiny_model: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    network = new_network(tiny_model, ("a", "b"), dropout=0.1, seed=0)
    low = network.classifier.weight.detach().to(torch.bfloat16)
    about = replace(bundle.read_about(tiny_bundle), labels=["a", "b"])
    bundle.write(
        tmp_path / "low",
        network=network.to(torch.bfloat16),
        tokenizer_folder=tiny_model,
        about=about,
        metrics={},
        card="",
    )
    weights = load_file(tmp_path / "low" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert torch.equal(weights["classifier.weight"], low.float())


def test_a_model_without_a_fast_tokenizer_is_refused(
    tiny_model: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow").mkdir()
    with pytest.raises(BundleError, match="only models with a fast tokenizer"):
        bundle.write(
            tmp_path / "new",
            network=new_network(tiny_model, ("a", "b", "c"), dropout=0.1, seed=0),
            tokenizer_folder=tmp_path / "slow",
            about=bundle.read_about(tiny_bundle),
            metrics={},
            card="",
        )
    assert not (tmp_path / "new" / bundle.COMMIT).exists()


ROW = {"precision": 0.5, "recall": 0.25, "f1": 0.3333, "support": 12}
# What jobs.decisions writes.
CALIBRATION = {
    "rows": 1234,
    "temperature": 0.625,
    "prior_strength": 0.4,
    "metric": "macro_f1",
    "offset_strength": 0.55,
    "abstention_threshold": 0.5,
    "nll_before": 0.9,
    "nll_after": 0.6,
    "calibration_error_before": 0.2,
    "calibration_error": 0.03,
    "coverage": 0.9,
    "answered_accuracy": 0.975,
}


def test_the_card_names_data_balance_and_figures_per_class(tiny_bundle: Path) -> None:
    about = replace(
        bundle.read_about(tiny_bundle),
        labels=["a|b", "c", "d"],
        configuration={"model.name": "tiny", "balance.strategy": "undersample"},
        natural_prior=[0.7, 0.2, 0.1],
        manifest_digest="abc123",
    )
    metrics = {"accuracy": 0.75, "macro_f1": 0.5, "per_class": {"a|b": ROW}}
    text = card(about, metrics, title="Ticket router")
    assert text.startswith("---\npipeline_tag: text-classification\n")
    assert "# Ticket router" in text
    assert "manifest abc123; balance: undersample" in text
    assert "at most 16 tokens" in text
    assert "| macro f1 | 0.5000 |" in text
    assert "| balanced accuracy" not in text
    assert "| a/b | 0.7000 | 0.3333 | 0.500 | 0.250 | 0.333 | 12 |" in text


def test_a_bundle_of_a_loss_without_a_prior_says_none(copy: Path) -> None:
    change(copy, training_prior=None)
    about = bundle.read_about(copy)
    assert about.training_prior is None
    text = card(about, {"per_class": {"mail": ROW}}, title="Ticket router")
    assert "| mail | 0.3333 | none | 0.500 | 0.250 | 0.333 | 12 |" in text


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        ({"data.fraction": 0.1}, "balance: none, on 0.1 of the training rows\n"),
        ({"data.fraction": 1.0}, "balance: none\n"),
        ({}, "balance: none\n"),
    ],
)
def test_the_card_of_a_cheap_first_run_says_so(
    tiny_bundle: Path, configuration: dict[str, Any], says: str
) -> None:
    about = replace(bundle.read_about(tiny_bundle), configuration=configuration)
    assert says in card(about, {}, title="Ticket router")


def test_the_card_says_what_scores_are_worth_and_when_a_human_is_asked(tiny_bundle: Path) -> None:
    about = replace(
        bundle.read_about(tiny_bundle),
        temperature=0.625,
        abstention_threshold=0.5,
        calibration=CALIBRATION,
    )
    text = card(about, {}, title="Ticket router")
    assert "Logits were divided by 0.625, 0.40 · log(share of the data / share in training)" in text
    assert "fitted on 1,234 validation rows" in text
    assert "0.2000 before, 0.0300 after, on the rows it was fitted on: on others expect" in text
    assert "argmax of log-scores - 0.55 · log(share of the data), chosen for macro f1" in text
    assert "Below a score of 0.5000 a human is asked: 90.0% of the validation rows" in text
    assert "97.5% of these right" in text
    assert "not calibrated" not in text


def test_the_card_says_where_nothing_is_abstained_on_corrected_or_calibrated(
    tiny_bundle: Path,
) -> None:
    plain = bundle.read_about(tiny_bundle)
    assert "they were not calibrated" in card(plain, {}, title="Ticket router")
    focal = replace(plain, training_prior=None, calibration=CALIBRATION)
    text = card(focal, {}, title="Ticket router")
    assert "no prior correction, as the loss was that of no prior" in text
    assert "Every text is answered: no abstention threshold" in text


def test_a_bundle_of_before_there_was_calibration_is_still_read(copy: Path) -> None:
    path = copy / bundle.COMMIT
    raw = json.loads(path.read_text())
    del raw["calibration"]
    path.write_text(json.dumps(raw))
    assert bundle.check(copy).calibration == {}
    assert Predictor(copy, device="cpu").predict(["vpn"]).scores.shape == (1, 3)


def test_versions_name_the_packages_that_decide_the_numbers() -> None:
    found = bundle.versions()
    assert found["torch"] == torch.__version__
    assert {"python", "transformers", "tokenizers", "numpy"} <= found.keys()


def test_what_a_later_version_added_is_passed_over(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "later")
    about = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(about | {"unheard_of": 1}))
    assert bundle.check(folder) == bundle.read_about(tiny_bundle)


def test_a_bundle_that_is_amended_stays_whole_and_says_the_new_hashes(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    folder = make_bundle(tmp_path / "bundle")
    before = bundle.read_about(folder)
    bundle.amend(folder, {"README.md": "# Another card: größer\n", "promotion.json": "{}\n"})
    assert bundle.check(folder) == before
    assert (folder / "README.md").read_text(encoding="utf-8") == "# Another card: größer\n"
    hashes = json.loads((folder / bundle.COMMIT).read_text())["sha256"]
    assert hashes["promotion.json"] == hashlib.sha256(b"{}\n").hexdigest()
    (folder / "promotion.json").write_text("{ }\n")
    with pytest.raises(BundleError, match=r"promotion\.json was changed"):
        bundle.check(folder)
