"""Calibration, offset and threshold together: from the answers of a network to a bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import decisions, evaluation
from jobs.classifier import bundle, calibration, folding
from jobs.classifier.metrics import calibration_error
from jobs.classifier.network import saved_network
from jobs.classifier.predictor import Predictions, Predictor, decide
from jobs.settings import Abstain, Decide
from tests.conftest import WORDS
from tests.unit.memory import write_sharp_bundle

NATURAL = [0.7, 0.25, 0.05]
EVEN = [1 / 3] * 3
TEXTS = [
    " ".join(np.random.default_rng(row).choice(WORDS, 1 + row % 12)) + "!" * (row % 2)
    for row in range(150)
]


@pytest.fixture(scope="module")
def draft(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a network that is far too sure of itself, trained under an even prior."""
    return write_sharp_bundle(
        tmp_path_factory.mktemp("draft") / "draft", tiny_model, natural_prior=NATURAL
    )


@pytest.fixture(scope="module")
def raw(draft: Path) -> Predictions:
    return Predictor(draft, device="cpu").predict(TEXTS)


@pytest.fixture(scope="module")
def truth(raw: Predictions) -> np.ndarray:
    """Labels drawn from what a well calibrated network of these logits would say."""
    posterior = np.exp(calibration.log_softmax(raw.logits / 4.0 + np.log(NATURAL)))
    rng = np.random.default_rng(0)
    return np.array([rng.choice(3, p=row) for row in posterior])


@pytest.mark.parametrize("felt", [EVEN, NATURAL, None, [1e-9, 1e-9, 1 - 2e-9]], ids=str)
@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
def test_plain_transformers_gives_the_label_that_was_decided(
    felt: list[float] | None,
    metric: str,
    draft: Path,
    raw: Predictions,
    truth: np.ndarray,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    about = replace(bundle.read_about(draft), training_prior=felt)
    choice, limits = Decide.model_validate({"metric": metric}), Abstain(coverage=0.5)
    about, bias, answers = decisions.decided(choice, limits, about, raw, truth)
    network = saved_network(draft)
    folding.fold(network, temperature=about.temperature, bias=bias)
    folder = tmp_path / "finished"
    bundle.write(
        folder, network=network, tokenizer_folder=tiny_model, about=about, metrics={}, card=""
    )
    ours = Predictor(folder, device="cpu").predict(TEXTS)
    assert ours.labels.tolist() == answers.labels.tolist()
    assert ours.abstained.tolist() == answers.abstained.tolist()
    np.testing.assert_allclose(ours.scores, answers.scores, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
        theirs = model(**inputs).logits
    assert theirs.argmax(dim=-1).tolist() == answers.labels.tolist()


def test_scores_become_true_and_are_those_of_the_natural_prior(
    draft: Path, raw: Predictions, truth: np.ndarray
) -> None:
    before = bundle.read_about(draft)
    about, _, answers = decisions.decided(Decide(), Abstain(), before, raw, truth)
    facts = about.calibration
    assert about.temperature == facts["temperature"] > 2
    assert facts["nll_after"] < facts["nll_before"]
    assert facts["calibration_error"] < 0.5 * facts["calibration_error_before"]
    right = answers.labels == truth
    found = calibration_error(answers.label_scores.astype(np.float64), right)
    assert found == facts["calibration_error"]
    log_scores = raw.logits / about.temperature + facts["prior_strength"] * np.log(NATURAL)
    expected = np.exp(calibration.log_softmax(log_scores))
    np.testing.assert_allclose(answers.scores, expected, atol=1e-5)
    offset = np.array(about.decision_offset)
    assert answers.labels.tolist() == (log_scores + offset).argmax(axis=1).tolist()


def test_a_wish_for_coverage_or_precision_is_met_on_the_rows_and_told(
    draft: Path, raw: Predictions, truth: np.ndarray
) -> None:
    before = bundle.read_about(draft)
    half, _, answers = decisions.decided(Decide(), Abstain(coverage=0.5), before, raw, truth)
    assert (~answers.abstained).mean() == half.calibration["coverage"]
    assert 0.5 <= half.calibration["coverage"] <= 0.52
    assert half.abstention_threshold == half.calibration["abstention_threshold"] > 0
    assert "answers 50.0% of the validation rows" in decisions.in_words(half)
    everything = decide(torch.from_numpy(answers.logits), raw.truncated, half.decision_offset, 0.0)
    wanted = float((everything.labels == truth).mean()) + 0.05
    sure, _, answers = decisions.decided(Decide(), Abstain(precision=wanted), before, raw, truth)
    right = (answers.labels == truth)[~answers.abstained]
    assert right.mean() == sure.calibration["answered_accuracy"] >= wanted
    assert 0 < sure.calibration["coverage"] < 1


def test_a_precision_out_of_reach_is_said_with_what_is_taken_instead(
    draft: Path, raw: Predictions, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = (raw.labels + 1 + np.arange(len(TEXTS)) % 2) % 3
    decisions.decided(Decide(), Abstain(precision=0.999), bundle.read_about(draft), raw, wrong)
    said = capsys.readouterr().err
    assert "warning: abstain.precision = 0.999 is not reached on the 150 validation rows" in said
    assert "The one with the highest precision is taken" in said


def test_without_abstaining_every_row_is_answered(
    draft: Path, raw: Predictions, truth: np.ndarray
) -> None:
    about, _, answers = decisions.decided(Decide(), Abstain(), bundle.read_about(draft), raw, truth)
    assert about.abstention_threshold == 0
    assert not answers.abstained.any()
    assert about.calibration["coverage"] == 1
    assert decisions.in_words(about).endswith("No abstention threshold.")


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_validation_rows_still_give_a_sound_bundle(
    rows: int, draft: Path, truth: np.ndarray
) -> None:
    raw = Predictor(draft, device="cpu").predict(TEXTS[:rows])
    about, bias, answers = decisions.decided(
        Decide(), Abstain(precision=0.9), bundle.read_about(draft), raw, truth[:rows]
    )
    assert np.isfinite(bias).all()
    assert np.isfinite(answers.scores).all()
    assert np.isfinite([about.temperature, about.abstention_threshold]).all()
    assert decisions.in_words(about)


@pytest.mark.parametrize("felt", [EVEN, None], ids=["balanced", "without a training prior"])
def test_a_judge_says_of_an_epoch_what_the_bundle_made_of_it_will_say(
    felt: list[float] | None, draft: Path, raw: Predictions, truth: np.ndarray
) -> None:
    about = replace(bundle.read_about(draft), training_prior=felt)
    _, _, answers = decisions.decided(Decide(), Abstain(), about, raw, truth)
    expected = evaluation.figures(truth, answers, about.labels, about.natural_prior)
    judge = decisions.Judge(Decide(), (felt, np.array(NATURAL)))
    found = judge(raw.logits, truth)
    assert {"macro_f1", "accuracy", "rarest_third_recall", "calibration_error"} <= set(found)
    after = found.pop("calibrated_loss")
    assert after < calibration.negative_log_likelihood(raw.logits, truth)
    assert found == {name: expected[name] for name in found}
    plain = calibration_error(raw.label_scores.astype(np.float64), raw.labels == truth)
    assert found["calibration_error"] < plain / 2, "the network as it is speaks otherwise"
    matrix = np.zeros((3, 3), int)
    for row, column, rows in judge.confusion:
        matrix[row, column] = rows
    assert matrix.sum() == len(truth)
    assert matrix.trace() / len(truth) == pytest.approx(found["accuracy"])
