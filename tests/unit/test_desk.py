"""The synthetic incident desk: rows that depend on nothing but settings and row number."""

import math
import pickle
import string

import numpy as np
import pyarrow as pa
import pytest

from jobs import desk_words as words
from jobs.desk import CHUNK, SCHEMA, Desk


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk(classes=12, skew=1.1, seed=7)


@pytest.fixture(scope="module")
def tickets(desk: Desk) -> pa.Table:
    return desk.rows(0, 8 * CHUNK)


def test_rows_are_the_same_in_one_call_and_in_ten(desk: Desk) -> None:
    whole = desk.rows(0, 1000)
    parts = pa.concat_tables([desk.rows(start, 100) for start in range(0, 1000, 100)])
    assert whole.equals(parts)


def test_rows_are_the_same_on_both_sides_of_a_chunk_boundary(desk: Desk, tickets: pa.Table) -> None:
    across = desk.rows(CHUNK - 3, CHUNK + 6)
    assert across.equals(tickets.slice(CHUNK - 3, CHUNK + 6))


def test_a_row_far_out_is_the_same_alone_and_among_others_in_another_desk_object() -> None:
    far = 299_999_999
    alone = Desk(40, 0.8, 3).rows(far, 1)
    among = pickle.loads(pickle.dumps(Desk(40, 0.8, 3))).rows(far - 5, 10).slice(5, 1)
    assert alone.equals(among)
    assert alone["id"].to_pylist() == ["INC299999999"]


def test_columns_have_the_promised_types_and_ids_follow_row_numbers(tickets: pa.Table) -> None:
    assert tickets.schema.equals(SCHEMA)
    assert [str(field.type) for field in SCHEMA] == ["string"] * 4 + ["timestamp[s]", "string"]
    assert tickets["id"][123].as_py() == "INC0000123"
    assert all(column.null_count == 0 for column in tickets.columns)
    assert set(tickets["priority"].to_pylist()) == {"P1", "P2", "P3", "P4"}


def test_no_rows_are_an_empty_table_of_the_same_schema(desk: Desk) -> None:
    assert desk.rows(5, 0).schema.equals(SCHEMA)
    assert desk.rows(5, 0).num_rows == 0
    assert desk.truth(5, 0).shape == (0,)


def test_shares_follow_zipf_and_are_even_without_skew(desk: Desk) -> None:
    assert desk.shares[0] / desk.shares[4] == pytest.approx(5**1.1)
    assert desk.shares.sum() == pytest.approx(1.0)
    assert Desk(50, 0, 1).shares == pytest.approx(np.full(50, 0.02))


def test_true_teams_come_up_as_often_as_their_shares_say(desk: Desk) -> None:
    found = np.bincount(desk.truth(0, 40 * CHUNK), minlength=12) / (40 * CHUNK)
    assert found == pytest.approx(desk.shares, rel=0.15)


def test_label_shares_stay_near_the_true_ones(desk: Desk, tickets: pa.Table) -> None:
    labels = tickets["label"].to_pylist()
    found = [labels.count(label) / len(labels) for label in desk.labels]
    assert found == pytest.approx(desk.shares, abs=0.03)


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.3])
def test_the_ceiling_is_the_share_of_rows_labelled_with_their_true_team(noise: float) -> None:
    desk = Desk(12, 1.1, 11, noise=noise)
    count = 6 * CHUNK
    truth = np.array(desk.labels)[desk.truth(0, count)]
    right = float(np.mean(truth == np.array(desk.rows(0, count)["label"].to_pylist())))
    spread = math.sqrt(noise * (1 - noise) / count)
    assert abs(right - desk.ceiling) <= 4 * spread


def test_most_wrongly_assigned_tickets_went_to_a_neighbouring_team() -> None:
    desk = Desk(12, 0.0, 5, noise=0.4)
    truth = desk.truth(0, 4 * CHUNK).tolist()
    number = {label: at for at, label in enumerate(desk.labels)}
    given = [number[label] for label in desk.rows(0, 4 * CHUNK)["label"].to_pylist()]
    near = [b in words.neighbours(12)[a] for a, b in zip(truth, given, strict=True) if a != b]
    assert np.mean(near) > 0.75


def test_a_desk_of_two_teams_swaps_its_wrong_tickets() -> None:
    desk = Desk(2, 0.0, 1, noise=0.2)
    assert set(desk.rows(0, CHUNK)["label"].to_pylist()) == set(desk.labels)


def test_all_labels_are_unique_at_three_thousand_classes() -> None:
    labels = Desk(3000, 1.0, 1).labels
    assert len(labels) == len(set(labels)) == 3000
    assert labels[:12] == Desk(12, 1.0, 1).labels


def test_every_team_of_the_largest_desk_has_something_of_its_own_to_mend() -> None:
    found = words.teams(3000)
    owners = [(team.area.name, place) for team in found for place in team.places]
    assert len(owners) == len(set(owners))
    assert all(team.places for team in found)


def test_distinct_texts_are_the_overwhelming_majority(tickets: pa.Table) -> None:
    titles, bodies = tickets["title"].to_pylist(), tickets["body"].to_pylist()
    texts = set(zip(titles, bodies, strict=True))
    assert len(texts) > 0.97 * tickets.num_rows


def test_lengths_run_from_a_title_alone_to_a_hundred_words(tickets: pa.Table) -> None:
    bodies = tickets["body"].to_pylist()
    lengths = [len(body.split()) for body in bodies]
    assert 0.05 < bodies.count("") / len(bodies) < 0.12
    assert max(lengths) > 80
    assert all(tickets["title"].to_pylist())


def test_no_slot_or_choice_is_left_unfilled(tickets: pa.Table) -> None:
    text = "\n".join(tickets["title"].to_pylist() + tickets["body"].to_pylist())
    assert not set("{}|\x1f") & set(text)
    assert "  " not in text
    assert "\\n" not in text


def test_every_phrase_of_the_vocabulary_can_be_filled() -> None:
    everything: list[words.Lines] = [
        *(area.details + area.logs + area.asks for area in words.AREAS),
        *(topic for area in words.AREAS for topic in area.topics),
        *(overlap.titles + overlap.symptoms for overlap in words.OVERLAPS),
        *(lines for lines in vars(words).values() if _is_lines(lines)),
        *words.IMPACT.values(),
    ]
    slots = words.Slots(words.teams(12)[0], "2024-01-01 10:00", lambda: 0.5)
    known = {*slots, *words.MAKERS}
    phrases = [text for lines in everything for wordings in lines for text in wordings]
    assert len(phrases) > 2000
    used = {name for text in phrases for _, name, _, _ in string.Formatter().parse(text) if name}
    assert used <= known


def _is_lines(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(wordings, tuple) and all(isinstance(text, str) for text in wordings)
        for wordings in value
    )


def test_neighbouring_areas_and_overlaps_name_areas_that_exist() -> None:
    names = {area.name for area in words.AREAS}
    assert all(set(area.near) <= names - {area.name} for area in words.AREAS)
    assert all(overlap.areas <= names for overlap in words.OVERLAPS)
    assert all(any(name in overlap.areas for overlap in words.OVERLAPS) for name in names)


def test_regional_teams_name_their_platform_and_region_more_often_than_not() -> None:
    desk = Desk(48, 0.0, 9, noise=0.0)
    team = next(team for team in words.teams(48) if team.regional)
    rows = desk.rows(0, 10 * CHUNK).to_pylist()
    texts = [f"{row['title']} {row['body']}" for row in rows if row["label"] == team.label]
    platform = team.places[0][0].lower()
    assert np.mean([platform in text.lower() for text in texts]) > 0.5


def test_different_seeds_give_different_tickets_of_the_same_teams(desk: Desk) -> None:
    other = Desk(12, 1.1, 8)
    assert other.labels == desk.labels
    ours, theirs = desk.rows(0, 500)["body"].to_pylist(), other.rows(0, 500)["body"].to_pylist()
    assert sum(a == b != "" for a, b in zip(ours, theirs, strict=True)) < 5


@pytest.mark.parametrize(
    ("classes", "skew", "seed", "noise", "sentence"),
    [
        (1, 1.0, 1, 0.03, "classes is 1; it must be 2 to 3000"),
        (3001, 1.0, 1, 0.03, "classes is 3001; it must be 2 to 3000"),
        (12, -0.1, 1, 0.03, "skew is -0.1; it must be a finite number of at least 0"),
        (12, math.nan, 1, 0.03, "skew is nan; it must be a finite number of at least 0"),
        (12, 1.0, 1, 0.5, "noise is 0.5; it must be at least 0 and below 0.5"),
        (12, 1.0, 1, -0.01, "noise is -0.01; it must be at least 0 and below 0.5"),
        (12, 1.0, -1, 0.03, "seed is -1; it must be at least 0"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(
    classes: int, skew: float, seed: int, noise: float, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Desk(classes, skew, seed, noise=noise)


def test_negative_rows_are_refused(desk: Desk) -> None:
    with pytest.raises(ValueError, match="start is -1 and count is 5; both must be at least 0"):
        desk.rows(-1, 5)
    with pytest.raises(ValueError, match="start is 1 and count is -5; both must be at least 0"):
        desk.truth(1, -5)
