"""From two bundles and test rows to the figures that the gate decides on.

Every row is answered by both models in one pass. Labels that were renamed since the champion was
trained are the same label; a row whose label only one of the two knows is no ground to compare
them, and stays out of the comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster import storage
from cluster.errors import DataError
from jobs import answers, comparison, evaluation, judged
from jobs.classifier import bundle, metrics
from jobs.classifier.bundle import About
from jobs.classifier.labels import Labels
from jobs.classifier.precision import Precision
from jobs.data_settings import Columns
from jobs.prepared import Prepared, open_prepared
from jobs.sources import open_source
from tuning import unseen

_OWN = ("label", "text_id", "predicted", "score", "abstained")
_THEIRS = ("predicted", "score")

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contender:
    """A bundle that is judged, or judged against."""

    uri: str
    about: About


def open_contender(uri: str) -> Contender:
    """The bundle at `uri`; BundleError if there is none, or it is not sound."""
    return Contender(uri, answers.about_bundle(uri))


def very_model(uri: str) -> tuple[str, float]:
    """What is alike of two bundles that give the same answers: the hash of the weights, and the
    score below which they abstain."""
    raw = storage.read_json(storage.join(uri, bundle.COMMIT))
    return str(raw["sha256"]["model.safetensors"]), float(raw["abstention_threshold"])


def trained_on(about: About, who: str, data: str | None, *, remedy: str) -> Prepared:
    """The data that a bundle was trained on, which lies at `data` now (None: where the bundle
    says). DataError where there is none or another; it ends with `remedy` where that can help."""
    uri = data or str(about.data.get("uri") or "")
    if not uri:
        raise DataError(f"Nothing says what {who} was trained on: give --data URI.")
    try:
        prepared = open_prepared(uri)
    except DataError as error:
        raise DataError(f"{error} {remedy}") from None
    if prepared.digest != about.manifest_digest:
        digests = (
            f"is not what {who} was trained on: its manifest has the digest {prepared.digest}, and "
            f"the bundle says {about.manifest_digest or 'none'}."
        )
        if data is None:
            raise DataError(f"The data at {uri} {digests} {remedy}")
        raise DataError(
            f"--data {uri} {digests} Leave --data out if that data lies where it was (--data none "
            "takes back what a file says)."
        )
    return prepared


def ask(
    prepared: Prepared, candidate: Contender, champion: Contender | None, precision: Precision
) -> pa.Table:
    """The test rows with the answers of both; needs a connected Ray. The texts are left behind.

    Prepared data holds the joined text in one column, from which both read.
    """
    source = open_source(storage.join(prepared.uri, "test"), key="data")
    columns, other, wanted = Columns(), None, list(_OWN)
    if champion is not None:
        other = answers.Other(champion.uri, champion.about, columns)
        wanted += [f"{name}{answers.AGAINST}" for name in _THEIRS]
    rows = answers.answered(source, candidate.uri, columns, precision, other)
    batches = rows.iter_batches(batch_format="pyarrow", batch_size=None)
    return pa.concat_tables([batch.select(wanted) for batch in batches])


def alone(rows: pa.Table, about: About) -> dict[str, Any]:
    """`metrics.json` of the candidate on all its test rows; under `baseline` a comparison with
    always giving the label that most training rows have."""
    found, _ = judged.figures(rows, about)
    labels = Labels(tuple(about.labels))
    truth = labels.encode(rows["label"].to_pylist(), where="the test rows")
    predicted = labels.encode(rows["predicted"].to_pylist(), where="the answers")
    most = np.full(len(truth), int(np.argmax(about.natural_prior)))
    rare = evaluation.rarest_third(about.natural_prior)
    return found | {"baseline": comparison.compare(truth, predicted, most, labels.names, rare)}


def compared(rows: pa.Table, candidate: About, champion: Contender, digest: str) -> dict[str, Any]:
    """What `tuning.gate.against` asks for. `rows`: all test rows; `digest`: of their data."""
    renamed = judged.renames(candidate)
    theirs = {_today(name, renamed) for name in champion.about.labels}
    common = theirs & set(candidate.labels)
    shared = sorted(common)
    names = rows["label"].to_pylist()
    seen, how = unseen.trained_on(
        rows["text_id"].to_numpy(),
        names,
        about=champion.about,
        uri=champion.uri,
        digest=digest,
        renamed=renamed,
    )
    known = np.array([name in common for name in names], np.bool_)
    kept = rows.filter(pa.array(known & ~seen))
    truth, ours = (_ids(kept[name].to_pylist(), shared, {}) for name in ("label", "predicted"))
    column = kept[f"predicted{answers.AGAINST}"].to_pylist()
    other = _ids(column, shared, renamed)
    scores = kept[f"score{answers.AGAINST}"].to_numpy().astype(np.float64)
    rare = _rare(candidate, shared)
    return {
        **comparison.compare(truth, ours, other, shared, rare),
        "calibration_error": metrics.calibration_error(scores, other == truth),
        "rare_labels": [shared[c] for c in np.flatnonzero(rare)],
        "absent_labels": sorted(common - set(kept["label"].to_pylist())),
        "only_candidate": sorted(set(candidate.labels) - theirs),
        "only_champion": sorted(theirs - set(candidate.labels)),
        "left_out": len(rows) - len(kept),
        "left_out_seen": int(seen.sum()),
        "left_out_unknown": int((~known & ~seen).sum()),
        "known_by": how,
    }


def left_out_in_words(other: Mapping[str, Any]) -> str:
    """How many rows do not count, and why."""
    told = [
        f"{other['left_out_seen']:,} that the champion was trained on ({other['known_by']})",
        f"{other['left_out_unknown']:,} whose label the champion does not know",
    ]
    return f"Left out of the comparison: {' and '.join(told)}."


def _today(name: str, renamed: Mapping[str, str]) -> str:
    """A label of the champion under its new name; one that was dropped since keeps its old."""
    return renamed.get(name) or name


def _ids(names: Sequence[str], shared: Sequence[str], renamed: Mapping[str, str]) -> Ids:
    """Class ids among the shared labels, int64 [rows]; len(shared) for all others."""
    ids = {name: number for number, name in enumerate(shared)}
    return np.array([ids.get(_today(name, renamed), len(shared)) for name in names], np.int64)


def _rare(candidate: About, shared: Sequence[str]) -> npt.NDArray[np.bool_]:
    """bool [shared]: the rarest third of all classes of the candidate's data."""
    rare = evaluation.rarest_third(candidate.natural_prior)
    where = {name: c for c, name in enumerate(candidate.labels)}
    return np.array([rare[where[name]] for name in shared], np.bool_)
