"""A search that is killed, interrupted or cut short loses no trial, repeats none, leaves nothing.

Every test prints its figure (`pytest -m slow -s tests/integration/test_search_faults.py`).
"""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from ray.tune.stopper import TimeoutStopper

from tests.conftest import last_json
from tests.integration import faults, searches
from tests.integration.faults import figure
from tests.integration.searches import EVERY_STEPS, Searching
from tests.integration.test_search import prepared  # noqa: F401  # a fixture

pytestmark = pytest.mark.slow

SECOND = {"trial": 2, "at": [1, 4]}  # in the middle of its second epoch


@pytest.fixture
def searching(prepared: str, tiny_model: Path, tmp_path: Path) -> Searching:  # noqa: F811
    return Searching(tmp_path, prepared, tiny_model)


def assert_it_went_on(searching: Searching, number: int) -> int:
    """A trial ended as if it had not been disturbed, from its checkpoint; steps trained twice."""
    found = searching.trial(number)
    assert found.state == "finished"
    assert searches.figures(found) == searching.undisturbed(number)
    wasted = faults.wasted_steps(searching.steps(number))
    assert 0 < wasted <= 2 * EVERY_STEPS, "it did not go on from its newest checkpoint"
    return wasted


def assert_all_ended(searching: Searching) -> None:
    found = searching.experiment.trials()
    assert [trial.number for trial in found] == [1, 2, 3]
    assert {trial.state for trial in found} == {"finished"}


def test_a_search_whose_driver_was_killed_is_resumed(searching: Searching) -> None:
    code, _ = searching.finish(**SECOND, harm="kill-driver")
    assert code == -9, searching.said()
    killed_at = searching.steps(2)[-1].time
    before, started = searching.kept(1), searching.trial(2).started
    assert searching.trial(2).state == "unfinished"
    code, out = searching.finish("--resume")
    assert code == 0, searching.said()
    assert searching.kept(1) == before, "a finished trial is not as it was, or ran again"
    assert searching.trial(2).started == started
    assert_all_ended(searching)
    wasted = assert_it_went_on(searching, 2)
    assert faults.wasted_steps(searching.steps(3)) == 0
    assert last_json(out)["trials"] == {"finished": 3}
    seconds = searches.ended_at(searching.trial(2)) - killed_at
    figure(
        "driver of a search killed", trials_lost=0, trials_repeated=0, wasted_steps=wasted,
        seconds_to_the_next_finished_trial=f"{seconds:.1f}",
    )  # fmt: skip


def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_running(searching: Searching) -> None:
    with searching.started(**SECOND, harm="interrupt-driver") as process:
        out, _ = process.communicate(timeout=faults.LIMIT_S)
        ended = time.time()
    assert process.returncode == 130, searching.said()
    assert last_json(out)["error"] == "Interrupted."
    assert "1 finished, 1 unfinished. Go on with --resume." in searching.said()
    assert "Traceback" not in out + searching.said()
    seconds = ended - searching.steps(2)[-1].time
    before = searching.kept(1)
    searching.here(resume=True)
    assert searching.kept(1) == before
    assert_all_ended(searching)
    wasted = assert_it_went_on(searching, 2)
    figure("Ctrl-C of a search", seconds_to_the_end=f"{seconds:.1f}", wasted_steps=wasted)


def test_a_trial_whose_process_is_killed_once_goes_on_in_the_same_search(
    searching: Searching,
) -> None:
    said = searching.here(**SECOND, harm="kill-worker")
    assert said["trials"] == {"finished": 3}
    assert_all_ended(searching)
    wasted = assert_it_went_on(searching, 2)
    steps = searching.steps(2)
    assert len({step.pid for step in steps}) == 2
    gap = max(after.time - one.time for one, after in itertools.pairwise(steps))
    figure("trial killed", wasted_steps=wasted, seconds_to_the_next_step=f"{gap:.1f}")


def test_a_trial_that_is_killed_whenever_it_starts_has_failed_and_the_search_goes_on(
    searching: Searching,
) -> None:
    said = searching.here(trial=2, at=[0, 1], harm="kill-worker", always=True)
    assert said["trials"] == {"finished": 2, "failed": 1}
    failed = searching.trial(2)
    assert failed.state == "failed"
    assert failed.end["reason"]
    assert searching.trial(3).state == "finished"
    starts = len({step.pid for step in searching.steps(2)})
    assert starts == 2
    figure("trial killed on every start", starts=starts, reason=failed.end["reason"])


@pytest.mark.parametrize("first", [None, "_QueueActor", "TrainController"])
def test_two_workers_a_trial_leave_nothing_behind_when_the_time_is_over(
    searching: Searching, first: str | None
) -> None:
    """Whichever process dies first when Tune gives back the trial's room; None: as it comes."""
    more = {"time_budget": "1h", "scaling": {"workers": 2}, "at_once": 1}
    long = replace(searching, trials=None, epochs=4000, more=more)

    killed: list[int] = []

    def hour_is_over(_: TimeoutStopper) -> bool:
        over = Path(long.experiment.place(1, "history.json")).exists()
        if over and first is not None:
            killed.extend(searches.kill_actors(first))
        return over

    before = searches.in_the_cluster()
    with mock.patch.object(TimeoutStopper, "stop_all", hour_is_over):
        said = long.here()
    assert said["trials"] == {"unfinished": 1}
    assert len(killed) == {None: 0, "_QueueActor": 2, "TrainController": 1}[first]
    seconds = searches.wait_for_the_same(before)
    figure("time over with two workers a trial", left=0, seconds_until=f"{seconds:.1f}")


def test_two_workers_of_a_trial_that_falls_behind_leave_their_room_to_the_next(
    searching: Searching,
) -> None:
    more = {"scheduler": "asha", "scaling": {"workers": 2}, "at_once": 1}
    bad = replace(searching, rates=(5e-3, 1e-5, 2e-5), epochs=5, more=more)
    before = searches.in_the_cluster()
    bad.here()
    trials = bad.experiment.trials()
    assert [trial.state for trial in trials] == ["finished", "stopped", "stopped"]
    seconds = searches.wait_for_the_same(before)
    figure("trial of two workers stopped early", left=0, seconds_until=f"{seconds:.1f}")
