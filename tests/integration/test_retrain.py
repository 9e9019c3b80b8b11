"""The nightly loop with a tiny BERT on one local Ray and object storage: two nights of a desk."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import storage
from cluster.registry import Registry
from jobs import bundles
from jobs.classifier.predictor import Predictor
from jobs.prepared import open_prepared
from jobs.preparer import Prepare, prepare
from jobs.training_run import TrainCommand, train
from tests.conftest import last_json
from tests.integration import s3
from tests.integration.conftest import S3_PORT
from tuning import promote, retrain
from tuning.promote import Promote

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

OTHERS = ["down", "error", "slow", "reset", "order", "denied"]
Rows = list[dict[str, object]]
Run = Callable[..., tuple[int, dict[str, Any]]]


def tickets(label: str, word: str, count: int) -> Rows:
    return [{"text": f"{word} {OTHERS[k % 6]} {k}", "label": label} for k in range(count)]


# Who gets the invoices was wrong from the start, and a team of few tickets is closed later.
FIRST = [
    *tickets("mail", "mail", 60),
    *tickets("network", "vpn", 48),
    *tickets("mail", "invoice", 40),
    *tickets("telex", "phone", 24),
]


def write(uri: str, rows: Rows) -> str:
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    storage.write_bytes(storage.join(uri, "part-0.parquet"), data.getvalue())
    return uri


def correct(uri: str, texts: list[str], label: str) -> str:
    at = "2026-11-25T21:15:00Z"
    lines = [json.dumps({"text": text, "label": label, "at": at}) for text in texts]
    storage.write_bytes(storage.join(uri, "2026-11-25", "one.jsonl"), "\n".join(lines).encode())
    return uri


@pytest.fixture
def bucket() -> Iterator[str]:
    with s3.store(S3_PORT) as found:
        yield found


@pytest.fixture
def run(bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(retrain.command, "_close_ray", lambda: None)  # others go on using it

    def run(*flags: str) -> tuple[int, dict[str, Any]]:
        words = ["--registry", f"{bucket}/models", "--name", "router"]
        with pytest.raises(SystemExit) as left:
            retrain.main([*words, "--output", f"{bucket}/night", *flags])
        assert isinstance(left.value.code, int)
        return left.value.code, last_json(capsys.readouterr().out)

    return run


def first_champion(bucket: str, model: Path) -> str:
    """Prepared, trained and promoted by hand; the data that it was trained on."""
    data = f"{bucket}/data"
    prepare(Prepare(source=write(f"{bucket}/first", FIRST), output=data, split={"test": 0.25}))
    train(
        TrainCommand(
            data=data,
            output=f"{bucket}/run",
            model={"name": str(model), "max_tokens": 16, "dropout": 0.0},
            train={"epochs": 10, "batch_tokens": 64, "precision": "fp32"},
            optim={"lr": 5e-3, "head_lr": 5e-3},
        )
    )
    promote.promote(
        Promote(
            bundle=f"{bucket}/run/bundle",
            registry=f"{bucket}/models",
            name="router",
            max_calibration_error=0.9,
        )
    )
    return data


def answers(uri: str, texts: list[str], folder: Path) -> list[str]:
    storage.download(uri, folder)
    predictor = Predictor(folder)
    return [predictor.about.labels[c] for c in predictor.predict(texts).labels]


def test_corrections_new_rows_and_labels_that_came_and_went_make_the_next_champion(
    bucket: str, run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_prepared(first_champion(bucket, tiny_model))
    registry = Registry(f"{bucket}/models")
    unseen = [f"invoice {other} please" for other in OTHERS]
    assert set(answers(registry.resolve("router")[1], unseen, tmp_path / "first")) == {"mail"}

    invoices = [str(row["text"]) for row in FIRST if "invoice" in str(row["text"])]
    now = [row for row in FIRST if row["label"] != "telex"]
    flags = ("--source", write(f"{bucket}/second", now + tickets("network", "vpn", 60)[48:]))
    flags += ("--feedback", correct(f"{bucket}/corrections", invoices, "billing"))
    flags += ("--max-calibration-error", "0.9")

    with monkeypatch.context() as patched:
        patched.setattr(bundles, "make_bundle", cut_off)
        code, said = run(*flags)
    assert (code, said["error"]) == (1, "the power went")
    code, said = run(*flags)
    assert (code, said["champion"]) == (3, "0001")
    assert said["stages"] == {"prepare": "kept", "train": "resumed", "judge": "made"}
    assert (said["grown"]["new"], said["grown"]["gone"]) == (["billing"], ["telex"])
    assert said["grown"]["corrections"][1]["changed"] == 40
    assert [c["name"] for c in said["checks"] if not c["passed"]] == ["labels"]
    assert registry.resolve("router")[0] == "0001"

    code, said = run(*flags, "--accept-labels")
    assert (code, said["version"], said["champion"]) == (0, "0002", "0001")
    assert said["stages"] == {"prepare": "kept", "train": "kept", "judge": "made"}
    assert set(answers(said["uri"], unseen, tmp_path / "second")) == {"billing"}
    after = open_prepared(said["data"])
    assert after.manifest["settings"]["split.like"] == before.uri
    for split in ("train", "validation", "test"):
        known = {str(row["text"]) for row in FIRST if row["label"] != "telex"}
        assert sides(after)[split] & known == sides(before)[split] & known
    page = storage.read_bytes(said["report"]).decode()
    assert "Version 0002 was made the champion" in page
    assert "<bdi>billing</bdi>" in page

    history = registry.history("router")
    assert run(*flags, "--accept-labels")[1]["stages"] == dict.fromkeys(said["stages"], "kept")
    assert registry.history("router") == history
    assert registry.uses(after.digest) == 2


def cut_off(*_: Any) -> None:
    raise RuntimeError("the power went")


def sides(data: Any) -> dict[str, set[str]]:
    return {split: set(data.rows(split)[0]) for split in ("train", "validation", "test")}
