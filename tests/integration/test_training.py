"""Training, evaluation and prediction with a tiny BERT on one local Ray."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import precision_recall_fscore_support

from cluster import storage
from cluster.errors import DataError, ResourceError, SettingError, StorageError
from jobs import bundles, tokens, trainer
from jobs.balance import draw
from jobs.checkpoints import Shelf
from jobs.classifier import bundle
from jobs.classifier.predictor import Predictor
from jobs.evaluate import Evaluate, evaluate
from jobs.predict import Predict, predict
from jobs.prepared import open_prepared
from jobs.preparer import Prepare, prepare
from jobs.training_run import TrainCommand, train
from tests.integration.conftest import read_rows, write_tickets

TEAMS = {"mail": "mail", "network": "vpn", "printing": "printer"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Unbalanced tickets of three teams that a tiny network can tell apart."""
    folder = tmp_path_factory.mktemp("data")
    rows: list[dict[str, object]] = [
        {"text": f"{word} {other} {k}", "label": team}
        for (team, word), count in zip(TEAMS.items(), (60, 36, 18), strict=True)
        for k, other in enumerate(["down", "error", "slow", "reset", "order", "denied"] * 10)
        if k < count
    ]
    source = write_tickets(folder / "source", rows, files=2)
    prepare(Prepare(source=str(source), output=str(folder / "prepared"), split={"test": 0.2}))
    return str(folder / "prepared")


def command(data: str | dict[str, Any], output: Path, model: Path, **more: Any) -> TrainCommand:
    values: dict[str, Any] = {
        "data": data,
        "output": str(output),
        "model": {"name": str(model), "max_tokens": 16, "dropout": 0.0},
        "train": {"epochs": 10, "batch_tokens": 32, "precision": "fp32"},
        "optim": {"lr": 5e-3, "head_lr": 5e-3},
    }
    return TrainCommand(**values | more)


@pytest.fixture(scope="module")
def run(
    prepared: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A finished run of two data-parallel workers, and what the command said."""
    output = tmp_path_factory.mktemp("runs") / "two"
    settings = command(
        prepared, output, tiny_model,
        scaling={"workers": 2}, balance={"strategy": "undersample", "min_rows": 1},
    )  # fmt: skip
    return output, train(settings)


def test_two_workers_make_a_bundle_that_knows_where_it_comes_from(
    run: tuple[Path, dict[str, Any]], prepared: str
) -> None:
    output, result = run
    about = bundle.check(output / "bundle")
    assert result["workers"] == 2
    assert result["validation"]["macro_f1"] > 0.9, "three words tell these teams apart"
    assert about.labels == ["mail", "network", "printing"]
    assert about.manifest_digest == open_prepared(prepared).digest
    assert about.training_prior == pytest.approx([1 / 3] * 3)
    assert about.natural_prior[0] > about.natural_prior[2]
    assert about.configuration["balance.strategy"] == "undersample"
    assert "| printing |" in (output / "bundle" / "README.md").read_text()


def test_the_histogram_is_printed_before_training(
    prepared: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = open_prepared(prepared).counts("train").tolist()
    assert counts == [42, 25, 13]
    balanced = {"strategy": "undersample", "max_ratio": 1.5, "tau": 1.0}
    said = train(
        command(
            {"uri": prepared, "fraction": 0.9}, tmp_path / "run", tiny_model, dry_run=True,
            balance=balanced, train={"epochs": 10, "batch_tokens": 32, "packed": True},
        )
    )  # fmt: skip
    # 0.9 of them is 38, 23 (of 22.5) and 12, which is under min_rows; 1.5 · 23 is 34.5.
    assert said["rows_per_epoch"] == 34 + 23 + 12
    assert said["steps"] >= 10
    assert said["expected_seconds"] > 0
    told = capsys.readouterr()
    shown = [line.split()[:3] for line in told.out.splitlines()]
    for name, before, after in zip(TEAMS, counts, (34, 23, 12), strict=True):
        assert [name, str(before), str(after)] in shown
    assert "Under balance.min_rows (20), so kept whole: printing" in told.out
    assert "Expected time" in told.out
    assert "balance.tau is given, and the strategy undersample does not use it" in told.err
    assert "warning: train.packed is given, and is for GPUs: rows are padded." in told.err
    assert not (tmp_path / "run").exists()


def test_evaluation_agrees_with_scikit_learn_and_keeps_the_order(
    run: tuple[Path, dict[str, Any]], prepared: str, tmp_path: Path
) -> None:
    out = tmp_path / "judged"
    evaluate(Evaluate(bundle=str(run[0] / "bundle"), source=f"{prepared}/test", output=str(out)))
    rows = pq.read_table(out / "predictions.parquet")
    assert rows.column_names == ["text", "label", "predicted", "score", "abstained"]
    source = [
        row["text"]
        for path, _ in storage.list_files(f"{prepared}/test", ".parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    assert rows["text"].to_pylist() == source
    found = json.loads((out / "metrics.json").read_text())
    truth, answers = rows["label"].to_pylist(), rows["predicted"].to_pylist()
    names = sorted(TEAMS)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, answers, labels=names, zero_division=0
    )
    for position, name in enumerate(names):
        expected = (precision[position], recall[position], f1[position], support[position])
        row = found["per_class"][name]
        assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(
            expected
        )
    assert found["accuracy"] == pytest.approx(np.mean(np.array(truth) == np.array(answers)))
    assert set(found["baselines"]) == {
        "majority", "TF-IDF + logistic regression", "frozen encoder + logistic regression",
    }  # fmt: skip
    assert found["baselines"]["TF-IDF + logistic regression"]["accuracy"] > 0.9
    assert "printing" in (out / "report.html").read_text()


def test_prediction_keeps_every_column_and_abstains_on_what_it_cannot_read(
    run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    table = pa.table(
        {
            "number": [3, 1, 2],
            "text": ["vpn down", None, "printer error"],
            "vip": [True, None, True],
        }
    )
    (tmp_path / "new").mkdir()
    pq.write_table(table, tmp_path / "new" / "a.parquet")
    out = tmp_path / "routed"
    said = predict(
        Predict(bundle=str(run[0] / "bundle"), source=str(tmp_path / "new"), output=str(out))
    )
    rows = read_rows(out)
    assert said["rows"] == 3
    assert [row["number"] for row in rows] == [3, 1, 2]
    assert [row["predicted"] for row in rows] == ["network", None, "printing"]
    assert [row["vip"] for row in rows] == [True, None, True]
    assert rows[1]["abstained"] is True
    assert rows[1]["score"] is None


def test_prediction_reads_csv_as_well(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    texts = ["my mail is down", "printer, please", ""]
    rows = "".join(f'{number:03},"{text}"\n' for number, text in enumerate(texts))
    (tmp_path / "new.csv").write_text(f"ticket,text\n{rows}")
    out = tmp_path / "answers"
    predict(
        Predict(bundle=str(run[0] / "bundle"), source=str(tmp_path / "new.csv"), output=str(out))
    )
    found = pq.read_table(out).to_pylist()
    assert [row["ticket"] for row in found] == ["000", "001", "002"]
    predictor = Predictor(run[0] / "bundle")
    expected = [predictor.about.labels[c] for c in predictor.predict(texts[:2]).labels]
    assert [row["predicted"] for row in found] == [*expected, None]
    assert [row["abstained"] for row in found] == [False, False, True]


def test_a_label_unknown_to_the_model_is_named(
    run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    source = write_tickets(tmp_path / "s", [{"text": "vpn", "label": "legal"}])
    with pytest.raises(DataError, match="never seen: 'legal'"):
        evaluate(
            Evaluate(
                bundle=str(run[0] / "bundle"), source=str(source), output=str(tmp_path / "out")
            )
        )
    assert not (tmp_path / "out").exists()


def test_a_store_is_made_once_and_holds_every_row(prepared: str, tiny_model: Path) -> None:
    data = open_prepared(prepared)
    uri = tokens.ensure(data, "train", tiny_model, 16)
    made = (Path(uri) / "index.json").stat().st_mtime_ns
    assert tokens.ensure(data, "train", tiny_model, 16) == uri
    assert (Path(uri) / "index.json").stat().st_mtime_ns == made
    assert tokens.ensure(data, "train", tiny_model, 8) != uri
    store = tokens.TokenStore(uri)
    assert np.bincount(store.labels).tolist() == data.counts("train").tolist()
    rows = store.read(np.arange(len(store.labels))[::-1])
    assert [len(ids) for ids in rows] == store.lengths[::-1].tolist()
    copies = draw(store, np.array([5, 90, 5]), seed=0, epoch=0)
    assert copies is not None
    assert np.bincount(store.labels, weights=copies).tolist() == [5, 90, 5]


def test_prepared_data_that_was_changed_is_noticed(
    prepared: str, tiny_model: Path, tmp_path: Path
) -> None:
    import shutil

    changed = tmp_path / "changed"
    shutil.copytree(prepared, changed, ignore=shutil.ignore_patterns(".tokens"))
    part = next((changed / "train").glob("*.parquet"))
    pq.write_table(pq.read_table(part).slice(1), part)
    with pytest.raises(DataError, match="the folder was changed"):
        tokens.ensure(open_prepared(str(changed)), "train", tiny_model, 16)


@pytest.mark.parametrize(
    ("more", "error", "sentence"),
    [
        ({"model": {"max_tokens": 512}}, SettingError, "reads at most 64 tokens"),
        ({"scaling": {"workers": 3}}, ResourceError, "scaling.workers is 3"),
        ({"scaling": {"gpu": "yes"}}, ResourceError, "scaling.gpu is yes"),
        ({"resume": True}, SettingError, "holds no run that could go on"),
    ],
)
def test_a_run_that_cannot_work_is_refused_before_it_starts(
    prepared: str, tiny_model: Path, tmp_path: Path, more: dict[str, Any],
    error: type[Exception], sentence: str,
) -> None:  # fmt: skip
    settings = command(prepared, tmp_path / "run", tiny_model).model_dump()
    for group, values in more.items():
        settings[group] = settings[group] | values if isinstance(values, dict) else values
    with pytest.raises(error, match=sentence):
        train(TrainCommand(**settings))
    assert not (tmp_path / "run").exists()


def test_a_used_run_folder_is_refused(
    run: tuple[Path, dict[str, Any]], prepared: str, tiny_model: Path
) -> None:
    with pytest.raises(StorageError, match="already holds files"):
        train(command(prepared, run[0], tiny_model))
    with pytest.raises(SettingError, match="is finished"):
        train(command(prepared, run[0], tiny_model, resume=True))


def test_data_without_a_manifest_is_told_how_to_make_it(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(DataError, match=r"jobs\.prepare"):
        train(command(str(tmp_path), tmp_path / "run", tiny_model))


def test_a_bundle_with_a_changed_byte_is_refused_by_name(
    run: tuple[Path, dict[str, Any]], prepared: str, tmp_path: Path
) -> None:
    import shutil

    from cluster.errors import BundleError

    shutil.copytree(run[0] / "bundle", tmp_path / "bundle")
    weights = tmp_path / "bundle" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.safetensors was changed"):
        evaluate(
            Evaluate(
                bundle=str(tmp_path / "bundle"), source=f"{prepared}/test",
                output=str(tmp_path / "out"),
            )
        )  # fmt: skip


def test_a_bundle_is_made_in_its_run_and_needs_no_room_in_the_temporary_folder(
    run: tuple[Path, dict[str, Any]],
    prepared: str,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "run"
    (output / bundles.DRAFTS / "draft").mkdir(parents=True)
    (output / bundles.DRAFTS / "draft" / "config.json").write_text("by an attempt that was killed")
    settings = command(prepared, output, tiny_model).training()
    shelf = Shelf(str(run[0] / trainer.CHECKPOINTS))
    tickets = ["mail down", "vpn error", "printer slow"], ["mail", "network", "printing"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    with shelf.fetch(shelf.names()[0]) as weights:
        bundles.make_bundle(settings, open_prepared(prepared), weights, str(output), tickets)
    assert bundle.check(output / "bundle").labels == sorted(TEAMS)
    assert [path.name for path in output.iterdir()] == ["bundle"]


def test_an_interrupted_run_goes_on_from_its_last_epoch(
    prepared: str, tiny_model: Path, tmp_path: Path
) -> None:
    import shutil

    output = tmp_path / "run"
    short = {"epochs": 2, "batch_tokens": 64, "precision": "fp32"}
    sample = {"uri": prepared, "fraction": 0.5}
    # 21, 13 and 7 rows, of which the fewest become ⌈21 / 1.5⌉.
    same = {"train": short, "balance": {"strategy": "oversample", "max_ratio": 1.5}}
    first = train(command(sample, output, tiny_model, **same))
    assert first["resumed_after_epoch"] == 0
    about = bundle.check(output / "bundle")
    assert about.training_prior == pytest.approx([21 / 49, 14 / 49, 14 / 49])
    assert about.natural_prior == pytest.approx([42 / 80, 25 / 80, 13 / 80])
    assert about.configuration["data.fraction"] == 0.5
    assert "data.uri" not in about.configuration
    shutil.rmtree(output / "bundle")  # as if it had been ended before its last step
    for part, strategy, sentence in (
        (0.5, {"strategy": "class-weights"}, r"balance\.strategy is 'class-weights'"),
        (0.5, {"strategy": "oversample"}, r"balance\.max_ratio is 1\.0, .* with 1\.5"),
        (0.4, same["balance"], r"data\.fraction is 0\.4, .* with 0\.5"),
    ):
        other = {"train": short, "balance": strategy, "resume": True}
        with pytest.raises(SettingError, match=sentence):
            train(command(sample | {"fraction": part}, output, tiny_model, **other))
    longer = same | {"train": short | {"epochs": 3}, "resume": True, "checkpoint": {"keep": 1}}
    second = train(command(sample, output, tiny_model, **longer))
    assert second["resumed_after_epoch"] == 2
    assert second["resumed_at"] == {"epoch": 2, "batch": 0}
    assert second["epochs"] == 3
    assert len(list((output / "checkpoints").iterdir())) <= 2, "the newest and the best"
    assert not (output / ".running").exists()
    assert (output / "bundle" / "bundle.json").exists()


def test_jobs_run_where_an_endpoint_holds_all_cpus_but_one(
    prepared: str, tiny_model: Path, run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    import ray

    class Endpoint:
        def up(self) -> bool:
            return True

    holder = ray.remote(num_cpus=1)(Endpoint).remote()
    assert ray.get(holder.up.remote())
    try:
        tokens.ensure(open_prepared(prepared), "train", tiny_model, 12)
        evaluate(
            Evaluate(
                bundle=str(run[0] / "bundle"),
                source=f"{prepared}/test",
                output=str(tmp_path / "judged"),
                baselines=False,
            )
        )
    finally:
        ray.kill(holder)
    assert (tmp_path / "judged" / "metrics.json").exists()


def worker(prepared: str, model: Path, **more: Any) -> list[dict[str, float]]:
    """What a run of one worker in this process reports."""
    from cluster.resources import Plan
    from jobs import trainer

    settings = command(prepared, Path("/nowhere"), model, **more).training()
    data = open_prepared(prepared)
    stores = trainer.token_stores(data, settings)
    config = trainer.worker_config(settings, data, Plan(1, False, 1.0, 1, 1.0), stores, run="test")
    reports: list[dict[str, float]] = []
    trainer.train_worker(json.loads(json.dumps(config)), lambda found, _: reports.append(found))
    return reports


def test_a_run_whose_loss_is_no_number_says_what_to_lower(prepared: str, tiny_model: Path) -> None:
    with pytest.raises(SettingError, match=r"Lower optim\.lr"):
        worker(prepared, tiny_model, optim={"lr": 1e30, "clip_norm": 1e30})


def test_every_strategy_trains_with_a_loss_of_its_own(prepared: str, tiny_model: Path) -> None:
    from jobs.balance import STRATEGIES

    short = {"epochs": 2, "batch_tokens": 256, "precision": "fp32"}
    losses = {
        strategy: worker(prepared, tiny_model, train=short, balance={"strategy": strategy})
        for strategy in STRATEGIES
    }
    assert all(reports[1]["train_loss"] < reports[0]["train_loss"] for reports in losses.values())
    assert losses.pop("balanced-softmax")[0]["train_loss"] == pytest.approx(
        losses["logit-adjustment"][0]["train_loss"]
    )
    assert len({round(reports[0]["train_loss"], 6) for reports in losses.values()}) == 6


def test_a_model_folder_that_lacks_a_file_is_told_which(prepared: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(SettingError, match=r"no tokenizer\.json and no model\.safetensors"):
        train(command(prepared, tmp_path / "run", tmp_path / "model"))
