"""What the endpoint says of itself: added up right, and within bounds."""

import numpy as np
import pytest

from serve import drift, meters
from serve.drift import MIN_ANSWERS
from serve.meters import METERS
from serve.tally import Series, Tally
from tests.unit.tallying import LABELS, PRIOR, answer, buckets, model


def rises(tally: Tally) -> dict[Series, float]:
    return tally.take()[0]


def levels(tally: Tally) -> dict[Series, float]:
    return tally.take()[1]


def test_requests_are_counted_by_route_and_status_and_errors_by_their_kind() -> None:
    tally = Tally()
    tally.request("/v1/classify", 200, None, 0.003)
    tally.request("/v1/classify", 200, None, 0.004)
    tally.request("/v1/classify", 429, "overloaded", 0.001)
    found = rises(tally)
    assert found["switchyard_requests_total", ("/v1/classify", "200")] == 2
    assert found["switchyard_requests_total", ("/v1/classify", "429")] == 1
    assert found["switchyard_errors_total", ("/v1/classify", "overloaded")] == 1
    assert sum(v for (name, _), v in found.items() if name == "switchyard_errors_total") == 1
    assert found["switchyard_request_seconds_sum_total", ("/v1/classify",)] == pytest.approx(0.008)


def test_what_a_client_makes_up_never_becomes_a_name() -> None:
    tally = Tally()
    for number in range(50):
        tally.request(f"/secret/{number}", 1000 + number, f"kind-{number}", 0.1)
        tally.request(f"/models/secret-{number}", 404, "not_found", 0.1)
    found = rises(tally)
    assert found["switchyard_requests_total", ("other", "other")] == 50
    assert found["switchyard_errors_total", ("other", "other")] == 50
    assert found["switchyard_requests_total", ("/models/{name}", "404")] == 50
    assert not [series for series in found if "secret" in str(series) or "kind-" in str(series)]


def test_buckets_are_cumulative_and_hold_their_upper_bound() -> None:
    tally = Tally()
    for rows in (1, 2, 3, 1000):
        tally.batch(rows, rows * 20)
    found = rises(tally)
    by_bound = buckets(found, "switchyard_batch_rows")
    assert by_bound == {
        "1": 1, "2": 2, "4": 3, "8": 3, "16": 3, "32": 3, "64": 3, "128": 3, "256": 3, "+Inf": 4,
    }  # fmt: skip
    assert found["switchyard_batch_rows_sum_total", ()] == 1006
    assert found["switchyard_batch_tokens_sum_total", ()] == 20120


def test_stages_are_apart() -> None:
    tally = Tally()
    tally.stage("queue", 0.5)
    tally.stage("infer", 0.002)
    found = rises(tally)
    assert buckets(found, "switchyard_stage_seconds", "queue")["0.25"] == 0
    assert buckets(found, "switchyard_stage_seconds", "queue")["0.5"] == 1
    assert buckets(found, "switchyard_stage_seconds", "infer")["0.0025"] == 1
    assert buckets(found, "switchyard_stage_seconds", "tokenize")["+Inf"] == 0


def test_what_was_taken_is_not_taken_again() -> None:
    tally = Tally()
    model(tally)
    answer(tally, "mail")
    tally.stage("infer", 0.1)
    assert rises(tally)["switchyard_answers_total", ("mail",)] == 1
    assert rises(tally) == {}
    answer(tally, "mail")
    assert rises(tally)["switchyard_answers_total", ("mail",)] == 1


def test_counters_begin_at_zero_so_that_the_first_event_is_a_rise() -> None:
    tally = Tally()
    model(tally)
    found = rises(tally)
    assert set(found.values()) == {0.0}
    expected: set[Series] = {("switchyard_answers_total", (label,)) for label in LABELS}
    expected |= {("switchyard_feedback_total", ()), ("switchyard_abstentions_total", ())}
    assert expected <= set(found)
    assert len(buckets(found, "switchyard_answer_score")) == 13


def test_answers_are_counted_by_label_with_scores_abstentions_and_truncations() -> None:
    tally = Tally()
    model(tally)
    tally.answers(
        ["mail", "mail", "network"],
        np.array([0.25, 0.97, 0.999], dtype=np.float32),
        np.array([True, False, False]),
        np.array([False, True, True]),
    )
    tally.feedback(2)
    found = rises(tally)
    assert found["switchyard_answers_total", ("mail",)] == 2
    assert found["switchyard_answers_total", ("network",)] == 1
    assert found["switchyard_abstentions_total", ()] == 1
    assert found["switchyard_truncations_total", ()] == 2
    assert found["switchyard_feedback_total", ()] == 2
    scores = buckets(found, "switchyard_answer_score")
    assert (scores["0.3"], scores["0.98"], scores["+Inf"]) == (1, 2, 3)


def test_a_label_that_the_model_does_not_know_has_no_name_of_its_own() -> None:
    tally = Tally()
    model(tally)
    answer(tally, "mail", "unknown")
    found, level = tally.take()
    assert found["switchyard_answers_total", ("(other)",)] == 1
    assert level["switchyard_label_window_answers", ()] == 1


def test_of_too_many_labels_the_most_frequent_keep_their_names() -> None:
    tally = Tally()
    many = [f"team-{number}" for number in range(meters.MOST_LABELS + 200)]
    tally.model("router", "1", many, list(range(1, len(many) + 1)))
    found, level = tally.take()
    named = {values[0] for name, values in found if name == "switchyard_answers_total"}
    assert named == {*many[200:], "(other)"}
    priors = [v for (name, _), v in level.items() if name == "switchyard_label_prior_share"]
    assert sum(priors) == pytest.approx(1)


def test_changes_of_the_model_never_add_up_to_more_names_than_are_allowed() -> None:
    tally = Tally()
    named = set()
    for version in range(4):
        labels = [f"team-{version}-{number}" for number in range(400)]
        tally.model("router", str(version), labels, [1.0] * 400)
        named |= {values[0] for name, values in rises(tally) if name == "switchyard_answers_total"}
    assert len(named - {"(other)"}) == meters.MOST_LABELS


def test_a_new_model_takes_the_place_of_the_old_one() -> None:
    tally = Tally()
    model(tally, "1")
    answer(tally, *["mail"] * MIN_ANSWERS)
    before = levels(tally)
    assert before["switchyard_label_drift_share", ()] > drift.ALARM
    tally.model("router", "2", ["mail", "phone"], [0.9, 0.1])
    after = levels(tally)
    assert [s for s in after if s[0] == "switchyard_model_info"] == [
        ("switchyard_model_info", ("router", "2"))
    ]
    assert after["switchyard_label_window_answers", ()] == 0
    assert ("switchyard_label_drift_share", ()) not in after
    assert ("switchyard_label_prior_share", ("network",)) not in after


def test_drift_is_that_of_the_window() -> None:
    tally = Tally(window=500)
    model(tally)
    drawn = np.random.default_rng(0).choice(3, size=3000, p=[0.1, 0.1, 0.8])
    answer(tally, *[LABELS[number] for number in drawn])
    window = drift.DriftWindow(PRIOR, 500)
    window.add(drawn)
    level = levels(tally)
    assert level["switchyard_label_window_answers", ()] == 500
    assert level["switchyard_label_drift_share", ()] == window.excess()


def test_a_prior_that_does_not_fit_is_said_and_costs_the_drift_alone() -> None:
    tally = Tally()
    with pytest.raises(ValueError, match="3 labels and 1 shares"):
        tally.model("router", "1", LABELS, [1.0])
    answer(tally, "mail")
    found, level = tally.take()
    assert level["switchyard_model_info", ("router", "1")] == 1
    assert found["switchyard_answer_score_sum_total", ()] == pytest.approx(0.9)


def test_a_model_that_is_refused_is_said_until_it_is_not_and_whatever_answers_meanwhile() -> None:
    tally = Tally()
    tally.refused(False)
    assert levels(tally)["switchyard_model_refused", ()] == 0
    tally.refused(True)
    model(tally, "2")
    assert levels(tally)["switchyard_model_refused", ()] == 1
    tally.refused(False)
    assert levels(tally)["switchyard_model_refused", ()] == 0


def test_gauges_are_given_every_time_since_ray_forgets_them() -> None:
    tally = Tally()
    model(tally)
    tally.waiting(3, 120)
    assert levels(tally) == levels(tally)
    assert levels(tally)["switchyard_waiting_tokens", ()] == 120


def test_every_series_has_a_metric_with_as_many_labels() -> None:
    tally = Tally()
    model(tally)
    tally.request("/predict", 500, "internal", 0.1)
    tally.waiting(1, 1)
    tally.refused(False)
    answer(tally, *["mail"] * MIN_ANSWERS)
    known = {meter.name: meter for meter in meters.parts()}
    found, level = tally.take()
    assert {name for name, _ in found} == {n for n, m in known.items() if m.kind == "counter"}
    assert {name for name, _ in level} == {n for n, m in known.items() if m.kind == "gauge"}
    assert all(len(known[name].labels) == len(values) for name, values in found | level)


def test_names_say_that_they_are_ours_and_what_counters_are() -> None:
    for meter in METERS.values():
        assert meter.name.startswith("switchyard_")
        assert meter.name.endswith("_total") == (meter.kind == "counter")
        assert (meter.bounds != ()) == (meter.kind == "histogram")
        assert list(meter.bounds) == sorted(set(meter.bounds))
