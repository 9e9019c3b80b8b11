"""Where a text belongs: jobs.splits against an oracle in SQL that shares no code with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import splits
from jobs.classifier.labels import Labels
from jobs.classifier.text import normalise, text_ids
from tests.unit import oracle
from tests.unit.memory import STEADY
from tests.unit.splitting import cut, sides

LABELS = ("Netz", "Zürich", "mail", "network", "Ähre", "ähre", "打印", "🖨")
SPACES = (" ", "  ", "\t", " \n", "\u00a0", "\u2003\u3000")
# The same words composed and decomposed: one text.
WORDS = (("caf\u00e9", "cafe\u0301"), ("\u00e5r", "a\u030ar"), ("vpn", "vpn"), ("VPN", "VPN"))
# Number, word, the word's form, what stands between them, and what stands at the end.
TEXTS = st.builds(
    lambda number, word, form, space, end: f"{word[form]}{space}{number}{end}",
    st.integers(0, 15),
    st.sampled_from(WORDS),
    st.integers(0, 1),
    st.sampled_from(SPACES),
    st.sampled_from(("", *SPACES)),
)
# Few labels in most examples, so that a label has enough texts for quotas to bite.
ROWS = st.integers(1, len(LABELS)).flatmap(
    lambda labels: st.lists(
        st.tuples(TEXTS, st.sampled_from(LABELS[:labels])), min_size=1, max_size=120
    )
)
SHARES = st.tuples(st.integers(0, 99), st.integers(0, 99)).filter(lambda s: sum(s) < 100)


def ours(
    rows: list[tuple[str, str]], *, validation: float, test: float, seed: int
) -> dict[str, str]:
    """Normalised text → split, as jobs.splits has it."""
    ids = text_ids([text for text, _ in rows])
    labels = Labels.of(label for _, label in rows)
    classes = labels.encode([label for _, label in rows], where="the test").astype(np.int32)
    texts = splits.settle(ids, classes, np.ones(len(rows), dtype=np.int64))
    # Radix selection over several levels, as it would go for far more texts.
    cuts = cut(
        texts,
        len(labels),
        validation=validation,
        test=test,
        seed=seed,
        most_counters=64,
        most_members=4,
    )
    found = sides(texts, cuts, seed)
    named = dict(zip(texts.ids.tolist(), (splits.SPLITS[side] for side in found), strict=True))
    return {
        normalise(text): named[number] for (text, _), number in zip(rows, ids.tolist(), strict=True)
    }


@STEADY
@given(ROWS, SHARES, st.integers(0, 3))
def test_the_split_is_the_one_that_sql_finds(
    rows: list[tuple[str, str]], shares: tuple[int, int], seed: int
) -> None:
    validation, test = shares[0] / 100, shares[1] / 100
    expected = oracle.sides(rows, validation=validation, test=test, seed=seed)
    assert ours(rows, validation=validation, test=test, seed=seed) == expected


@pytest.mark.parametrize("shares", [(10, 10), (45, 45), (1, 98), (0, 10), (33, 33)])
def test_so_it_is_for_labels_of_one_to_forty_texts(shares: tuple[int, int]) -> None:
    rows = [(f"{size} {text}", f"label {size}") for size in range(1, 41) for text in range(size)]
    validation, test = shares[0] / 100, shares[1] / 100
    expected = oracle.sides(rows, validation=validation, test=test, seed=1)
    assert ours(rows, validation=validation, test=test, seed=1) == expected


def test_the_oracle_counts_texts_and_not_rows() -> None:
    # Ten texts of one label, one of them in twenty rows of which most are under another label.
    rows = [(f"text {k}", "mail") for k in range(10)] + [("text  0", "vpn")] * 20
    found = oracle.sides(rows, validation=0.1, test=0.2, seed=0)
    # mail keeps nine texts: 6.3, 0.9 and 1.8 of them; vpn has one, which trains.
    assert found["text 0"] == "train"
    mail = [found[f"text {k}"] for k in range(1, 10)]
    assert {side: mail.count(side) for side in splits.SPLITS} == {
        "train": 6,
        "validation": 1,
        "test": 2,
    }


def test_the_oracle_gives_a_tie_to_the_smallest_label() -> None:
    # "a" stands once under each label. Were it vpn's, vpn would have three texts and mail two.
    rows = [("a", "vpn"), ("a", "mail"), ("b", "mail"), ("c", "mail"), ("d", "vpn"), ("e", "vpn")]
    found = oracle.sides(rows, validation=0.1, test=0.1, seed=0)
    assert sorted(found[text] for text in "abc") == ["test", "train", "validation"]
    assert [found[text] for text in "de"] == ["train", "train"]


def test_the_oracle_refuses_shares_that_it_cannot_count_in() -> None:
    with pytest.raises(ValueError, match=r"0\.125"):
        oracle.sides([("a", "mail")], validation=0.125, test=0.1, seed=0)
