"""Which trials are stopped early: at the same share of their own schedules."""

from dataclasses import dataclass, field
from typing import Any

from ray.tune.schedulers import TrialScheduler

from tuning.experiment import Trial
from tuning.halving import Halving
from tuning.proposer import NUMBER

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


@dataclass
class TuneTrial:
    """What Tune calls a trial, as far as a scheduler looks at it."""

    number: int
    config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.trial_id, self.config = f"t{self.number}", {NUMBER: self.number}


def report(halving: Halving, number: int, percent: float, macro_f1: float) -> str:
    trial = TuneTrial(number)
    halving.on_trial_add(None, trial)
    return halving.on_trial_result(None, trial, {"percent": percent, "macro_f1": macro_f1})


def test_only_the_best_third_at_a_rung_goes_on_and_the_reason_is_told() -> None:
    cuts: list[tuple[int, str]] = []
    halving = Halving(lambda *cut: cuts.append(cut))
    for number in range(1, 7):
        assert report(halving, number, 20.0, 0.1 * number) == CONTINUE, "each is the best so far"
    assert report(halving, 7, 25.0, 0.2) == STOP
    assert report(halving, 8, 33.3, 0.65) == CONTINUE
    assert [number for number, _ in cuts] == [7]
    assert "0.2000 after 25%" in cuts[0][1]


def test_nothing_is_stopped_before_a_fifth_of_its_schedule_or_at_its_end() -> None:
    halving = Halving(lambda *_: None)
    for number in range(1, 7):
        report(halving, number, 60.0, 0.1 * number)
    assert report(halving, 7, 10.0, 0.0) == CONTINUE
    assert report(halving, 8, 100.0, 0.0) == CONTINUE
    assert report(halving, 9, 60.0, 0.0) == STOP


def test_a_resumed_search_measures_by_the_trials_of_the_first() -> None:
    before = [
        Trial(n, {}, "searched", "", ({"percent": 25.0, "macro_f1": 0.1 * n},), {})
        for n in range(1, 7)
    ]
    assert report(Halving(lambda *_: None, before), 7, 25.0, 0.2) == STOP
    assert report(Halving(lambda *_: None), 7, 25.0, 0.2) == CONTINUE


def test_one_that_goes_on_keeps_its_place_at_the_rungs_and_is_judged_there_once() -> None:
    before = [
        Trial(n, {}, "searched", "", ({"percent": 25.0, "macro_f1": 0.1 * n},), {})
        for n in range(1, 7)
    ]
    halving = Halving(lambda *_: None, before)
    # Number 2 was far behind at the first rung, and was let go on: it is not judged there again.
    assert report(halving, 2, 50.0, 0.21) == CONTINUE
    recorded = dict(halving._brackets[0]._rungs)[20]
    assert len(recorded) == 6
    assert recorded["t2"] == 0.2


def test_the_end_of_a_trial_is_no_rung() -> None:
    halving = Halving(lambda *_: None)
    trial = TuneTrial(1)
    halving.on_trial_add(None, trial)
    halving.on_trial_complete(None, trial, {"percent": 100.0, "macro_f1": 0.9})
    assert all(recorded == {} for _, recorded in halving._brackets[0]._rungs)
