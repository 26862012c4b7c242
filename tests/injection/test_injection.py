"""Mistakes that OCR makes are seen, and what is right is let through; the full size is `make injection`."""

import pytest

from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.parsing import InvoiceKind, parse, read_text
from tests.injection.invoices import KINDS, draw, reply
from tests.injection.run import GOALS, WAYS, Tally, run, table

SHORT = 90


@pytest.fixture(scope="module")
def tally() -> Tally:
    short = Tally()
    for seed in range(SHORT):
        run(seed, short)
    return short


def test_every_goal_is_reached(tally: Tally) -> None:
    assert not tally.short_of(), table(tally)
    assert all(tally.goals[name].of > SHORT for name, (wanted, _) in GOALS.items() if wanted is not None)


def test_every_kind_is_drawn_and_every_mistake_is_made_in_every_way(tally: Tally) -> None:
    assert set(tally.invoices) == set(KINDS) == set(InvoiceKind) - {InvoiceKind.OTHER}
    assert {way for _, _, way in tally.cells} == set(WAYS)
    assert {mistake for mistake, _, _ in tally.cells} == {
        *("character changed", "two swapped", "look-alike", "one dropped", "point lost", "another day"),
        *("amount and tax swapped", "number split", "tail as code"),
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_is_drawn_is_read_as_it_is_printed(endpoint: str) -> None:
    """Or the mistakes would be seen for another reason than that they are mistakes."""
    for seed in range(SHORT):
        printed = draw(seed)
        invoice = parse(ENDPOINTS[endpoint], reply(endpoint, printed))
        assert invoice.problems == ()
        assert invoice.kind in (printed.kind, InvoiceKind.COMMON_ELECTRONIC)
        for name in ("code", "number", "issue_date", "check_code", "amount", "total", "seller_tax_id"):
            assert getattr(invoice, name) == read_text(name, printed.fields.get(name, ""))


def test_the_same_number_draws_the_same_invoice() -> None:
    assert draw(7) == draw(7) != draw(16)
