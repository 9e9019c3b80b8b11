"""Which test rows another model was trained on: by its data if that is there, else by its cuts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import DataError
from jobs import splits
from jobs.classifier.bundle import About
from jobs.classifier.text import Hashes, salted, text_ids
from jobs.preparation import FORMAT_VERSION
from jobs.prepared import Prepared, open_prepared
from tuning import unseen

LABELS = ("mail", "network")
SEED = 7
TEXTS = [f"ticket number {k}" for k in range(400)]
IDS = text_ids(TEXTS)
# A fifth of the texts of mail is held out, half of it for validation; of network the reverse.
CUTS = {
    "mail": {"test": 1 << 61, "validation": 1 << 62},
    "network": {"test": 1 << 62, "validation": (1 << 62) + (1 << 61)},
}


def sides(ids: Hashes, label: str) -> Any:
    cut = CUTS[label]
    cuts = splits.Cuts(np.array([cut["test"]], np.uint64), np.array([cut["validation"]], np.uint64))
    return cuts.sides(salted(ids, SEED), np.zeros(len(ids), np.int32))


def write_prepared(folder: Path) -> Prepared:
    """Prepared data of the first half of the texts, all of them mail, split by the cuts."""
    ids = IDS[:200]
    for number, name in enumerate(splits.SPLITS):
        (folder / name).mkdir(parents=True)
        here = ids[sides(ids, "mail") == number]
        pq.write_table(pa.table({"text_id": here}), folder / name / "part-0.parquet")
    manifest = {
        "format_version": FORMAT_VERSION,
        "settings": {"output": str(folder)},
        "seed": SEED,
        "cuts": CUTS,
        "given_splits": [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "labels.json").write_text(json.dumps(LABELS))
    return open_prepared(str(folder))


def about(prepared: Prepared | None, **more: Any) -> About:
    data = {} if prepared is None else {"uri": prepared.uri}
    digest = "" if prepared is None else prepared.digest
    values = {"data": data, "manifest_digest": digest} | more
    return About(
        labels=list(LABELS), max_tokens=8, text_columns=["text"], training_prior=None,
        natural_prior=[0.5, 0.5], **values,
    )  # fmt: skip


def asked(ids: Hashes, labels: list[str], other: About, uri: str, **more: Any) -> tuple[Any, str]:
    values: dict[str, Any] = {"digest": "another", "renamed": {}} | more
    return unseen.trained_on(ids, labels, about=other, uri=uri, **values)


def test_where_the_data_is_there_its_text_ids_say_it(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "data")
    seen, how = asked(IDS, ["mail"] * 400, about(prepared), "/nowhere")
    assert how == "by the text ids of its data"
    expected = sides(IDS, "mail") != splits.TEST
    expected[200:] = False  # the other has never seen these, whatever side they would stand on
    assert 100 < expected.sum() < 200
    assert seen.tolist() == expected.tolist()


def version(folder: Path, prepared: Prepared) -> str:
    """A registered version that says how its data was split."""
    folder.mkdir()
    (folder / unseen.KEPT).write_text(json.dumps(unseen.kept(prepared)))
    return str(folder)


@pytest.mark.parametrize("gone", ["removed", "changed"])
def test_where_the_data_is_gone_or_another_the_cuts_say_it(gone: str, tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "data")
    uri, known = version(tmp_path / "0001", prepared), about(prepared)
    manifest = tmp_path / "data" / "manifest.json"
    if gone == "removed":
        manifest.unlink()
    else:
        manifest.write_text(json.dumps(prepared.manifest | {"seed": SEED + 1}))
    labels = ["mail"] * 200 + ["network"] * 200
    seen, how = asked(IDS, labels, known, uri)
    assert how == "by the cuts of its split"
    expected = [*(sides(IDS[:200], "mail") != 2), *(sides(IDS[200:], "network") != 2)]
    assert seen.tolist() == expected
    assert 0 < sum(expected[200:]) < 200


def test_the_same_data_leaves_nothing_out(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "data")
    seen, _ = asked(IDS, ["mail"] * 400, about(prepared), "/nowhere", digest=prepared.digest)
    assert not seen.any()


def test_by_cuts_a_label_is_known_by_its_old_name_and_a_new_one_was_never_seen(
    tmp_path: Path,
) -> None:
    prepared = write_prepared(tmp_path / "data")
    uri, known = version(tmp_path / "0001", prepared), about(prepared)
    (tmp_path / "data" / "manifest.json").unlink()
    labels = ["post"] * 200 + ["new"] * 200
    seen, _ = asked(IDS, labels, known, uri, renamed={"mail": "post"})
    assert seen[:200].tolist() == (sides(IDS[:200], "mail") != 2).tolist()
    assert not seen[200:].any()
    merged, _ = asked(IDS[:200], labels[:200], known, uri, renamed=dict.fromkeys(LABELS, "post"))
    both = (sides(IDS[:200], "mail") != 2) | (sides(IDS[:200], "network") != 2)
    assert merged.tolist() == both.tolist()
    alone, _ = asked(IDS[:200], labels[:200], known, uri, renamed={"network": "post"})
    assert merged.sum() > alone.sum(), "held out under one old name is not held out"


def test_by_cuts_a_text_under_two_labels_is_held_out_only_if_it_is_under_both(
    tmp_path: Path,
) -> None:
    prepared = write_prepared(tmp_path / "data")
    uri, known = version(tmp_path / "0001", prepared), about(prepared)
    (tmp_path / "data" / "manifest.json").unlink()
    twice = np.concatenate([IDS[:200], IDS[:200]])
    seen, _ = asked(twice, ["mail"] * 200 + ["network"] * 200, known, uri)
    both = (sides(IDS[:200], "mail") != 2) | (sides(IDS[:200], "network") != 2)
    assert seen[:200].tolist() == both.tolist()
    assert seen[200:].tolist() == both.tolist()


def test_a_version_that_says_nothing_of_its_split_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be told: its data \(not recorded\) is gone"):
        asked(IDS, ["mail"] * 400, about(None), str(tmp_path))
