"""Which parameters mattered, how sure that is, and what is said of it in three sentences."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from tests.unit import experiments
from tests.unit.experiments import epoch, write_trial
from tuning import analysis, importance, levelling, shares
from tuning.experiment import Folder
from tuning.findings import SMALL_SHARE, findings
from tuning.overview import Overview, overview

MATTER = {"optim.lr", "balance.strategy"}


def look(folder: Folder) -> Overview:
    return overview(analysis.load(folder.uri))


@pytest.fixture(scope="module", autouse=True)
def fewer_draws() -> Iterator[None]:
    """A third of the draws: their number makes intervals smoother, and tests slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "RESAMPLES", 10)
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Overview:
    """Sixty trials, of which most were stopped early."""
    return look(experiments.write(str(tmp_path_factory.mktemp("search")), 60))


def test_what_matters_comes_first_and_beyond_chance(searched: Overview) -> None:
    rows = {row.parameter.key: row for row in searched.assessment.rows}
    assert {row.parameter.key for row in searched.assessment.rows[:2]} == MATTER
    found = {key for key, row in rows.items() if (row.p_value or 1.0) < 0.05}
    assert found == MATTER
    for key in ("optim.weight_decay", "optim.warmup_ratio"):
        share = rows[key].share
        assert share is not None
        assert share.high < SMALL_SHARE
    assert searched.parameters[0] is searched.assessment.rows[0].parameter


def test_an_interval_holds_its_share_and_more_trials_make_it_narrower(
    searched: Overview, tmp_path: Path
) -> None:
    def width(found: Overview) -> float:
        share = next(r for r in found.assessment.rows if r.parameter.key == "optim.lr").share
        assert share is not None
        assert 0 <= share.low <= share.value <= share.high <= 1
        return share.high - share.low

    assert width(searched) < width(look(experiments.write(str(tmp_path / "few"), 16)))


def test_the_same_trials_give_the_same_figures(tmp_path: Path) -> None:
    folder = experiments.write(str(tmp_path), 16)
    assert look(folder).assessment == look(folder).assessment


def test_a_conditional_parameter_is_assessed_where_it_was_in_force(searched: Overview) -> None:
    rows = {row.parameter.key: row for row in searched.assessment.rows}
    focal = int((searched.comparable["balance.strategy"] == "focal").sum())
    assert rows["balance.gamma"].trials == focal >= importance.MIN_TRIALS
    assert rows["balance.gamma"].share is not None
    few = rows["balance.tau"]
    assert few.trials < importance.MIN_TRIALS
    assert (few.share, few.to_the_top, few.p_value) == (None, None, None)


def test_a_conditional_parameter_that_matters_is_found(tmp_path: Path) -> None:
    folder, rng = Folder(str(tmp_path)), np.random.default_rng(0)
    folder.write_record(experiments.record())
    for number in range(1, 41):
        tried = experiments.draw(rng) | {"balance.strategy": str(rng.choice(["focal", "none"]))}
        tried = experiments.in_force({"balance.gamma": float(rng.uniform(0.5, 4))} | tried)
        tried.pop("balance.tau", None)
        gain = 0.05 * tried.get("balance.gamma", 0.0)
        write_trial(folder, number, tried, [epoch(1, 1, 0.5 + gain + rng.normal(0, 0.01))])
    rows = {row.parameter.key: row for row in look(folder).assessment.rows}
    gamma = rows["balance.gamma"]
    assert gamma.share is not None
    assert gamma.share.low > 0.5
    assert gamma.p_value is not None
    assert gamma.p_value < 0.01


def test_levelled_figures_are_nearer_to_the_truth_than_those_of_stopped_trials(
    searched: Overview,
) -> None:
    found = searched.comparable
    truth = [experiments.peak(row) for row in found.to_dict("records")]

    def agreement(name: str) -> float:
        return float(spearmanr(found[name], truth).statistic)

    assert agreement(levelling.LEVELLED) > max(0.95, agreement("macro_f1"))
    finished = found[found["state"] == "finished"]
    assert (finished[levelling.LEVELLED] == finished["macro_f1"]).all()


def test_a_stopped_trial_is_raised_by_what_the_finished_grew(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write_record(experiments.record())
    tried = {"optim.lr": 1e-4}
    for number in (1, 2, 3):
        write_trial(folder, number, tried, [epoch(1, 2, 0.3), epoch(2, 2, 0.6)])
    write_trial(folder, 4, tried, [epoch(1, 4, 0.1)], "stopped")  # at 25%: nobody was measured
    write_trial(folder, 5, tried, [epoch(3, 4, 0.2)], "stopped")  # at 75%, between 0.3 and 0.6
    write_trial(folder, 6, tried, [epoch(1, 4, 0.5)], "failed")
    write_trial(folder, 7, tried, [epoch(1, 4, 0.5)], None)
    experiment = analysis.load(folder.uri)
    found = levelling.comparable(analysis.trials_of(experiment), analysis.history_of(experiment))
    assert found["trial"].tolist() == [1, 2, 3, 4, 5]
    assert found[levelling.LEVELLED].tolist() == pytest.approx([0.6] * 3 + [0.2, 0.2 * 0.6 / 0.45])


def test_trials_without_any_difference_have_no_important_parameter(tmp_path: Path) -> None:
    folder, rng = Folder(str(tmp_path)), np.random.default_rng(0)
    folder.write_record(experiments.record())
    for number in range(1, 21):
        write_trial(folder, number, experiments.draw(rng), [epoch(1, 1, 0.5)])
    found = look(folder)
    assert {row.p_value for row in found.assessment.rows if row.trials == 20} == {1.0}
    assert findings(found)[0].sentence.startswith("No parameter stands out")


@pytest.mark.parametrize("trials", [0, 3, importance.MIN_TRIALS - 1])
def test_with_few_trials_all_sentences_say_that_it_is_too_early(
    tmp_path: Path, trials: int
) -> None:
    told = findings(look(experiments.write(str(tmp_path / "search"), trials)))
    assert [finding.early for finding in told] == [True] * 3
    assert all(f.sentence.startswith(f"Too early to say: {trials} of the 15") for f in told)


def test_with_few_finished_trials_it_is_too_early_too(tmp_path: Path) -> None:
    folder, rng = Folder(str(tmp_path)), np.random.default_rng(0)
    folder.write_record(experiments.record())
    for number in range(1, 31):
        state = "finished" if number < 3 else "stopped"
        write_trial(folder, number, experiments.draw(rng), [epoch(1, 1, 0.5)], state)
    told = findings(look(folder))
    assert told[0].early
    assert "2 of the 3 trials that it takes ran to their end" in told[0].sentence


def test_the_sentences_name_what_mattered_and_what_did_not(searched: Overview) -> None:
    mattered, did_not, _ = findings(searched)
    assert all(key in mattered.sentence for key in MATTER)
    assert "optim.weight_decay" in did_not.sentence
    assert not any(key in did_not.sentence for key in MATTER)
    assert any("balance.tau was in force in" in line for line in did_not.behind)
    rows = {row.parameter.key: row for row in searched.assessment.rows}
    share = rows["optim.lr"].share
    assert share is not None
    assert any(f"optim.lr: {share.value:.0%}" in line for line in mattered.behind)


def test_a_parameter_whose_share_may_be_large_is_not_ruled_out(searched: Overview) -> None:
    def unsure(row: importance.Importance) -> importance.Importance:
        return replace(row, share=row.share and replace(row.share, high=0.3))

    rows = tuple(unsure(row) for row in searched.assessment.rows)
    told = findings(replace(searched, assessment=replace(searched.assessment, rows=rows)))
    assert told[1].sentence.startswith("No parameter can be ruled out yet")


def one_after_another(
    tmp_path: Path, figure: Callable[[int], float], rate: Callable[[int], float], epochs: int = 1
) -> str:
    """The last sentence of a search of thirty finished trials."""
    folder, rng = Folder(str(tmp_path)), np.random.default_rng(1)
    folder.write_record(experiments.record())
    for number in range(1, 31):
        tried = experiments.draw(rng) | {"optim.lr": rate(number)}
        values = [figure(number) * k / epochs for k in range(1, epochs + 1)]
        history = [epoch(k, epochs, value) for k, value in enumerate(values, 1)]
        write_trial(folder, number, experiments.in_force(tried), [*history, epoch(9, 9, 0.0)])
    return findings(look(folder))[2].sentence


def test_a_search_that_still_improves_should_go_on(tmp_path: Path) -> None:
    said = one_after_another(tmp_path, lambda n: 0.01 * n, lambda n: 1e-4)
    assert "Go on with more trials" in said


def test_a_best_value_at_the_end_of_its_range_should_be_searched_beyond(tmp_path: Path) -> None:
    said = one_after_another(
        tmp_path,
        lambda n: 0.8 - 0.3 * abs(np.log10(1e-3) - np.log10(rates(n))) + 1e-6 * n,
        rates,
    )
    assert "Search optim.lr above 0.001 too" in said


def rates(number: int) -> float:
    """All over the range, in no order."""
    return float(10 ** (-5 + 2 * ((number * 0.618034) % 1.0)))


def test_trials_that_are_best_in_their_last_epoch_should_get_more(searched: Overview) -> None:
    ranked = searched.ranked.assign(best_epoch=searched.ranked["epochs"])
    said = findings(replace(searched, ranked=ranked))[2]
    assert "more than" in said.sentence
    assert "In 5 of the 5 best trials the last epoch was the best." in said.behind


def test_a_search_that_found_nothing_better_for_long_is_narrowed(searched: Overview) -> None:
    said = findings(searched)[2]
    assert said.sentence.startswith("Narrow the space to optim.lr from")
    assert "balance.strategy = logit-adjustment" in said.sentence


def test_holm_corrects_for_the_number_of_parameters() -> None:
    from tuning.parameters import Parameter

    def row(key: str, p_value: float | None) -> Any:
        return importance.Importance(Parameter(key, "uniform"), 20, None, None, p_value, ())

    rows = [row("a", 0.01), row("b", 0.04), row("c", 0.03), row("d", None)]
    found = importance._corrected(rows)
    assert [r.p_value for r in found] == [pytest.approx(0.03), 0.06, 0.06, None]


def test_thirds_keep_equal_values_together() -> None:
    from tuning.parameters import Parameter

    part = pd.DataFrame({"x": [3, 3, 3, 3, 4, 5], levelling.LEVELLED: np.arange(6.0)})
    groups = importance.grouped(Parameter("x", "integer", 3, 6), part)
    assert [(name, len(values)) for name, values in groups] == [("3", 4), ("4 to 5", 2)]
