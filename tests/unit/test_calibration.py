"""Temperature and prior correction on logits of which the truth is known, and their folding."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cluster.errors import BundleError
from jobs.balance import plan
from jobs.classifier import calibration
from jobs.classifier.calibration import Calibration, fit
from jobs.classifier.folding import fold, last_linear
from jobs.classifier.metrics import calibration_error
from jobs.classifier.network import new_network
from jobs.settings import Balance

NATURAL = np.array([0.6, 0.25, 0.1, 0.05])
EVEN = [0.25] * 4
Floats = npt.NDArray[np.float64]


def gaussians(
    rows: int, prior: Floats, *, seed: int = 0
) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """(log p(x | class) [rows, 4], truth, true posterior): overlapping bumps, drawn by `prior`."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(prior), rows, p=prior)
    centres = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5], [1.5, 1.5]])
    points = centres[truth] + rng.normal(size=(rows, 2))
    likelihood = -((points[:, None] - centres) ** 2).sum(axis=2) / 2
    posterior = np.exp(calibration.log_softmax(likelihood + np.log(prior)))
    return likelihood, truth, posterior


def scores(found: Calibration, logits: Floats) -> Floats:
    return np.exp(calibration.log_softmax(found.log_scores(logits).astype(np.float64)))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    likelihood, truth, posterior = gaussians(20_000, NATURAL)
    logits = (likelihood + np.log(NATURAL)) * temperature
    found = fit(logits, truth, training_prior=NATURAL.tolist(), natural_prior=NATURAL)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.correction.tolist() == [0.0] * 4
    np.testing.assert_allclose(scores(found, logits), posterior, atol=0.02)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("felt", [EVEN, [0.1, 0.2, 0.3, 0.4]], ids=["even", "reversed"])
def test_a_network_of_another_prior_is_corrected_to_the_natural_one(
    temperature: float, felt: list[float]
) -> None:
    likelihood, truth, posterior = gaussians(20_000, NATURAL)
    logits = (likelihood + np.log(felt)) * temperature
    found = fit(logits, truth, training_prior=felt, natural_prior=NATURAL)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.prior_strength == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(scores(found, logits), posterior, atol=0.03)
    held_out, truth, _ = gaussians(20_000, NATURAL, seed=1)
    corrected = scores(found, (held_out + np.log(felt)) * temperature)
    right = corrected.argmax(axis=1) == truth
    assert calibration_error(corrected.max(axis=1), right) < 0.02


def test_a_network_that_did_not_feel_its_balance_is_corrected_by_less() -> None:
    likelihood, truth, _ = gaussians(20_000, NATURAL)
    logits = likelihood + np.log(NATURAL)
    found = fit(logits, truth, training_prior=EVEN, natural_prior=NATURAL)
    assert found.prior_strength == pytest.approx(0, abs=0.1)


def test_the_correction_keeps_the_mean_of_the_logits() -> None:
    likelihood, truth, _ = gaussians(500, NATURAL)
    found = fit(likelihood, truth, training_prior=EVEN, natural_prior=NATURAL)
    assert found.correction.mean() == pytest.approx(0, abs=1e-12)
    expected = found.prior_strength * np.log(NATURAL / EVEN)
    np.testing.assert_allclose(np.diff(found.correction), np.diff(expected))


@pytest.mark.parametrize("rows", [1, 3, 10, 100, 3000])
@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 30.0])
@pytest.mark.parametrize("felt", [None, EVEN])
def test_the_rows_fitted_on_are_never_less_likely_than_by_the_books(
    rows: int, scale: float, felt: list[float] | None
) -> None:
    likelihood, truth, _ = gaussians(rows, NATURAL, seed=rows)
    logits = likelihood * scale
    found = fit(logits, truth, training_prior=felt, natural_prior=NATURAL)
    books = logits if felt is None else logits + np.log(NATURAL / EVEN)
    after = calibration.negative_log_likelihood(found.log_scores(logits), truth)
    assert after <= calibration.negative_log_likelihood(books, truth) + 1e-6


def test_the_fit_is_that_of_a_search_over_both_numbers() -> None:
    likelihood, truth, _ = gaussians(400, NATURAL, seed=5)
    logits = 2 * likelihood
    direction = np.log(NATURAL / EVEN)
    books = np.exp(calibration.log_softmax(logits + direction))
    target = books * 10 / 400
    target[np.arange(400), truth] += 1
    tried = [
        (-(target * calibration.log_softmax(inverse * logits + s * direction)).sum(), inverse, s)
        for inverse in np.linspace(0.3, 1, 71)
        for s in np.linspace(0, 2, 101)
    ]
    _, inverse, strength = min(tried)
    found = fit(logits, truth, training_prior=EVEN, natural_prior=NATURAL)
    assert 1 / found.temperature == pytest.approx(inverse, abs=0.01)
    assert found.prior_strength == pytest.approx(strength, abs=0.02)


def test_rows_are_fitted_the_same_however_many_are_looked_at_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    likelihood, truth, _ = gaussians(500, NATURAL)
    whole = fit(likelihood, truth, training_prior=EVEN, natural_prior=NATURAL)
    monkeypatch.setattr(calibration, "_ROWS_AT_ONCE", 7)
    parts = fit(likelihood, truth, training_prior=EVEN, natural_prior=NATURAL)
    assert parts.temperature == pytest.approx(whole.temperature)
    assert parts.prior_strength == pytest.approx(whole.prior_strength)


@pytest.mark.parametrize(
    ("rows", "truth"),
    [
        pytest.param(0, [], id="none"),
        pytest.param(1, [2], id="one, right"),
        pytest.param(1, [0], id="one, wrong"),
        pytest.param(40, [2] * 40, id="one class alone, all right"),
        pytest.param(40, [0] * 40, id="all wrong"),
    ],
)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("felt", [None, EVEN, [1.0, 0.0, 0.0, 0.0]])
def test_degenerate_rows_leave_everything_finite(
    rows: int, truth: list[int], scale: float, felt: list[float] | None
) -> None:
    logits = np.tile([0.0, 0.5, 3.0, -1.0], (rows, 1)) * scale
    found = fit(logits, np.array(truth, dtype=np.int64), training_prior=felt, natural_prior=NATURAL)
    assert 0.05 <= found.temperature <= 20
    assert 0 <= found.prior_strength <= 2
    assert np.isfinite(found.correction).all()
    assert np.isfinite(found.log_scores(logits)).all()


def test_a_few_rows_without_an_error_hardly_sharpen_the_scores() -> None:
    logits = np.tile([3.0, 0.0, 0.0, 0.0], (5, 1))
    truth = np.zeros(5, dtype=np.int64)
    few = fit(logits, truth, training_prior=None, natural_prior=NATURAL)
    many = fit(
        np.tile(logits, (2000, 1)), np.tile(truth, 2000), training_prior=None, natural_prior=NATURAL
    )
    assert 0.8 < few.temperature < 1
    assert 0.2 < many.temperature < 0.5


@pytest.mark.parametrize(
    "balance",
    [
        Balance(strategy="none"),
        Balance(strategy="class-weights"),
        Balance(strategy="focal"),
        Balance(strategy="logit-adjustment", tau=8),
        Balance(strategy="oversample"),
    ],
    ids=lambda balance: balance.strategy,
)
def test_the_priors_of_every_kind_of_balance_can_be_corrected(balance: Balance) -> None:
    counts = np.array([1_000_000, 5000, 30, 1])
    felt = plan(balance, counts).prior
    likelihood, truth, _ = gaussians(300, NATURAL)
    found = fit(
        likelihood,
        truth,
        training_prior=None if felt is None else felt.tolist(),
        natural_prior=counts / counts.sum(),
    )
    assert np.isfinite(found.log_scores(likelihood)).all()
    assert np.isfinite(scores(found, likelihood)).all()


def test_folded_logits_are_those_calculated(tiny_model: Path) -> None:
    network = new_network(tiny_model, ("a", "b", "c"), dropout=0.1, seed=1).eval()
    ids = torch.randint(5, 30, (20, 8), generator=torch.Generator().manual_seed(0))
    bias = np.array([3.0, -20.0, 0.5])
    with torch.inference_mode():
        before = network(input_ids=ids).logits.numpy()
        fold(network, temperature=0.3, bias=bias)
        after = network(input_ids=ids).logits.numpy()
    np.testing.assert_allclose(after, before / 0.3 + bias, atol=1e-5)


class Head(torch.nn.Module):
    """A head as RoBERTa's: a dense layer of as many outputs as there may be classes, then ours."""

    def __init__(self, classes: int, *, bias: bool = True) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(8, 8)
        self.out_proj = torch.nn.Linear(8, classes, bias=bias)


class Network(torch.nn.Module):
    """An encoder and a head, under the names that transformers uses."""

    base_model_prefix = "encoder"

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.classifier = head
        self.encoder = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 3))


@pytest.mark.parametrize("classes", [3, 8])
def test_the_last_layer_is_found_whatever_it_is_called(classes: int) -> None:
    head = Head(classes)
    assert last_linear(Network(head), classes) is head.out_proj
    plain = torch.nn.Linear(8, classes)
    assert last_linear(Network(plain), classes) is plain


@pytest.mark.parametrize("head", [Head(3, bias=False), torch.nn.Identity(), Head(4)])
def test_a_network_that_cannot_hold_a_calibration_is_refused(head: torch.nn.Module) -> None:
    with pytest.raises(BundleError, match="no last linear layer with a bias that gives its 3"):
        last_linear(Network(head), 3)
