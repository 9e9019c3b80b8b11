"""One round of retraining, stage by stage: data, model, verdict, promotion.

Stages that have ended are not repeated, and a training that was cut off is gone on with. Knows
nothing of the command line.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cluster import storage
from cluster.errors import GateRefused
from cluster.registry import CHAMPION, Registry
from cluster.session import say
from jobs import preparer, training_run
from jobs.classifier.precision import Precision
from jobs.prepared import open_prepared
from jobs.pulse import run_name
from tuning import inherited, judgement, judging, promotion, retrain_page, rounds
from tuning.checks import Limits
from tuning.growth import growth
from tuning.inherited import Champion
from tuning.judgement import Judgement
from tuning.rounds import Found, Round


@dataclass(frozen=True)
class Task:
    """What a round is asked for. `given`: the settings that are not the champion's, dotted."""

    registry: Registry
    name: str
    given: Mapping[str, Any]
    limits: Limits
    precision: Precision

    @property
    def gate(self) -> dict[str, Any]:
        """How it is judged, as a round writes it down."""
        return asdict(self.limits) | {"precision": self.precision}


def look(here: Round, task: Task, champion: Champion) -> None:
    """Looks at all that a round names before it is begun, since what is begun has its settings for
    good; SettingError or DataError for what is wrong."""
    inherited.training(champion, task.given)
    preparer.request_of(inherited.prepare_settings(champion, task.given, output=here.data))


def go_on(here: Round, task: Task, champion: Champion) -> dict[str, Any]:
    """Does what is left of a round; its outcome, and under `stages` what was done for it now.

    `champion` is the one that the round was begun with. The gate judges against the one that is
    champion now.
    """
    preparing = inherited.prepare_settings(champion, task.given, output=here.data)
    found = here.found()
    before = _promoted_before(here, task, champion, found)
    now = task.registry.aliases(task.name).get(CHAMPION)
    todo = () if before else rounds.left(found, task.gate, now)
    stages = dict.fromkeys(("prepare", "train", "judge"), "kept")
    if "prepare" in todo:
        say(f"Preparing the data as that of version {champion.version} was prepared …")
        preparer.prepare(preparing)
        stages["prepare"] = "made"
    if "train" in todo:
        stages["train"] = _train(here, task, champion, found)
    if "judge" in todo or found.judgement is None:
        verdict = _judge(here, task)
        stages["judge"] = "made"
    else:
        verdict = judgement.read_back(found.judgement)
    if isinstance(verdict, GateRefused):
        judged, outcome = None, _refused(str(verdict), verdict.facts)
    else:
        judged, outcome = verdict, _promote(task, verdict, before)
    return _end(here, task, champion, judged, outcome) | {"stages": stages}


def _train(here: Round, task: Task, champion: Champion, found: Found) -> str:
    resume = found.training == "begun"
    inherited.say_unknown(champion)
    if not resume:
        storage.remove(here.run)  # of a run that was killed before it had written what it is
    settings = inherited.train_settings(
        champion, task.given, data=here.data, output=here.run, resume=resume
    )
    # Every round has its model in a folder of the same name.
    training_run.train(settings, run=run_name(here.uri))
    return "resumed" if resume else "made"


def _judge(here: Round, task: Task) -> Judgement | GateRefused:
    """The judgement; GateRefused where the model is the very champion, so that there is nothing
    to compare."""
    try:
        judged = promotion.judge(
            task.registry,
            task.name,
            here.bundle,
            data=None,
            limits=task.limits,
            precision=task.precision,
        )
    except GateRefused as error:
        return error
    here.write_judgement(judgement.plain(judged) | {"gate": task.gate})
    return judged


def _promoted_before(here: Round, task: Task, champion: Champion, found: Found) -> str | None:
    """The version that this round's model became champion as, if that was its last deed before it
    was cut off; whatever became of that version since."""
    if found.judgement is None or not all(check["passed"] for check in found.judgement["checks"]):
        return None
    mine = judging.very_model(here.bundle)
    for change in reversed(task.registry.history(task.name)):
        version = change["version"]
        if change["alias"] != CHAMPION or int(version) <= int(champion.version):
            continue
        if judging.very_model(task.registry.folder(task.name, version)) == mine:
            return str(version)
    return None


def _promote(task: Task, judged: Judgement, before: str | None) -> dict[str, Any]:
    """Makes the model champion if it passed, and was not made so `before`."""
    judgement.say_all(judged)
    if not judged.verdict.passed:
        reason = (
            f"{judged.candidate.uri} is not promoted, and version {judged.champion} stays the "
            f"champion of {task.name}. {judged.verdict.in_words()}"
        )
        return _refused(reason, judgement.facts(judged))
    if before is None:
        version, uri = promotion.register(task.registry, task.name, judged)
    else:
        version, uri = before, task.registry.folder(task.name, before)
    told = {"promoted": True, "reason": judged.verdict.in_words(), "version": version, "uri": uri}
    return judgement.facts(judged) | told


def _refused(reason: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    told = {"promoted": False, "reason": reason, "version": None, "uri": None}
    return {"checks": [], "warnings": [], **facts, **told}


def _end(
    here: Round,
    task: Task,
    champion: Champion,
    judged: Judgement | None,
    outcome: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes the report and, last, the outcome; gives that."""
    manifest = open_prepared(here.data).manifest
    grown = growth(champion.data.manifest, manifest)
    told = {
        "output": here.uri,
        "registry": task.registry.uri,
        "name": task.name,
        "source": manifest["settings"]["source"],
        "feedback": manifest["settings"].get("feedback"),
        "data": here.data,
        "bundle": here.bundle,
        "report": here.report,
        "begun_with": champion.version,
        "other_settings": inherited.changed(champion, task.given),
        **outcome,
        "grown": {key: value for key, value in grown.items() if key != "per_label"},
        "gate": task.gate,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    page = retrain_page.retrain_html(told, grown, judged, about=champion)
    storage.write_bytes(here.report, page.encode())
    here.write_outcome(told)
    return told
