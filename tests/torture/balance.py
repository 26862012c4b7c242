"""The balance: what has to hold between bill, ledger, warehouse and manifests after a trial, law by law.

Each law is a pure function from the books to the sentences that say what breaks it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.torture.books import Books

OUTCOMES = ("recognised", "reused", "rejected", "failed", "held", "waiting")


@dataclass(frozen=True, slots=True)
class Violation:
    law: str
    what: str


def violations(books: Books) -> list[Violation]:
    return [Violation(law.__name__, what) for law in LAWS for what in law(books)]


def billed_twice(books: Books) -> dict[str, int]:
    """Images that are on the bill more than once, and how often."""
    counts = Counter(line.sha256 for line in books.billed)
    return {sha256: count for sha256, count in counts.items() if count > 1}


def answers_lost(books: Books) -> list[str]:
    """Replies that reached a process that lived on, and bills, of which the ledger does not know."""
    return [*_replies_not_kept(books), *_bills_not_known(books)]


def no_answer_is_lost(books: Books) -> Iterator[str]:
    yield from answers_lost(books)


def nothing_is_charged_that_is_not_billed(books: Books) -> Iterator[str]:
    on_the_bill = {line.request_id for line in books.billed}
    for attempt in books.sent:
        if attempt.request_id and attempt.charged and attempt.request_id not in on_the_bill:
            yield f"attempt {attempt.id} is charged and its request is not on the bill"
        if attempt.request_id in on_the_bill and attempt.charged is False:
            yield f"attempt {attempt.id} counts as not charged and its request is on the bill"


def under_hold_nothing_is_paid_twice(books: Books) -> Iterator[str]:
    if books.hold:
        for sha256, count in billed_twice(books).items():
            yield f"image {sha256[:12]} is on the bill {count} times"
        for sha256, count in _maybe_charged(books).items():
            if count > 1:
                yield f"image {sha256[:12]} was sent {count} times and each may have been charged"


def what_is_paid_twice_was_in_doubt_and_once_only(books: Books) -> Iterator[str]:
    for sha256, count in billed_twice(books).items():
        doubtful = sum(attempt.doubtful for attempt in books.attempts(sha256))
        if count > 1 + doubtful:
            yield f"image {sha256[:12]} is on the bill {count} times and was {doubtful} times in doubt"
    for sha256, count in _maybe_charged(books).items():
        if count > 2:
            yield f"image {sha256[:12]} was sent {count} times and each may have been charged"


def a_doubt_has_a_cause(books: Books) -> Iterator[str]:
    """In doubt is what was in flight at a kill, broke on the wire, or had a reply that does not say."""
    owner = {attempt: process for process in books.processes for attempt in process.begun}
    for attempt in books.sent:
        if not attempt.doubtful:
            continue
        process = owner.get(attempt.id)
        if process is None:
            if not any(each.run == attempt.run and each.end == "killed" for each in books.processes):
                yield f"attempt {attempt.id} is {attempt.state}, and nobody who was killed can have sent it"
        elif process.end != "killed" and process.settled.get(attempt.id) != "in_doubt":
            yield f"attempt {attempt.id} is {attempt.state} by process {process.number}, which was not killed"


def a_kill_leaves_at_most_max_in_flight_in_doubt(books: Books) -> Iterator[str]:
    for number, count in books.in_doubt_at_kill().items():
        if count > books.max_in_flight:
            yield f"process {number} left {count} calls in doubt, with max_in_flight {books.max_in_flight}"


def an_answer_settles_once(books: Books) -> Iterator[str]:
    """A second settling answer is one to a call that was sent because the first was in doubt at that time."""
    attempts = {attempt.id: attempt for attempt in books.sent}
    for row in books.known:
        answer = attempts.get(row.answer_id or "")
        if row.settled and (answer is None or answer.sha256 != row.sha256 or not answer.settling):
            yield f"image {row.sha256[:12]} is {row.settled} by an attempt that does not settle it"
        if not row.settled and any(attempt.settling for attempt in books.attempts(row.sha256)):
            yield f"image {row.sha256[:12]} has a settling answer and is not settled"


def nothing_is_left_under_way(books: Books) -> Iterator[str]:
    """What waits may be claimed by somebody who was killed; so may a file that is another one by now."""
    last = books.last_of_each_run().values()
    if any(process.manifest is None or process.manifest["waiting"] for process in last):
        return
    noted = {row.sha256 for row in books.noted}
    for row in books.known:
        if row.state == "claimed" and row.sha256 in noted:
            yield f"image {row.sha256[:12]} is still claimed after the end"


def manifests_add_up(books: Books) -> Iterator[str]:
    for process in books.processes:
        manifest = process.manifest
        if manifest is None:
            continue
        if sum(manifest[name] for name in OUTCOMES) != manifest["inputs"]:
            yield f"process {process.number}: the outcomes do not add up to {manifest['inputs']}"
        if manifest["inputs"] != books.inputs:
            yield f"process {process.number}: {manifest['inputs']} inputs of {books.inputs}"
        if manifest["waiting"] and not manifest["stop"]:
            yield f"process {process.number}: {manifest['waiting']} wait and nobody says why"


def the_last_manifest_is_what_the_ledger_says(books: Books) -> Iterator[str]:
    for process in books.last_of_each_run().values():
        if process.manifest is None:
            last = f"process {process.number} {process.end} {process.said}"
            yield f"run {process.run[:12]} came to no end: {last}"
            continue
        rows = Counter(row.outcome for row in books.noted if row.run == process.run)
        if sum(rows.values()) != books.inputs:
            yield f"run {process.run[:12]}: {sum(rows.values())} outcomes for {books.inputs} inputs"
        # An input that only waits now may have been known to an earlier try, whose word stands.
        waiting = process.manifest["waiting"]
        for name in OUTCOMES[:-1]:
            if not 0 <= rows[name] - process.manifest[name] <= waiting:
                said = f"{process.manifest[name]} {name}, and {rows[name]} in the ledger"
                yield f"run {process.run[:12]}: {said}"


def the_last_manifest_counts_the_calls(books: Books) -> Iterator[str]:
    for process in books.last_of_each_run().values():
        if process.manifest is None:
            continue
        own = [each for each in books.sent if each.run == process.run and each.state != "never_reached"]
        counts = {
            "calls": len(own),
            "charged": sum(each.charged is True for each in own),
            "charged_unknown": sum(each.charged is None for each in own),
        }
        for name, count in counts.items():
            if process.manifest[name] != count:
                yield f"run {process.run[:12]}: {process.manifest[name]} {name}, and {count} in the ledger"


def no_task_makes_more_calls_than_it_may(books: Books) -> Iterator[str]:
    counts = Counter(attempt.run for attempt in books.sent if attempt.state != "never_reached")
    for run, count in counts.items():
        if books.max_calls is not None and count > books.max_calls:
            yield f"run {run[:12]} made {count} calls, with max_calls {books.max_calls}"


def the_service_saw_what_the_ledger_sent(books: Books) -> Iterator[str]:
    reached = [attempt for attempt in books.sent if attempt.state != "never_reached"]
    unsure = sum(attempt.doubtful for attempt in reached)
    if not len(reached) - unsure <= books.calls <= len(reached):
        yield f"the service counted {books.calls} calls, the ledger {len(reached)}, {unsure} of them in doubt"


def outcomes_agree_with_the_recognitions(books: Books) -> Iterator[str]:
    known = {row.sha256: row for row in books.known}
    for row in books.noted:
        recognition = known.get(row.sha256 or "")
        settled = recognition.settled if recognition else None
        if row.outcome in ("recognised", "reused") and settled != "answered":
            yield f"{row.uri} is {row.outcome}, and its image is {settled}"
        if row.outcome == "held" and (recognition is None or recognition.state not in ("in_doubt", "idle")):
            yield f"{row.uri} is held, and its image is {recognition and recognition.state}"


def recognised_is_what_this_run_asked_for(books: Books) -> Iterator[str]:
    """And reused what another one did: together they are the settled rows."""
    attempts = {attempt.id: attempt for attempt in books.sent}
    answers = {row.sha256: attempts.get(row.answer_id or "") for row in books.known if row.answer_id}
    last = {process.run for process in books.last_of_each_run().values() if process.manifest}
    for row in books.noted:
        answer = answers.get(row.sha256 or "")
        if answer is None or row.run not in last or row.outcome not in ("recognised", "reused"):
            continue
        if (answer.run == row.run) != (row.outcome == "recognised"):
            yield f"{row.uri} is {row.outcome}, and was asked for by {answer.run[:12]}"


def the_warehouse_holds_what_is_answered(books: Books) -> Iterator[str]:
    """Every settled image that a task was asked for; none that the ledger does not know."""
    rows = Counter(row.sha256 for row in books.stored)
    settled = {row.sha256: row.answer_id for row in books.known if row.settled}
    noted = {row.sha256 for row in books.noted if row.outcome in ("recognised", "reused", "failed")}
    for sha256 in noted & settled.keys() - rows.keys():
        yield f"image {str(sha256)[:12]} is answered and not in the warehouse"
    for row in books.stored:
        if row.sha256 not in settled:
            yield f"image {row.sha256[:12]} is in the warehouse and not settled"
        elif settled[row.sha256] != row.answer_id:
            yield f"image {row.sha256[:12]} is in the warehouse with another answer than the ledger's"
    for sha256, count in rows.items():
        if count > 1:
            yield f"image {sha256[:12]} is in the warehouse {count} times"


def a_second_load_changes_nothing(books: Books) -> Iterator[str]:
    if books.reloaded or books.reload_changed:
        yield f"loading once more wrote {books.reloaded} documents"


def every_process_ends_as_declared(books: Books) -> Iterator[str]:
    for process in books.processes:
        if process.end in ("undeclared", "hung"):
            yield f"process {process.number} {process.end}: {process.said}"


LAWS: tuple[Callable[[Books], Iterator[str]], ...] = (
    no_answer_is_lost,
    nothing_is_charged_that_is_not_billed,
    under_hold_nothing_is_paid_twice,
    what_is_paid_twice_was_in_doubt_and_once_only,
    a_doubt_has_a_cause,
    a_kill_leaves_at_most_max_in_flight_in_doubt,
    an_answer_settles_once,
    nothing_is_left_under_way,
    manifests_add_up,
    the_last_manifest_is_what_the_ledger_says,
    the_last_manifest_counts_the_calls,
    no_task_makes_more_calls_than_it_may,
    the_service_saw_what_the_ledger_sent,
    outcomes_agree_with_the_recognitions,
    recognised_is_what_this_run_asked_for,
    the_warehouse_holds_what_is_answered,
    a_second_load_changes_nothing,
    every_process_ends_as_declared,
)


def _replies_not_kept(books: Books) -> Iterator[str]:
    kept = {attempt.id: attempt.body for attempt in books.sent}
    for process in books.processes:
        for attempt, body in process.replies.items():
            if (process.end != "killed" or attempt in process.settled) and kept.get(attempt) != body:
                yield f"process {process.number} had the reply to {attempt} in hand; the ledger has not"


def _bills_not_known(books: Books) -> Iterator[str]:
    """Every bill has its answer in the ledger, by the request's id, or a call of its own that is in doubt."""
    answered = {attempt.request_id for attempt in books.sent if attempt.request_id}
    for sha256, bills in _bills_by_image(books).items():
        unmatched = [request for request in bills if request not in answered]
        unsure = [each for each in books.attempts(sha256) if each.maybe_charged and not each.request_id]
        if len(unmatched) > len(unsure):
            said = f"{len(unmatched)} bills without answer, {len(unsure)} calls may be theirs"
            yield f"image {sha256[:12]}: {said}"


def _bills_by_image(books: Books) -> dict[str, list[str]]:
    bills: dict[str, list[str]] = {}
    for line in books.billed:
        bills.setdefault(line.sha256, []).append(line.request_id)
    return bills


def _maybe_charged(books: Books) -> Counter[str]:
    return Counter(attempt.sha256 for attempt in books.sent if attempt.maybe_charged)
