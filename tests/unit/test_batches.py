"""The plan of an epoch and the batches of each rank."""

import hashlib
import json
import threading
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.classifier.batches import (
    AHEAD,
    WINDOW_SHARDS,
    batches,
    pin_for,
    plan_epoch,
    plan_in_order,
)
from jobs.classifier.encoding import grid, pad
from tests.unit.memory import STEADY, MemoryTokens, rows_of

LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=120)


def varied(count: int, *, shards: int = 1, seed: int = 3) -> MemoryTokens:
    rng = np.random.default_rng(seed)
    return rows_of(
        rng.integers(3, 60, count).tolist(), (rng.integers(0, 4, count)).tolist(), shards=shards
    )


def as_lists(plan: Iterator[np.ndarray]) -> list[list[int]]:
    return [rows.tolist() for rows in plan]


@STEADY
@given(LENGTHS, st.integers(1, 40), st.integers(4, 400), st.integers(0, 5))
def test_an_epoch_holds_every_row_once_in_batches_within_the_budget(
    lengths: list[int], shards: int, budget: int, epoch: int
) -> None:
    tokens = rows_of(lengths, shards=shards)
    plan = as_lists(plan_epoch(tokens, seed=1, epoch=epoch, batch_tokens=budget))
    assert sorted(chain.from_iterable(plan)) == list(range(len(lengths)))
    for rows in plan:
        width = grid(max(lengths[row] for row in rows))
        assert len(rows) == 1 or width * len(rows) <= budget


@STEADY
@given(LENGTHS, st.integers(1, 40), st.integers(4, 400))
def test_the_plan_in_order_holds_every_row_once_within_the_budget(
    lengths: list[int], shards: int, budget: int
) -> None:
    tokens = rows_of(lengths, shards=shards)
    plan = as_lists(plan_in_order(tokens, batch_tokens=budget))
    assert sorted(chain.from_iterable(plan)) == list(range(len(lengths)))
    for rows in plan:
        assert [lengths[row] for row in rows] == sorted(
            (lengths[row] for row in rows), reverse=True
        )
        assert len(rows) == 1 or grid(lengths[rows[0]]) * len(rows) <= budget
    assert as_lists(plan_in_order(tokens, batch_tokens=budget)) == plan


def test_a_batch_is_cut_only_where_the_next_row_would_pass_the_budget() -> None:
    tokens = rows_of([8] * 5 + [4] * 5)
    assert as_lists(plan_in_order(tokens, batch_tokens=24)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    tokens = rows_of([4, 60, 4, 60])
    assert as_lists(plan_in_order(tokens, batch_tokens=16)) == [[1], [3], [0, 2]]


def test_the_plan_is_a_function_of_seed_and_epoch() -> None:
    tokens = varied(300)
    plans = {
        (seed, epoch): as_lists(plan_epoch(tokens, seed=seed, epoch=epoch, batch_tokens=256))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    again = as_lists(plan_epoch(tokens, seed=1, epoch=1, batch_tokens=256))
    assert plans[1, 1] == again
    members = [{frozenset(rows) for rows in plan} for plan in plans.values()]
    for position, batch_sets in enumerate(members):
        for other in members[position + 1 :]:
            assert len(batch_sets & other) < len(batch_sets) / 2


def test_batches_do_not_come_by_length() -> None:
    tokens = varied(600)
    longest = [
        tokens.lengths[rows].max() for rows in plan_epoch(tokens, seed=0, epoch=0, batch_tokens=256)
    ]
    correlation = np.corrcoef(np.arange(len(longest)), longest)[0, 1]
    assert abs(correlation) < 0.5


def test_rows_of_like_length_share_a_batch() -> None:
    tokens = varied(2000)
    plan = list(plan_epoch(tokens, seed=0, epoch=0, batch_tokens=1024))
    padded = sum(grid(int(tokens.lengths[rows].max())) * len(rows) for rows in plan)
    assert tokens.lengths.sum() / padded > 0.9


@pytest.mark.parametrize("shard_rows", [[300], [120, 180], [1] * 15 + [285], [100, 0, 200]])
@pytest.mark.parametrize("most", [None, 3])
def test_the_plan_does_not_depend_on_how_the_rows_were_cut_and_ordered(
    shard_rows: list[int], most: int | None
) -> None:
    tokens = varied(300, shards=2)
    order = np.random.default_rng(9).permutation(300).tolist()
    moved = tokens.in_order(order, shard_rows)
    often = None if most is None else np.arange(300, dtype=np.int32) % (most + 1)
    copies = [often, None if often is None else often[order]]
    plans = [
        [
            rows.text_ids[batch].tolist()
            for batch in plan_epoch(rows, seed=4, epoch=2, batch_tokens=256, copies=taken)
        ]
        for rows, taken in zip((tokens, moved), copies, strict=True)
    ]
    assert plans[0] == plans[1]


def test_the_rows_of_a_batch_come_from_few_shards_and_shards_meet_others_in_other_epochs() -> None:
    tokens = rows_of([6] * 400, shards=40)

    def neighbours(epoch: int) -> set[frozenset[int]]:
        plan = list(plan_epoch(tokens, seed=0, epoch=epoch, batch_tokens=64))
        shards = [{int(row) // 10 for row in rows} for rows in plan]
        windows: list[set[int]] = []
        for found in shards:
            # Batches of one window follow one another.
            if windows and len(windows[-1] | found) <= WINDOW_SHARDS:
                windows[-1] |= found
            else:
                windows.append(set(found))
        assert [len(window) for window in windows] == [16, 16, 8]
        return {frozenset(window) for window in windows}

    assert neighbours(0) != neighbours(1)


def test_only_drawn_rows_are_planned_as_often_as_they_are_drawn() -> None:
    tokens = rows_of([5] * 60, shards=20)
    copies = np.zeros(60, dtype=np.int32)
    copies[[3, 4, 30, 59]] = [1, 3, 1, 2]
    plan = as_lists(plan_epoch(tokens, seed=0, epoch=0, batch_tokens=16, copies=copies))
    assert sorted(chain.from_iterable(plan)) == [3, 4, 4, 4, 30, 59, 59]


@STEADY
@given(LENGTHS, st.integers(1, 40), st.integers(4, 400), st.data())
def test_repeated_rows_are_planned_exactly_and_within_the_budget(
    lengths: list[int], shards: int, budget: int, data: st.DataObject
) -> None:
    tokens = rows_of(lengths, shards=shards)
    often = st.lists(st.integers(0, 4), min_size=len(lengths), max_size=len(lengths))
    copies = np.array(data.draw(often), dtype=np.int32)
    plan = as_lists(plan_epoch(tokens, seed=1, epoch=0, batch_tokens=budget, copies=copies))
    found = np.bincount(list(chain.from_iterable(plan)), minlength=len(lengths))
    assert found.tolist() == copies.tolist()
    for rows in plan:
        assert len(rows) == 1 or grid(max(lengths[row] for row in rows)) * len(rows) <= budget


def test_rows_that_are_all_taken_once_are_planned_as_without_a_draw() -> None:
    tokens = varied(300, shards=20)
    once = np.ones(300, dtype=np.int32)
    with_draw = as_lists(plan_epoch(tokens, seed=2, epoch=1, batch_tokens=256, copies=once))
    assert with_draw == as_lists(plan_epoch(tokens, seed=2, epoch=1, batch_tokens=256))


def test_a_plan_is_the_one_that_earlier_versions_made() -> None:
    """Another digest means that runs no longer repeat the losses of earlier ones."""
    tokens = varied(300, shards=20)
    half = (np.arange(300) % 2).astype(np.int32)
    plans = [
        as_lists(plan_epoch(tokens, seed=5, epoch=1, batch_tokens=256, copies=copies))
        for copies in (None, half)
    ]
    found = hashlib.sha256(json.dumps(plans).encode()).hexdigest()
    assert found[:16] == "52b549215fcc78e2"


def test_a_batch_holds_the_padded_tokens_and_labels_of_its_rows() -> None:
    tokens = rows_of([3, 7, 5], [2, 0, 1])
    (batch,) = batches(tokens, [np.array([1, 2, 0])], pad_id=9)
    ids, mask = pad([tokens.tokens[row] for row in (1, 2, 0)], 9)
    assert batch.ids.tolist() == ids.tolist()
    assert batch.mask.tolist() == mask.tolist()
    assert batch.labels.tolist() == [0, 1, 2]
    assert batch.weights.tolist() == [1.0, 1.0, 1.0]
    assert (batch.global_rows, batch.done_rows, batch.real_tokens) == (3, 3, 15)


@STEADY
@given(LENGTHS, st.integers(1, 5), st.integers(4, 200))
def test_the_shares_of_all_ranks_are_the_global_batch_and_stand_ins_weigh_nothing(
    lengths: list[int], world: int, budget: int
) -> None:
    tokens = rows_of(lengths, shards=3)
    plan = list(plan_epoch(tokens, seed=0, epoch=0, batch_tokens=budget))
    ranks = [list(batches(tokens, plan, pad_id=0, rank=rank, world=world)) for rank in range(world)]
    assert {len(found) for found in ranks} == {len(plan)}
    done = 0
    for rows, parts in zip(plan, zip(*ranks, strict=True), strict=True):
        done += len(rows)
        counted = [
            int(ids[0]) - 100
            for part in parts
            for ids, weight in zip(part.ids, part.weights, strict=True)
            if weight == 1
        ]
        assert sorted(counted) == sorted(rows.tolist())
        sizes = [int(part.weights.sum()) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert all(len(part.ids) >= 1 for part in parts)
        assert {(part.global_rows, part.done_rows) for part in parts} == {(len(rows), done)}
        assert sum(part.real_tokens for part in parts) == tokens.lengths[rows].sum()
    assert done == len(lengths)


def test_going_on_from_a_batch_gives_the_rest_of_the_epoch() -> None:
    tokens = varied(80)
    plan = list(plan_epoch(tokens, seed=0, epoch=0, batch_tokens=128))
    whole = list(batches(tokens, plan, pad_id=0))
    rest = list(batches(tokens, plan, pad_id=0, start=3))
    assert len(rest) == len(whole) - 3 > 0
    for found, expected in zip(rest, whole[3:], strict=True):
        assert found.ids.tolist() == expected.ids.tolist()
        assert found.done_rows == expected.done_rows


class Broken(MemoryTokens):
    """Its third row cannot be read."""

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        if 2 in rows:
            raise OSError("the third row cannot be read")
        return super().read(rows)


def test_an_error_while_reading_is_raised_where_batches_are_used() -> None:
    good = rows_of([4] * 4)
    tokens = Broken(good.tokens, good.labels, good.text_ids, good.shard_rows)
    made = batches(tokens, [np.array([k]) for k in range(4)], pad_id=0)
    assert [next(made).ids[0, 0].item() for _ in range(2)] == [100, 101]
    with pytest.raises(OSError, match="third row"):
        next(made)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_every_tensor_is_pinned_in_the_thread_that_makes_it_ahead() -> None:
    seen: list[tuple[str, torch.Tensor]] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        seen.append((threading.current_thread().name, copy))
        return copy

    plan = [np.array([k, k + 1]) for k in range(0, 6, 2)]
    plain = list(batches(rows_of([4, 6] * 3), plan, pad_id=0))
    pinned = list(batches(rows_of([4, 6] * 3), plan, pad_id=0, pin=pin))
    assert {name for name, _ in seen} == {"batches"}
    copies = [id(copy) for _, copy in seen]
    for one, other in zip(plain, pinned, strict=True):
        for name in ("ids", "mask", "labels", "weights"):
            assert torch.equal(getattr(one, name), getattr(other, name))
            assert id(getattr(other, name)) in copies
    assert len(copies) == 4 * len(plan)


def test_only_cuda_has_memory_to_pin() -> None:
    assert pin_for(torch.device("cpu")) is None
    assert pin_for(torch.device("cuda")) is torch.Tensor.pin_memory


def test_a_reader_that_goes_away_ends_the_thread() -> None:
    made = batches(rows_of([4] * 400), [np.array([k]) for k in range(400)], pad_id=0)
    next(made)
    assert len(readers()) == 1
    made.close()
    assert readers() == []


def test_few_batches_are_made_ahead() -> None:
    made = 0

    def plan() -> Iterator[np.ndarray]:
        nonlocal made
        for row in range(300):
            made += 1
            yield np.array([row])

    furthest = 0
    for used, _ in enumerate(batches(rows_of([4] * 300), plan(), pad_id=0), start=1):
        furthest = max(furthest, made - used)
    assert made == 300
    # Those that wait, and one in the hands of the thread.
    assert 1 <= furthest <= AHEAD + 1
