"""Labels: sorted once, and the position is the class id."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from jobs.classifier.labels import Labels
from tests.unit.memory import STEADY


def test_labels_are_distinct_and_sorted_by_code_point() -> None:
    labels = Labels.of(["vpn", "Mail", "étage", "mail", "vpn", "10", "9"])
    assert labels.names == ("10", "9", "Mail", "mail", "vpn", "étage")
    assert len(labels) == 6
    assert labels.ids["mail"] == 3


@STEADY
@given(st.lists(st.text(), min_size=1), st.randoms(use_true_random=False))
def test_class_ids_do_not_depend_on_the_order_in_which_labels_were_met(names, random) -> None:
    shuffled = random.sample(names, len(names))
    first, second = Labels.of(names), Labels.of(shuffled)
    assert first == second
    ids = first.encode(names, where="here")
    assert ids.dtype == np.int32
    assert [second.names[number] for number in ids] == names


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a"), ("a", "b", "a")])
def test_labels_in_another_order_or_twice_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="distinct and sorted"):
        Labels(names)


def test_no_names_encode_to_no_ids() -> None:
    found = Labels.of(["a"]).encode([], where="here")
    assert found.shape == (0,)
    assert found.dtype == np.int32


def test_unknown_labels_are_named_with_the_place_they_stand_in() -> None:
    with pytest.raises(DataError) as raised:
        Labels.of(["mail", "vpn"]).encode(["vpn", "phone", "fax", "phone"], where="s3://rows")
    message = str(raised.value)
    assert message.startswith("s3://rows holds labels that training has never seen: ")
    assert "'fax', 'phone'." in message
    assert "2 labels" in message
    assert "more" not in message


def test_of_many_unknown_labels_five_are_named_and_the_rest_counted() -> None:
    with pytest.raises(DataError, match=r"'0', '1', '2', '3', '4' and 3 more\. Known are 1 labels"):
        Labels.of(["a"]).encode(list("76543210"), where="it")
