"""What every report keeps to: a label that is markup stays text, nothing comes from a network."""

import pytest

from tests.unit.reporting import HOSTILE, MANIFEST, Page, data, evaluation, profiled, uncertain

PAGES = {
    "evaluation": evaluation(),
    "uncertain": evaluation(uncertain()),
    "data": data(),
    "profile": data(profiled(MANIFEST)),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_label_that_is_markup_stays_text(page: Page) -> None:
    assert "alert('x')</script>" not in page.html
    assert not any(script.startswith("alert") for script in page.scripts)
    assert all(tag != "b" or not attributes for tag, attributes in page.tags)
    assert "Desk &lt;b&gt;" in page.html
    assert any(row[0] == HOSTILE for table in page.tables for row in table)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_report_loads_nothing_from_a_network(page: Page) -> None:
    assert "http://" not in page.html
    assert "https://" not in page.html
    assert "@import" not in page.html
    loaded = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href", "srcset", "data", "action", "poster")
        if name in attributes
    ]
    assert loaded == ["data:,"]
