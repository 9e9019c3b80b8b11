"""The page at / in a real browser: tickets in, answers drawn, corrections out, for everybody.

Skips where there is no Chromium or no playwright: `make setup tools` brings both.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.classifier.predictor import Predictions, Predictor
from serve.errors import NoFeedback, NotStored
from serve.keyring import hash_key
from tests.end_to_end.page_server import Desk, running, wait
from tests.end_to_end.page_visit import SPLIT, Visit, visits

TICKETS = ["vpn is down", "printer error", "my mail account access denied"]
HOSTILE = [
    "<img src=x onerror=\"document.title='harmed'\">",
    "</option></select><script>document.title='harmed'</script>",
    "\u202eצוות הרשת\u2067",
    "W" * 120,
]
Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def right(tiny_bundle: Path) -> Predictions:
    return Predictor(tiny_bundle).predict(TICKETS)


@pytest.fixture(scope="module")
def endpoint(
    make_bundle: Callable[..., Path], right: Predictions, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """Its model is too unsure for one of the tickets, and sure enough for two."""
    line = sum(sorted(right.label_scores.tolist())[:2]) / 2
    folder = tmp_path_factory.mktemp("page") / "bundle"
    with running(make_bundle(folder, abstention_threshold=line), texts=3) as found:
        yield found


@pytest.fixture
def desk(endpoint: Desk) -> Desk:
    endpoint.corrections.clear()
    endpoint.info, endpoint.refusal = {}, None
    return endpoint


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    with visits(browser) as opened:
        yield opened


def test_a_ticket_of_several_lines_is_one_unless_told_otherwise(desk: Desk, visit: Open) -> None:
    found, text = visit(desk), "vpn is down\n\n---\nsince monday"
    assert found.ask(text) == [text]
    assert found.ask(text, SPLIT) == ["vpn is down", "---", "since monday"]
    assert found.ask(f"{text}\n", "tickets with a line") == ["vpn is down", "since monday"]


def test_every_ticket_is_answered_with_the_team_and_the_share_of_the_model(
    desk: Desk, visit: Open, right: Predictions
) -> None:
    found, labels = visit(desk), desk.about.labels
    found.ask("\n".join(TICKETS), SPLIT)
    shares = [f"{score * 100:.1f}%" for score in right.label_scores]
    assert found.answers() == [(labels[k], s) for k, s in zip(right.labels, shares, strict=True)]
    assert found.page.locator("h3").all_inner_texts() == TICKETS
    names = [labels.index(name) for name in found.page.locator(".teams bdi").all_inner_texts()]
    for place, (label, bar) in enumerate(zip(names, found.page.locator(".bar").all(), strict=True)):
        share = bar.locator("i").bounding_box()["width"] / bar.bounding_box()["width"]
        assert share == pytest.approx(right.scores[place // 3, label], abs=0.005)
    assert found.page.locator("#said").inner_text() == "3 tickets: 2 to a team, 1 to a human."


def test_more_tickets_than_the_endpoint_takes_are_not_sent(desk: Desk, visit: Open) -> None:
    found = visit(desk)
    found.write("a\nb\nc\nd", SPLIT)
    found.button("Find the teams of 4 tickets").click()
    assert "4 tickets, and this endpoint takes 3" in found.page.get_by_role("alert").inner_text()
    found.write(" \n ")
    found.button("Find the team").click()
    assert "no ticket yet" in found.page.get_by_role("alert").inner_text()
    assert [url for url in found.asked if "classify" in url] == []


def test_the_abstention_line_stands_where_the_threshold_is_and_says_so(
    desk: Desk, visit: Open, right: Predictions
) -> None:
    found, line = visit(desk), desk.about.abstention_threshold
    found.ask("\n".join(TICKETS), SPLIT)
    assert found.page.locator(".bar").count() == 9
    for bar in found.page.locator(".bar").all():
        box, mark = bar.bounding_box(), bar.locator(".mark").bounding_box()
        assert mark["x"] + 1 == pytest.approx(box["x"] + line * box["width"], abs=1)
    words = found.page.locator(".chosen .line").all_inner_texts()
    assert words == [f"Ask a human below {line * 100:.1f}%"] * 3
    answers = found.page.locator(".tickets > li").all()
    for answer, sure in zip(answers, right.label_scores > line, strict=True):
        assert answer.get_by_text("Ask a human: ").count() == int(not sure)
        assert answer.locator(".role").inner_text() == ("Goes to" if sure else "Best guess")


def test_without_a_threshold_there_is_no_line(desk: Desk, visit: Open) -> None:
    desk.info = {"abstention_threshold": 0.0}
    found = visit(desk)
    found.ask("vpn")
    assert found.page.locator(".bar").count() == 3
    assert found.page.locator(".mark, .line").count() == 0
    assert found.facts()["Asks a human"] == "never"


def test_the_card_has_figures_versions_and_what_was_refused(desk: Desk, visit: Open) -> None:
    metrics = {"rows": 2412, "accuracy": 0.9271, "balanced_accuracy": 0.8893, "macro_f1": 0.8934}
    desk.info = {"metrics": metrics | {"calibration_error": 0.0172, "coverage": 0.941}}
    found = visit(desk)
    said = found.facts()
    assert said | {
        "Name": "tickets", "Teams": "3", "Accuracy": "92.7%", "Balanced accuracy": "88.9%",
        "Macro F1": "0.893", "Calibration error": "0.017", "Coverage": "94.1%",
        "Measured on": "2,412 tickets", "Reads": "16 tokens", "Precision": "float32",
    } == said  # fmt: skip
    found.page.get_by_text("Versions it was made with").click()
    assert re.search(r"torch\n\d", found.page.locator("#versions").inner_text())
    assert not found.page.locator("#news").is_visible()
    desk.info = {"update": {"wanted": "7", "problem": "A label is gone.", "at": 1764100000}}
    news = visit(desk, timezone_id="UTC").page.locator("#news").inner_text()
    assert re.search(r"newer model, 7, was refused on Nov 25, 2025.* A label is gone\.$", news)


def test_the_keyboard_alone_leads_from_a_text_to_a_stored_correction(
    desk: Desk, visit: Open, right: Predictions
) -> None:
    found = visit(desk)
    keys = found.page.keyboard
    keys.type(TICKETS[0])  # the field has the focus when the page opens
    found.tab_to("Find the team")
    keys.press("Enter")
    found.page.locator(".chosen").wait_for()
    found.tab_to("Not the right team?")
    keys.press("Enter")
    said = desk.about.labels[right.labels[0]]
    better = next(name for name in desk.about.labels if name != said)
    assert found.page.locator("select option").all_inner_texts().count(said) == 0
    keys.type(better[:4])  # opening it has put the focus on the list
    found.tab_to("Send the correction")
    keys.press("Enter")
    found.page.locator(".done").wait_for()
    assert (
        found.page.get_by_role("status").inner_text() == f"Stored: this ticket belongs to {better}."
    )
    assert found.page.evaluate("document.activeElement.className") == "done"
    request = found.page.locator(".trace code").inner_text()
    assert desk.corrections == [{"text": TICKETS[0], "label": better, "request_id": request}]


def test_a_correction_needs_a_team_and_goes_out_once(desk: Desk, visit: Open) -> None:
    found = visit(desk)
    found.ask("\n".join(TICKETS[:2]), SPLIT)
    found.button("Not the right team?").first.click()
    found.button("Send the correction").click()
    assert found.page.get_by_text("No team is chosen yet").get_attribute("role") == "alert"
    found.page.keyboard.press("Escape")
    assert not found.page.get_by_label("Right team").is_visible()
    desk.gate.clear()
    found.button("This is right").first.evaluate("b => { b.click(); b.click(); }")
    assert found.button("This is right").first.get_attribute("aria-disabled") == "true"
    wait(lambda: len(desk.corrections) > 0)
    desk.gate.set()
    found.page.locator(".done").wait_for()
    right = [(TICKETS[0], found.answers()[0][0])]
    assert [(sent["text"], sent["label"]) for sent in desk.corrections] == right
    assert found.button("This is right").count() == 1  # the other ticket's


def test_a_correction_that_failed_can_be_sent_again(desk: Desk, visit: Open) -> None:
    found = visit(desk, refusals=[503])
    found.ask("vpn")
    desk.refusal = NotStored("Refused: not_stored.")
    found.button("This is right").click()
    found.page.get_by_text("Refused: not_stored.").wait_for()
    desk.refusal = None
    found.button("This is right").click()
    found.page.locator(".done", has_text="Stored").wait_for()
    assert len(desk.corrections) == 2


def test_where_no_corrections_are_kept_none_is_asked_for(desk: Desk, visit: Open) -> None:
    found = visit(desk, refusals=[404])
    found.ask("\n".join(TICKETS), SPLIT)
    assert found.button("Not the right team?").count() == 3
    desk.refusal = NoFeedback("Refused: no_feedback.")
    found.button("This is right").nth(1).click()
    found.page.locator(".done", has_text="This endpoint keeps no corrections").wait_for()
    assert found.button("Not the right team?").count() == 0
    found.ask("vpn")
    assert found.button("Not the right team?").count() == 0
    desk.info = {"feedback": False}
    told = visit(desk)
    told.ask("vpn")
    assert told.page.locator(".verdict").count() == 0


def test_among_a_thousand_teams_one_is_found_by_a_part_of_its_name(
    make_bundle: Callable[..., Path], tmp_path: Path, visit: Open
) -> None:
    labels = (*(f"team {k:03}" for k in range(999)), "The Printers")
    with running(make_bundle(tmp_path / "many", labels=labels)) as desk:
        found = visit(desk)
        found.ask("vpn")
        found.button("Not the right team?").click()
        assert found.page.locator("select option").count() == 1 + 999  # all but the one shown
        found.page.keyboard.type("rinter")
        assert found.page.get_by_text("1 of 999 teams").get_attribute("aria-live") == "polite"
        found.page.keyboard.press("Enter")  # goes on to the list, and sends nothing
        assert found.page.evaluate("document.activeElement.value") == "The Printers"
        assert desk.corrections == []


def test_labels_and_texts_that_are_markup_stay_text(
    make_bundle: Callable[..., Path], tmp_path: Path, visit: Open
) -> None:
    bundle = make_bundle(tmp_path / "hostile", labels=tuple(HOSTILE), abstention_threshold=0.2)
    with running(bundle) as desk:
        desk.info = {"update": {"wanted": HOSTILE[0], "problem": HOSTILE[1], "at": HOSTILE[0]}}
        found = visit(desk, width=320)
        found.ask("\n".join(HOSTILE), SPLIT)
        found.button("Not the right team?").first.click()
        found.page.get_by_text("All teams by name").click()
        assert found.page.locator("h3").all_text_contents() == HOSTILE
        assert sorted(found.page.locator("#names li").all_text_contents()) == sorted(HOSTILE)
        assert len(found.page.locator(".teams bdi").all_text_contents()) == 12
        assert set(found.page.locator("option").all_text_contents()) < {*HOSTILE, "Choose a team"}
        assert found.page.locator("img, main script").count() == 0
        assert found.too_wide() <= 0
        found.button("This is right").nth(1).click()
        found.page.locator(".done").wait_for()
        assert found.page.title() == "Switchyard: which team takes this ticket?"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_all_text_stands_out_and_fits(width: int, scheme: str, desk: Desk, visit: Open) -> None:
    desk.info = {"update": {"wanted": "7", "problem": "A label is gone.", "at": 1764100000}}
    found = visit(desk, width=width, scheme=scheme)
    assert found.faint() == []  # the placeholder is seen now
    found.ask("\n".join([*TICKETS[:2], "please help " * 20]), SPLIT)
    found.button("Not the right team?").first.click()
    found.button("Send the correction").click()
    found.button("This is right").nth(1).click()
    found.page.locator(".done").wait_for()
    for summary in found.page.locator("summary").all():
        summary.click()
    assert (found.faint(), found.too_wide() <= 0) == ([], True)
    found.page.evaluate("document.documentElement.style.setProperty('--soft', '#808080')")
    assert found.faint() != []  # it is measured, not assumed


def test_every_control_has_a_name(desk: Desk, visit: Open) -> None:
    found = visit(desk)
    found.ask("\n".join(TICKETS), SPLIT)
    found.button("Not the right team?").first.click()
    tree = found.page.locator("body").aria_snapshot()
    controls = re.findall(r"- (?:button|textbox|combobox|radio|searchbox|group|region)\b.*", tree)
    assert len(controls) > 15
    assert [c for c in controls if not re.match(r'- \w+ "[^"]+"', c) and "group:" not in c] == []


def test_nothing_moves_for_those_who_want_it_still(desk: Desk, visit: Open) -> None:
    moves = {}
    for wish in ("no-preference", "reduce"):
        page = visit(desk, reduced_motion=wish).page
        page.evaluate("document.body.classList.add('busy')")
        moves[wish] = page.evaluate("document.getAnimations().length")
    assert moves == {"no-preference": 1, "reduce": 0}


def test_the_page_asks_for_the_key_and_says_whether_it_fits(tiny_bundle: Path, visit: Open) -> None:
    with running(tiny_bundle, keys=(hash_key("sy_right"),)) as desk:
        found = visit(desk, refusals=[401])
        field = found.page.get_by_label("API key")
        field.fill("sy_wrong")
        field.press("Tab")
        found.page.get_by_text("This key is not accepted.").wait_for()
        assert field.get_attribute("aria-invalid") == "true"
        field.fill("sy_right")
        found.ask("vpn")
        assert len(found.answers()) == 1
