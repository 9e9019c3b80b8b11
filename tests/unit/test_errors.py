"""The user's sentence, found inside whatever was wrapped around it."""

import pytest

from cluster import errors
from cluster.errors import DataError, GateRefused, SettingError, SwitchyardError, user_error_in
from serve import errors as replies


def caused(error: BaseException, by: BaseException) -> BaseException:
    error.__cause__ = by
    return error


def test_an_error_of_ours_is_found_itself() -> None:
    mine = DataError("no rows")
    assert user_error_in(mine) is mine


def test_none_and_errors_of_others_hold_nothing() -> None:
    assert user_error_in(None) is None
    assert user_error_in(ValueError("theirs")) is None
    assert user_error_in(caused(ValueError("outer"), KeyError("inner"))) is None


def test_an_error_is_found_through_a_chain_of_causes() -> None:
    mine = SettingError("wrong")
    wrapped = caused(RuntimeError("1"), caused(OSError("2"), caused(ValueError("3"), mine)))
    assert user_error_in(wrapped) is mine


def test_an_error_is_found_in_the_context_of_another() -> None:
    mine = DataError("no rows")

    def fails() -> None:
        try:
            raise mine
        finally:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fails()
    assert caught.value.__cause__ is None
    assert user_error_in(caught.value) is mine


def test_an_error_is_found_where_from_none_hid_it_from_readers() -> None:
    mine = DataError("no rows")

    def fails() -> None:
        try:
            raise mine
        except DataError:
            raise RuntimeError("gave up") from None

    with pytest.raises(RuntimeError) as caught:
        fails()
    assert user_error_in(caught.value) is mine


def test_an_error_is_found_in_an_attribute_called_cause() -> None:
    mine = DataError("no rows")
    outer = RuntimeError("a task failed")
    outer.cause = mine  # type: ignore[attr-defined]
    assert user_error_in(outer) is mine


def test_an_error_is_found_among_the_failures_of_workers() -> None:
    mine = DataError("row 3 has no label")
    outer = RuntimeError("a worker group failed")
    outer.worker_failures = {  # type: ignore[attr-defined]
        0: ValueError("a peer went away"),
        1: caused(RuntimeError("a task failed"), mine),
    }
    assert user_error_in(outer) is mine
    assert user_error_in(caused(SystemError("the run failed"), outer)) is mine


def test_failures_that_are_no_dictionary_are_passed_over() -> None:
    outer = RuntimeError("a worker group failed")
    outer.worker_failures = [DataError("not where Ray puts it")]  # type: ignore[attr-defined]
    assert user_error_in(outer) is None


def test_the_nearest_of_several_errors_is_told() -> None:
    outer = caused(DataError("the sentence for the user"), SettingError("what lies below"))
    assert user_error_in(caused(RuntimeError("1"), outer)) is outer


def test_a_ring_of_causes_ends() -> None:
    one, two = RuntimeError("1"), RuntimeError("2")
    one.__cause__, two.__cause__ = two, one
    assert user_error_in(one) is None
    two.__context__ = mine = DataError("no rows")
    assert user_error_in(one) is mine


def test_rays_own_wrapper_that_poses_as_our_error_is_looked_into() -> None:
    from ray.exceptions import RayTaskError

    mine = DataError("no rows")
    wrapper = RayTaskError(
        "train", "Traceback (most recent call last): …", mine
    ).as_instanceof_cause()
    assert isinstance(wrapper, DataError)
    assert user_error_in(wrapper) is mine


def test_every_error_has_the_exit_code_of_its_kind() -> None:
    ours = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    codes = {error.__name__: error.exit_code for error in ours}
    assert codes.pop("SwitchyardError") == 1
    assert codes.pop("GateRefused") == 3
    assert len(codes) >= 6
    assert set(codes.values()) == {2}
    assert not issubclass(GateRefused, errors.UserError)
    assert issubclass(GateRefused, SwitchyardError)


@pytest.mark.parametrize(
    ("error", "status", "kind", "headers"),
    [
        (replies.RequestError, 422, "invalid", {}),
        (replies.Empty, 400, "empty", {}),
        (replies.Unauthorized, 401, "unauthorized", {"WWW-Authenticate": "Bearer"}),
        (replies.BodyTooSlow, 408, "body_too_slow", {}),
        (replies.TooLarge, 413, "too_large", {}),
        (replies.Overloaded, 429, "overloaded", {"Retry-After": "1"}),
        (replies.NotReady, 503, "not_ready", {}),
        (replies.TooLate, 504, "too_late", {}),
    ],
)
def test_every_reply_has_the_status_kind_and_headers_of_the_contract(
    error: type[replies.RequestError], status: int, kind: str, headers: dict[str, str]
) -> None:
    made = error("why")
    assert (made.status, made.kind, made.headers, str(made)) == (status, kind, headers, "why")
