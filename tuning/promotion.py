"""Promotion: a bundle is judged on test rows, and one that passes becomes the champion.

Every look at the test rows is written down in the registry before it is taken, whatever comes of
it. Knows nothing of the command line.
"""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster import session, storage
from cluster.errors import ChangedError, DataError, GateRefused
from cluster.registry import CHAMPION, Registry
from cluster.session import say
from jobs.classifier import bundle
from jobs.classifier.precision import Precision
from jobs.prepared import Prepared
from tuning import gate, judgement, judging, promotion_card, unseen
from tuning.checks import Limits
from tuning.judgement import Judgement
from tuning.judging import Contender

RECORD = "promotion.json"


def judge(
    registry: Registry,
    name: str,
    uri: str,
    *,
    data: str | None,
    limits: Limits,
    precision: Precision,
) -> Judgement:
    """Evaluates the bundle at `uri` once on the test rows of its data, beside the champion of
    `name`. `data`: where the data lies now (None: where it was)."""
    candidate = judging.open_contender(uri)
    champion, version = _champion(registry, name)
    if champion is not None:
        where = {"registry": registry.uri, "name": name, "champion": version}
        _refuse_same(candidate, champion, where)
    prepared = _test_data(candidate, data)
    session.connect()
    session.streaming_context()
    for place, key in ((uri, "bundle"), (prepared.uri, "data"), (registry.uri, "registry")):
        if storage.exists(place):  # a registry is made by what is first registered in it
            session.require_everywhere(place, key)
    uses = registry.count_use(prepared.digest, {"name": name, "bundle": uri})
    say(f"Asking the test rows of {prepared.uri} …")
    rows = judging.ask(prepared, candidate, champion, precision)
    alone, other = judging.alone(rows, candidate.about), None
    if champion is None:
        verdict = gate.first(alone, limits)
    else:
        other = judging.compared(rows, candidate.about, champion, prepared.digest)
        verdict = gate.against(alone, other, limits)
    warnings = promotion_card.warnings(candidate, champion, uses)
    return Judgement(candidate, prepared, version, alone, other, verdict, uses, warnings)


def register(registry: Registry, name: str, judged: Judgement) -> tuple[str, str]:
    """Makes the bundle a new version and the champion; (version, URI).

    ChangedError if the champion is no longer the one that it was compared with: then it is a
    version, and not the champion.
    """
    reason = promotion_card.reason(judged.champion, judged.verdict)
    with tempfile.TemporaryDirectory(prefix="switchyard-") as temporary:
        folder = Path(temporary) / "bundle"
        storage.download(judged.candidate.uri, folder)
        bundle.check(folder)
        bundle.amend(folder, _written(folder, name, judged, reason))
        version = registry.publish(name, folder, bundle.COMMIT)
    try:
        registry.point(name, CHAMPION, version, expected=judged.champion, reason=reason)
    except ChangedError as error:
        raise ChangedError(
            f"{error} This bundle is registered as version {version}, and was not compared with "
            "the present champion.",
            registry=registry.uri,
            name=name,
            version=version,
        ) from None
    return version, registry.folder(name, version)


def _champion(registry: Registry, name: str) -> tuple[Contender, str] | tuple[None, None]:
    version = registry.aliases(name).get(CHAMPION)
    if version is None:
        return None, None
    return judging.open_contender(registry.folder(name, version)), version


def _refuse_same(candidate: Contender, champion: Contender, where: dict[str, Any]) -> None:
    """Another look at the test rows would say nothing of weights against themselves."""
    if judging.very_model(candidate.uri) == judging.very_model(champion.uri):
        raise GateRefused(
            f"{candidate.uri} has the very weights of the champion, version {where['champion']}: "
            "there is nothing to promote.",
            passed=False,
            checks=[],
            **where,
        )


def _test_data(candidate: Contender, data: str | None) -> Prepared:
    """The data that the candidate was trained on; DataError if it is not there, or another."""
    prepared = judging.trained_on(
        candidate.about,
        candidate.uri,
        data,
        remedy=f"The test rows are those of the data that {candidate.uri} was trained on; if that "
        "was moved, say where it is with --data URI.",
    )
    if prepared.counts("test").sum() == 0:
        raise DataError(
            f"--data {prepared.uri} has no test rows, and a model cannot be judged on rows that it "
            "has seen. Prepare it with --split.test above 0, and train again."
        )
    return prepared


def _written(folder: Path, name: str, judged: Judgement, reason: str) -> dict[str, str]:
    """The files of the bundle that say how it became champion."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    card = (folder / "README.md").read_text(encoding="utf-8")
    section = promotion_card.section(
        name, at, judged.champion, judged.verdict, judged.alone, judged.other, judged.warnings,
        judged.uses,
    )  # fmt: skip
    record = {
        "format_version": 1,
        "name": name,
        "at": at,
        "reason": reason,
        **judgement.facts(judged),
        "data": {"uri": judged.prepared.uri, "manifest_digest": judged.prepared.digest},
        "comparison": judged.other,
    }
    texts = {RECORD: record, unseen.KEPT: unseen.kept(judged.prepared)}
    found = {key: json.dumps(v, ensure_ascii=False, indent=1) + "\n" for key, v in texts.items()}
    return {"README.md": f"{card.rstrip()}\n\n{section}", **found}
