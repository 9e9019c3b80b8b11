"""What nobody sends in good faith, to every route that takes a body: answered, or refused as the
contract says, and never found in a log or a reply.
"""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serve.models import Loaded
from tests.unit.asking import (
    SECRET,
    Ask,
    Kept,
    asker,
    assert_refused,
    log_everything,
    raw,
)

# Route → its body, with a place for one text as JSON has it.
BODIES = {
    "/v1/classify": '{"texts": [%s]}',
    "/predict": '{"inputs": %s}',
    "/models/tickets": '{"inputs": %s}',
    "/v1/feedback": '{"label": "mail", "text": %s}',
}
SAID = f'"{SECRET}"'

# What is done to the body of a route → the status and the kind that follow.
Spoilt = Callable[[str], str | bytes]
BROKEN: dict[str, tuple[Spoilt, int, str]] = {
    "nothing": (lambda _: b"", 422, "invalid"),
    "white space": (lambda _: b" \n", 422, "invalid"),
    "cut off": (lambda body: (body % SAID)[:-1], 422, "invalid"),
    "one bracket too many": (lambda body: (body % SAID) + "}", 422, "invalid"),
    "two bodies": (lambda body: (body % SAID) * 2, 422, "invalid"),
    "single quotes": (lambda body: body % f"'{SECRET}'", 422, "invalid"),
    "a comment": (lambda body: (body % SAID) + f"// {SECRET}", 422, "invalid"),
    "the text alone": (lambda _: SECRET, 422, "invalid"),
    "a string": (lambda _: SAID, 422, "invalid"),
    "an escape that is none": (lambda body: body % f'"{SECRET}\\x41"', 422, "invalid"),
    "half an escape": (lambda body: body % f'"{SECRET}\\ud8"', 422, "invalid"),
    "a raw line break": (lambda body: body % f'"{SECRET}\n"', 422, "invalid"),
    "100,000 lists": (lambda body: body % ("[" * 100_000 + "]" * 100_000), 422, "invalid"),
    "100,000 objects": (
        lambda body: body % ('{"a":' * 100_000 + "1" + "}" * 100_000),
        422,
        "invalid",
    ),
    "100,000 lists left open": (lambda _: "[" * 100_000, 422, "invalid"),
    "1e999": (lambda body: body % "1e999", 422, "invalid"),
    "NaN": (lambda body: body % "NaN", 422, "invalid"),
    "minus infinity": (lambda body: body % "-Infinity", 422, "invalid"),
    "a number of 5,000 digits": (lambda body: body % ("9" * 5000), 422, "invalid"),
    "a number of 100,000 digits": (lambda body: body % ("9" * 100_000), 422, "invalid"),
    "a fraction of 100,000 digits": (lambda body: body % ("0." + "9" * 100_000), 422, "invalid"),
    "an exponent of 5,000 digits": (lambda body: body % ("1e" + "9" * 5000), 422, "invalid"),
    "bytes that are no UTF-8": (
        lambda body: (body % SAID).encode().replace(b"zan", b"zan\xff\xfe"),
        422,
        "invalid",
    ),
    "a NUL in two bytes": (
        lambda body: (body % SAID).encode().replace(b"zan", b"zan\xc0\x80"),
        422,
        "invalid",
    ),
    "Latin-1": (lambda body: (body % f'"{SECRET} é"').encode("latin-1"), 422, "invalid"),
    "NULs": (lambda _: b"\0" * 64, 422, "invalid"),
    "gzip": (lambda _: b"\x1f\x8b\x08" + bytes(64), 422, "invalid"),
    "an unknown key": (lambda body: '{"zan": 1, ' + (body % SAID)[1:], 422, "invalid"),
    "a surrogate for a key": (lambda body: '{"\\ud800": 1, ' + (body % SAID)[1:], 422, "invalid"),
    "a key of a megabyte": (
        lambda body: f'{{"{SECRET[:4] * 250_000}": 1, ' + (body % SAID)[1:],
        422,
        "invalid",
    ),
    "100,000 unknown keys": (
        lambda body: "{" + "".join(f'"{n}":1,' for n in range(100_000)) + (body % SAID)[1:],
        422,
        "invalid",
    ),
    "a million numbers": (lambda body: body % f"[{'7,' * 999_900}7]", 422, "invalid"),
    "two keys, the last one wrong": (
        lambda body: (body % SAID)[:-1] + ", " + (body % "7")[1:],
        422,
        "invalid",
    ),
    "a million characters": (lambda body: body % f'"{SECRET * 125_000}"', 413, "too_large"),
    "a million characters of two bytes": (
        lambda body: body % f'"{SECRET}{"é" * 1_000_000}"',
        413,
        "too_large",
    ),
    "a million escapes": (
        lambda body: body % f'"{SECRET}{chr(92)}u0041{"zan" * 60_000}"',
        413,
        "too_large",
    ),
    "nothing but a line break and a tab": (lambda body: body % '"\\n\\t\\u2003"', 400, "empty"),
}

ODD: dict[str, str] = {
    "NUL": f"{SECRET}\0down",
    "control characters": SECRET + "".join(map(chr, range(32))) + "\x7f",
    "a terminal's escape": f"\x1b]0;{SECRET}\x07\x1b[2J",
    "a line for the log": f"{SECRET}\r\nINFO all is well",
    "a format": f"%s %d {{}} {{0.__class__}} ${{x}} {SECRET}",
    "HTML": f"<script>{SECRET}</script>",
    "right-to-left": f"\u202e{SECRET}\u202c לא עובד",
    "marks without end": SECRET + "e" + "\u0301\u0336\u0489" * 2000,
    "no width": f"\u200b{SECRET}\u200d\u2060\ufeff",
    "no width at all": "\u200b",
    "noncharacters": f"{SECRET}\uffff\ufdd0\U0010ffff",
    "private use": f"{SECRET}\ue000\U000f0000",
    "emoji": f"{SECRET} \U0001f525\U0001f9d1\u200d\U0001f692 \U0001f525",
    "Han": f"{SECRET} 打印机坏了",
    "special tokens": f"[CLS] {SECRET} [SEP] [PAD] [MASK] [UNK]",
    "one long word": SECRET * 1000,
    "many spaces": " " * 50_000 + SECRET,
    "the longest that is allowed": SECRET * 12_500,
}


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def ask(loaded: Loaded, kept: Kept) -> Ask:
    return asker(loaded, feedback=kept)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_answered_is_refused_and_is_in_no_log_and_no_reply(
    path: str, name: str, ask: Ask, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, status, kind = BROKEN[name]
    log_everything(caplog)

    assert_refused(ask("POST", path, **raw(spoil(BODIES[path]))), status, kind)

    assert SECRET not in caplog.text
    assert kept.corrections == []


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", ODD)
def test_odd_text_is_answered_and_is_in_no_log_and_no_reply(
    path: str, name: str, ask: Ask, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    log_everything(caplog)

    reply = ask("POST", path, **raw(BODIES[path] % json.dumps(ODD[name])))

    assert reply.status_code == 200, reply.text[:300]
    assert reply.json()
    assert SECRET not in reply.text
    assert SECRET not in caplog.text
    if path == "/v1/feedback":
        assert [c.text for c in kept.corrections] == [ODD[name]]


def answer_of(reply: httpx.Response) -> Any:
    """What was answered, without what is of this request alone."""
    assert reply.status_code == 200, reply.text[:300]
    said = reply.json()
    return said["predictions"] if isinstance(said, dict) else said


LABELLING = tuple(path for path in BODIES if path != "/v1/feedback")


@pytest.mark.parametrize("path", LABELLING)
@pytest.mark.parametrize("name", ODD)
def test_odd_text_has_the_same_answer_however_it_is_escaped(path: str, name: str, ask: Ask) -> None:
    escaped = BODIES[path] % json.dumps(ODD[name], ensure_ascii=True)
    plain = BODIES[path] % json.dumps(ODD[name], ensure_ascii=False)
    assert answer_of(ask("POST", path, **raw(escaped))) == answer_of(
        ask("POST", path, **raw(plain.encode()))
    )


@pytest.mark.parametrize("path", LABELLING)
@pytest.mark.parametrize("broken", [b"\\ud800", b"\\udfff", b"\xed\xa0\x80"])
def test_a_lone_surrogate_is_read_as_a_question_mark(path: str, broken: bytes, ask: Ask) -> None:
    read = BODIES[path] % '"vpn ? down"'
    sent = read.encode().replace(b"?", broken)
    assert answer_of(ask("POST", path, **raw(sent))) == answer_of(ask("POST", path, **raw(read)))


def test_a_lone_surrogate_is_stored_as_a_question_mark(ask: Ask, kept: Kept) -> None:
    ask("POST", "/v1/feedback", **raw(BODIES["/v1/feedback"] % '"vpn \\ud800 down"'))
    assert [c.text for c in kept.corrections] == ["vpn ? down"]


@pytest.mark.parametrize("path", LABELLING)
def test_of_two_equal_keys_the_last_one_counts(path: str, ask: Ask) -> None:
    body = BODIES[path]
    twice = (body % '"printer"')[:-1] + ", " + (body % '"vpn"')[1:]
    assert answer_of(ask("POST", path, **raw(twice))) == answer_of(
        ask("POST", path, **raw(body % '"vpn"'))
    )


@pytest.mark.parametrize("path", LABELLING)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_in_another_unicode_encoding_is_read_as_what_it_says(
    path: str, encoding: str, ask: Ask
) -> None:
    body = BODIES[path] % '"vpn is down"'
    assert answer_of(ask("POST", path, **raw(body.encode(encoding)))) == answer_of(
        ask("POST", path, **raw(body))
    )


CONTENTS = (
    None,
    "",
    "text/plain",
    "text/json",
    "application/xml",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=zan",
    "json",
    "/",
    ";;;=",
    "application/json-seq",
)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("content", CONTENTS)
def test_a_body_that_does_not_say_it_is_json_is_refused(
    path: str, content: str | None, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    log_everything(caplog)
    headers = {} if content is None else {"Content-Type": content}
    reply = ask("POST", path, content=BODIES[path] % SAID, headers=headers)
    assert_refused(reply, 422, "invalid")
    assert SECRET not in caplog.text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content",
    ["application/json", "APPLICATION/JSON; charset=utf-8", "application/vnd.tickets+json"],
)
def test_a_body_that_says_it_is_json_is_read(path: str, content: str, ask: Ask) -> None:
    reply = ask("POST", path, content=BODIES[path] % SAID, headers={"Content-Type": content})
    assert reply.status_code == 200


def test_the_longest_text_allowed_is_said_to_be_truncated(ask: Ask) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": ["a" * 50_000 + " a" * 25_000]})
    assert reply.json()["predictions"][0]["truncated"] is True
