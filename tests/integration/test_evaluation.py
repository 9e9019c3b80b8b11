"""Two bundles on the same rows through `jobs.evaluate --against`, on one local Ray."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.errors import BundleError
from jobs.classifier.predictor import Predictor
from jobs.evaluate import Evaluate, evaluate
from tests.integration.conftest import write_tickets
from tests.unit.memory import write_sharp_bundle

WORDS = ("mail", "vpn", "printer", "disk", "login", "phone", "screen")


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with a text for each of two bundles; some have no label, or no text for one of them."""
    teams = ("mail", "network", "printing")
    rows: list[dict[str, object]] = [
        {
            "id": k,
            "text": f"{WORDS[k % 7]} is down {k}",
            "body": None if k % 20 == 7 else f"please help my {WORDS[k % 5]} {k}",
            "label": None if k % 20 == 4 else teams[k % 3],
        }
        for k in range(60)
    ]
    return write_tickets(tmp_path_factory.mktemp("tickets") / "source", rows, files=3)


def test_a_second_bundle_answers_the_same_rows_from_its_own_columns_with_its_own_labels(
    tickets: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = write_sharp_bundle(tmp_path / "ours", tiny_model, abstention_threshold=0.6)
    # It knows no printing: what it calls so is called paper.
    names = ["mail", "network", "paper"]
    theirs = write_sharp_bundle(
        tmp_path / "theirs", tiny_model, labels=names, text_columns=["body"]
    )
    out = tmp_path / "out"
    said = evaluate(
        Evaluate(
            bundle=str(ours), against=str(theirs), source=str(tickets), output=str(out),
            baselines=False,
        )
    )  # fmt: skip
    rows = pq.read_table(out / "predictions.parquet").to_pylist()
    assert list(rows[0]) == [
        "id", "text", "label", "predicted", "score", "abstained", "predicted_against"
    ]  # fmt: skip
    assert len(rows) == 57
    source = {row["id"]: row for row in pq.read_table(tickets).to_pylist()}
    expected = Predictor(theirs)
    for row in rows:
        body = source[row["id"]]["body"]
        assert (row["predicted_against"] is None) == (body is None)
        if body is not None:
            assert row["predicted_against"] == names[expected.predict([body]).labels[0]]
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    against = found["against"]
    right = [row["predicted_against"] == row["label"] for row in rows]
    assert against["accuracy"] == pytest.approx(sum(right) / 57)
    assert against["unknown_labels"] == ["printing"]
    assert against["unknown_rows"] == sum(row["label"] == "printing" for row in rows)
    assert against["unanswered_rows"] == 3
    assert said["against"]["mcnemar"] == against["mcnemar"]
    low, high = found["intervals"]["accuracy"]
    assert low < found["accuracy"] < high
    assert found["coverage"] < 1
    assert len(found["coverage_curve"]) <= 100
    told = capsys.readouterr()
    assert "The bundle of --against reads its texts from body." in told.err
    assert "does not know 1 label of these rows (printing)" in told.out
    page = (out / "report.html").read_text()
    assert "Against another bundle" in page
    assert "the bundle&#39;s threshold" in page or "the bundle's threshold" in page


def test_a_second_bundle_that_is_none_is_named_before_anything_is_done(
    tickets: Path, tiny_model: Path, tmp_path: Path
) -> None:
    ours = write_sharp_bundle(tmp_path / "ours", tiny_model)
    settings = Evaluate(
        bundle=str(ours), against=str(tickets), source=str(tickets), output=str(tmp_path / "out")
    )
    with pytest.raises(BundleError, match="is no bundle"):
        evaluate(settings)
    assert not (tmp_path / "out").exists()
