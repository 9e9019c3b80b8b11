"""A search in object storage, analyzed in place."""

from collections.abc import Iterator

import pandas as pd
import pytest

from cluster import lease, storage
from tests.conftest import last_json
from tests.integration import s3
from tests.unit import experiments
from tuning import analysis, analyze


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3.store() as uri:
        yield uri


def test_a_search_in_object_storage_is_analyzed_in_place(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = storage.join(bucket, "search")
    experiments.write(uri, 5)
    for _ in range(2):  # the second replaces what the first wrote
        with pytest.raises(SystemExit) as ended:
            analyze.main(["--experiment", uri])
        assert ended.value.code == 0
        found = last_json(capsys.readouterr().out)
    files = found["files"]
    assert isinstance(files, dict)
    assert files["report.html"] == f"{uri}/analysis/report.html"
    fs, path = storage.filesystem(files["trials.parquet"])
    with fs.open_input_file(path) as file:
        trials = pd.read_parquet(file)
    best = analysis.best(trials)
    assert best is not None
    assert (best["trial"], best["macro_f1"]) == (found["best_trial"], found["macro_f1"])
    assert storage.read_bytes(files["best.toml"]).startswith(b"# Trial")


def test_a_sign_of_life_in_object_storage_says_that_a_search_runs(bucket: str) -> None:
    uri = storage.join(bucket, "running")
    folder = experiments.write(uri, 1)
    tried = {"optim.lr": 1e-4}
    experiments.write_trial(folder, 2, tried, [], None)
    assert analysis.read_trials(uri)["state"].tolist() == ["finished", "unfinished"]
    with lease.held(uri, "output"):
        assert analysis.read_trials(uri)["state"].tolist() == ["finished", "running"]
