"""Answers from a bundle."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.errors import BundleError
from jobs.classifier import bundle
from jobs.classifier import predictor as module
from jobs.classifier.predictor import Predictor
from tests.conftest import WORDS
from tests.unit.memory import write_sharp_bundle

ROOT = Path(__file__).parents[2]
OFFSET = [0.0, 0.6, -0.6]


def texts_of(count: int, *, longest: int = 30) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def sharp_bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sharp_bundle(tmp_path_factory.mktemp("bundles") / "sharp", tiny_model)


@pytest.fixture(scope="module")
def predictor(sharp_bundle: Path) -> Predictor:
    return Predictor(sharp_bundle, device="cpu")


def test_answers_come_in_the_order_of_the_texts_however_they_are_batched(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = texts_of(60)
    whole = predictor.predict(texts)
    assert len(np.unique(whole.logits[:, 0].round(3))) > 50
    assert len(set(whole.labels.tolist())) > 1
    alone = np.concatenate([predictor.predict([text]).logits for text in texts])
    np.testing.assert_allclose(whole.logits, alone, atol=1e-5)
    order = np.random.default_rng(1).permutation(60)
    moved = predictor.predict([texts[k] for k in order])
    np.testing.assert_allclose(moved.logits, whole.logits[order], atol=1e-5)
    monkeypatch.setattr(module, "BATCH_TOKENS", 40)
    np.testing.assert_allclose(predictor.predict(texts).logits, alone, atol=1e-5)


def passes(predictor: Predictor, texts: list[str]) -> list[list[int]]:
    """The lengths of the texts of every forward pass."""
    seen: list[list[int]] = []
    inner = predictor._forward
    predictor._forward = lambda rows: (seen.append([len(r) for r in rows]), inner(rows))[1]  # type: ignore[method-assign]
    predictor.predict(texts)
    return seen


def test_no_forward_pass_is_larger_than_the_budget_and_every_text_is_in_one(
    sharp_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 64)
    found = passes(Predictor(sharp_bundle, device="cpu"), texts_of(60))
    assert sum(len(lengths) for lengths in found) == 60
    widths = [module.grid(lengths[0]) for lengths in found]
    assert [max(lengths) for lengths in found] == [lengths[0] for lengths in found]
    assert widths == sorted(widths, reverse=True)
    assert all(len(rows) * width <= 64 for rows, width in zip(found, widths, strict=True))
    # A pass ends only where one more row would not have fitted.
    assert all(len(r) == 64 // width for r, width in zip(found[:-1], widths[:-1], strict=True))


def test_a_filled_pass_takes_no_text_of_less_than_half_its_width(
    sharp_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILLED_TOKENS", 32)
    texts = [" ".join(["vpn"] * words) for words in (14, 14, 10, 3, 3, 1)]  # and two tokens each
    predictor = Predictor(sharp_bundle, device="cpu")
    assert passes(predictor, texts) == [[16, 16, 12], [5, 5, 3]]
    monkeypatch.setattr(module, "FILLED_TOKENS", 1000)
    assert passes(predictor, texts) == [[16, 16, 12, 5, 5, 3]]


def test_a_long_text_is_cut_and_said_to_be(predictor: Predictor) -> None:
    fits = " ".join(["vpn"] * 14)
    answers = predictor.predict(["mail", fits, f"{fits} printer"])
    assert answers.truncated.tolist() == [False, False, True]
    np.testing.assert_allclose(answers.logits[2], answers.logits[1], atol=1e-6)


def test_no_texts_give_no_answers(predictor: Predictor) -> None:
    answers = predictor.predict([])
    assert answers.scores.shape == answers.logits.shape == (0, 3)
    assert answers.labels.shape == answers.abstained.shape == answers.truncated.shape == (0,)
    assert answers.label_scores.shape == (0,)


def test_scores_are_probabilities_and_the_label_has_the_highest_without_an_offset(
    predictor: Predictor,
) -> None:
    answers = predictor.predict(texts_of(20))
    assert answers.labels.dtype == np.int64
    assert answers.scores.dtype == np.float32
    np.testing.assert_allclose(answers.scores.sum(axis=1), 1, atol=1e-6)
    assert answers.scores.argmax(axis=1).tolist() == answers.labels.tolist()
    assert answers.label_scores.tolist() == answers.scores.max(axis=1).tolist()
    assert not answers.abstained.any()


def test_the_label_follows_the_logits_and_the_scores_have_the_offset_taken_out(
    predictor: Predictor, tiny_model: Path, tmp_path: Path
) -> None:
    texts = texts_of(40)
    plain = predictor.predict(texts)
    moved = Predictor(
        write_sharp_bundle(tmp_path / "moved", tiny_model, decision_offset=OFFSET), device="cpu"
    ).predict(texts)
    np.testing.assert_allclose(moved.logits, plain.logits, atol=1e-6)
    assert moved.labels.tolist() == moved.logits.argmax(axis=1).tolist() == plain.labels.tolist()
    taken_out = np.exp(moved.logits - np.array(OFFSET))
    expected = taken_out / taken_out.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(moved.scores, expected, atol=1e-6)
    assert (moved.scores.argmax(axis=1) != moved.labels).any(), "the offset decides some rows"
    rows = np.arange(len(texts))
    assert moved.label_scores.tolist() == moved.scores[rows, moved.labels].tolist()


def test_answers_below_the_threshold_are_abstentions_by_the_score_of_the_label(
    predictor: Predictor, tiny_model: Path, tmp_path: Path
) -> None:
    texts = texts_of(41)
    scores = np.sort(
        Predictor(
            write_sharp_bundle(tmp_path / "a", tiny_model, decision_offset=OFFSET), device="cpu"
        )
        .predict(texts)
        .label_scores
    )
    threshold = float(scores[19] + scores[20]) / 2
    folder = write_sharp_bundle(
        tmp_path / "b", tiny_model, decision_offset=OFFSET, abstention_threshold=threshold
    )
    answers = Predictor(folder, device="cpu").predict(texts)
    assert answers.abstained.sum() == 20
    assert answers.label_scores[answers.abstained].max() < threshold
    assert answers.label_scores[~answers.abstained].min() >= threshold
    assert answers.labels.tolist() == predictor.predict(texts).labels.tolist()


def test_a_row_whose_score_is_the_threshold_is_answered() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.3, 0.0]])
    truncated = np.zeros(3, dtype=bool)
    score = float(module.decide(logits, truncated, [], 0.0).label_scores[1])
    assert module.decide(logits, truncated, [], score).abstained.tolist() == [False, False, True]
    # Not a float32: it is compared as one.
    nearly = np.nextafter(score, 1.0)
    assert module.decide(logits, truncated, [], nearly).abstained.tolist() == [False, False, True]


def test_bfloat16_answers_are_close_to_those_of_float32(
    sharp_bundle: Path, predictor: Predictor
) -> None:
    texts = texts_of(20)
    low = Predictor(sharp_bundle, device="cpu", precision="bf16").predict(texts)
    exact = predictor.predict(texts)
    assert low.scores.dtype == np.float32
    assert low.logits.tolist() != exact.logits.tolist()
    # Weights and sums of 8 bits; MiniLM's scores on real texts differ by 0.02 at most.
    np.testing.assert_allclose(low.scores, exact.scores, atol=0.03)


def test_with_bfloat16_the_head_still_computes_in_float32(sharp_bundle: Path) -> None:
    low = Predictor(sharp_bundle, device="cpu", precision="bf16")
    made: Any = low._logits
    assert made._pass.words.dtype == torch.bfloat16
    assert made._pass.head.dtype == torch.float32


def test_answering_leaves_no_gradients_and_no_dropout(predictor: Predictor) -> None:
    first, second = (predictor.predict(["vpn is down"]).logits for _ in range(2))
    assert first.tolist() == second.tolist()
    made: Any = predictor._logits
    assert not made._pass.training
    assert not any(p.requires_grad for p in made._pass.parameters())


def test_a_network_of_another_kind_answers_by_transformers_own_pass(
    sharp_bundle: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.unpadded, "fits", lambda config: False)
    texts = texts_of(9)
    expected = predictor.predict(texts)
    for precision, close in (("fp32", 1e-5), ("bf16", 0.03)):
        other = Predictor(sharp_bundle, device="cpu", precision=precision)
        assert not isinstance(other._logits, module.unpadded.Unpadded)
        np.testing.assert_allclose(other.predict(texts).scores, expected.scores, atol=close)


def test_our_own_pass_needs_no_class_of_transformers_models(sharp_bundle: Path) -> None:
    """They take longer to load than all the rest of a replica."""
    program = (
        "import sys; from pathlib import Path; from jobs.classifier.predictor import Predictor;"
        f"Predictor(Path({str(sharp_bundle)!r}), device='cpu').predict(['vpn is down']);"
        "print([name for name in sys.modules if name.startswith('transformers.models.bert.mod')])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_spoiled_bundle_is_refused_before_it_is_loaded(
    sharp_bundle: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(sharp_bundle, tmp_path / "bundle")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BundleError, match=r"model\.safetensors was changed"):
        Predictor(folder, device="cpu")


def test_the_number_of_threads_is_set_where_it_is_asked_for(sharp_bundle: Path) -> None:
    before = torch.get_num_threads()
    try:
        Predictor(sharp_bundle, device="cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_tokenizer_that_is_there_is_taken_where_it_is_the_same(
    sharp_bundle: Path, predictor: Predictor, tmp_path: Path
) -> None:
    again = Predictor(sharp_bundle, device="cpu", before=predictor)
    assert again.encoder is predictor.encoder
    other = shutil.copytree(sharp_bundle, tmp_path / "bundle")
    words = (other / "tokenizer.json").read_text().replace('"vpn"', '"vpm"')
    bundle.amend(other, {"tokenizer.json": words})
    made = Predictor(other, device="cpu", before=predictor).encoder
    assert made is not predictor.encoder
    assert (
        made.encode(["vpn"]).tokens[0].tolist() != again.encoder.encode(["vpn"]).tokens[0].tolist()
    )
