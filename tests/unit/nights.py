"""Rounds of retraining without Ray: a registry with a champion, its data, and stages that are
played."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.errors import DataError
from cluster.registry import CHAMPION, Registry
from jobs import comparison, evaluation
from jobs.prepared import FORMAT_VERSION, open_prepared
from jobs.preparer import Prepare
from jobs.training_run import TrainCommand
from tuning import gate, judging, promotion
from tuning.checks import Limits
from tuning.judgement import Judgement

LABELS = ("mail", "network", "printing")
NAME = "router"
SETTINGS = {
    "source": "/then/tickets",
    "output": "/then/data",
    "test_source": None,
    "feedback": None,
    "on_bad_file": "skip",
    "columns.text": ["title", "body"],
    "columns.label": "team",
    "columns.id": None,
    "columns.split": "split",
    "labels.map": None,
    "split.validation": 0.15,
    "split.test": 0.2,
    "split.seed": 3,
    "split.min_rows": 1,
    "split.rare": "keep-in-train",
    "split.conflicts": "keep",
    "split.like": None,
    "model.name": "minilm",
    "model.max_tokens": 128,
}
CONFIGURATION = {
    "data.fraction": 1.0,
    "model.name": "tiny",
    "model.max_tokens": 16,
    "train.epochs": 4,
    "optim.head_lr": None,
    "balance.strategy": "class-weights",
}


def write_data(folder: Path, labels: Sequence[str] = LABELS, rows: int = 30, **more: Any) -> str:
    """A folder that reads as prepared data, without its rows."""
    each = {split: {"rows": rows, "texts": rows - 1} for split in ("train", "validation", "test")}
    manifest = {
        "format_version": FORMAT_VERSION,
        "rows": 3 * rows * len(labels),
        "labels": dict.fromkeys(labels, each),
        "labels_map": {},
        "seed": 3,
        "cuts": {},
        "given_splits": [],
        "settings": SETTINGS,
    }
    folder.mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(sorted(labels)))
    (folder / "manifest.json").write_text(json.dumps(manifest | more))
    return str(folder)


@dataclass
class Night:
    """A world of one champion; `done` says which stages were played, in order."""

    home: Path
    make_bundle: Callable[..., Path]
    better: bool = True
    fails: dict[str, Exception] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    runs: list[str | None] = field(default_factory=list)  # by what names metrics would go

    @property
    def registry(self) -> Registry:
        return Registry(str(self.home / "registry"))

    def first(self) -> str:
        """Makes the champion, of labels that no other bundle here has."""
        data = write_data(self.home / "then")
        return self.promote("champion", ("mail", "network"), data)

    def promote(self, folder: str, labels: Sequence[str], data: str) -> str:
        made = self.make_bundle(
            self.home / folder,
            labels=tuple(labels),
            configuration=CONFIGURATION,
            data={"uri": data, "labels_map": {}},
            manifest_digest=open_prepared(data).digest,
        )
        before = self.registry.aliases(NAME).get(CHAMPION)
        version = self.registry.publish(NAME, made, "bundle.json")
        self.registry.point(NAME, CHAMPION, version, expected=before, reason="")
        return version

    def look(self, settings: Prepare) -> None:
        if settings.source == "/now/nothing":
            raise DataError("--source /now/nothing does not exist.")

    def prepare(self, settings: Prepare) -> None:
        self._play("prepare")
        write_data(Path(settings.output), rows=40)

    def train(self, settings: TrainCommand, *, run: str | None) -> None:
        self.runs.append(run)
        folder = Path(settings.output)
        folder.mkdir(parents=True, exist_ok=settings.resume)
        (folder / "run.json").write_text("{}")
        self._play("resume" if settings.resume else "train")
        data = settings.data.uri
        self.make_bundle(
            folder / "bundle",
            data={"uri": data, "labels_map": {}},
            manifest_digest=open_prepared(data).digest,
        )

    def judge(
        self, registry: Registry, name: str, uri: str, *, data: Any, limits: Limits, precision: Any
    ) -> Judgement:
        self._play("judge")
        return judged(uri, registry.aliases(name)[CHAMPION], limits, better=self.better)

    def _play(self, stage: str) -> None:
        self.done.append(stage)
        if stage in self.fails:
            raise self.fails.pop(stage)

    def play(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Puts the played stages in the place of the real ones."""
        from jobs import preparer, training_run

        monkeypatch.setattr(preparer, "prepare", self.prepare)
        monkeypatch.setattr(preparer, "request_of", self.look)
        monkeypatch.setattr(training_run, "train", self.train)
        monkeypatch.setattr(promotion, "judge", self.judge)


def judged(uri: str, champion: str, limits: Limits, *, better: bool) -> Judgement:
    """A judgement of made up answers, of which a third are wrong for one of the two."""
    truth = np.repeat(np.arange(3), 30)
    wrong = np.where(truth == 2, 0, truth)
    ours, theirs = (truth, wrong) if better else (wrong, truth)
    rare = np.array([False, False, True])
    about = judging.open_contender(uri)
    scores, none = np.full(90, 0.97), np.zeros(90, np.bool_)
    prior = [1 / 3] * 3
    alone = evaluation.from_columns(truth, ours, scores, none, LABELS, prior)
    alone |= evaluation.uncertainty(truth, ours, scores, none, prior)
    other = {
        **comparison.compare(truth, ours, theirs, LABELS, rare),
        "calibration_error": 0.0,
        "rare_labels": ["printing"],
        "absent_labels": [],
        "only_candidate": [],
        "only_champion": [],
        "left_out": 4,
        "left_out_seen": 3,
        "left_out_unknown": 1,
        "known_by": "by the text ids of its data",
    }
    return Judgement(
        candidate=about,
        prepared=open_prepared(str(about.about.data["uri"])),
        champion=champion,
        alone=alone,
        other=other,
        verdict=gate.against(alone, other, limits),
        uses=1,
        warnings=("Mind the step.",),
    )
