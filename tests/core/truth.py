"""What truly happened, seen from outside the ledger: the model that its laws are held against.

Whoever drives a ledger writes down here what it was allowed, what the service did with it, and what the
ledger was told. Nothing is read from the ledger, and nothing of how it keeps its books is repeated: there is
no state, no token and no count here, only what was sent, billed and told, and when.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.client import Reply, WireFailure
from airflow_provider_jdocr.core.errors import Verdict
from airflow_provider_jdocr.core.ledger import Attempt, Claim, Identity, InDoubt, Resend, RunKey
from airflow_provider_jdocr.core.quotas import Limits
from airflow_provider_jdocr.core.replies import Reading, read_failure, read_reply

SETTLES = {Verdict.SUCCESS: "answered", Verdict.SETTLE_FAILED: "failed"}
QUOTA_ENDS = (Verdict.QUOTA_RESET, Verdict.QUOTA_TOPUP)


@dataclass(frozen=True, slots=True)
class Way:
    """How an author lets images be asked for."""

    resend: Resend = "none"
    in_doubt: InDoubt = "resend"


@dataclass(frozen=True, slots=True)
class Deed:
    """What the service does with a call: its reply, or none, and whether the call is on its bill."""

    answer: Reply | WireFailure
    billed: bool
    left: int | None = None
    """What the reply says is left."""


@dataclass(slots=True, eq=False)
class Taken:
    """A claim that the ledger gave. `until`: when its lease ends."""

    claim: Claim
    run: RunKey
    way: Way
    until: float
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Before:
    """How things truly stood when the ledger allowed a send."""

    newest: Taken | None
    holder: Taken | None
    untold: bool
    live: tuple[Send, ...]
    doubtful: tuple[Send, ...]
    settled: str | None
    asked: bool
    decided: bool
    """Whether a person ever decided on it."""

    def wanted_again(self, way: Way) -> bool:
        """Whether an author asks for it again on purpose, and it was not done yet by that task instance."""
        return not self.asked and (
            way.resend == "all" or (way.resend == "failed" and self.settled != "answered")
        )


@dataclass(frozen=True, slots=True)
class QuotaEnd:
    """A quota that had ended when the ledger allowed a send. `of_yesterday`: that was said of a call from
    before the reset. `probing`: somebody was asking already.
    """

    told_at: float
    until_topped_up: bool
    of_yesterday: bool
    probing: bool


@dataclass(slots=True, eq=False)
class Send:
    """A call that the ledger allowed. `told`: what it was told of it, None while it was told nothing."""

    attempt: Attempt
    taken: Taken
    account: Account
    asked_since: float
    began: float
    ends: float
    window: float
    deed: Deed
    before: Before
    quota_end: QuotaEnd | None
    told: Reading | None = None
    told_at: float = 0.0
    decided: bool = False
    """Whether a person has decided on it while it was in doubt."""

    @property
    def identity(self) -> Identity:
        return self.taken.claim.identity

    @property
    def run(self) -> RunKey:
        return self.taken.run

    @property
    def reply(self) -> Reply | None:
        """The reply that came, if one came."""
        return self.deed.answer if isinstance(self.deed.answer, Reply) else None

    @property
    def settles(self) -> str | None:
        return SETTLES.get(self.told.verdict) if self.told else None

    @property
    def free(self) -> bool:
        """Whether the ledger was told that this one cost nothing."""
        return self.told is not None and self.told.charged is False

    @property
    def never_reached(self) -> bool:
        return self.told is not None and self.reply is None and self.free

    def reading(self) -> Reading:
        if isinstance(self.deed.answer, WireFailure):
            return read_failure(self.deed.answer)
        return read_reply(self.account.endpoint, self.deed.answer.status, self.deed.answer.body)

    def live(self, at: float) -> bool:
        return self.told is None and at < self.ends

    def doubtful(self, at: float) -> bool:
        """Maybe charged: its worker said nothing until its lease ended, or said that it does not know."""
        return not self.decided and (at >= self.ends if self.told is None else self.nobody_knows)

    @property
    def nobody_knows(self) -> bool:
        return self.told is not None and self.told.verdict is Verdict.IN_DOUBT

    @property
    def turned_away(self) -> bool:
        """Whether it did not count as asked: for the rate, the quota, the key, or never having arrived."""
        return self.told is not None and not self.settles and not self.nobody_knows


@dataclass(frozen=True, slots=True)
class Decided:
    """A person's decision on an image in doubt: given up, or to be asked for again."""

    identity: Identity
    gave_up: bool


@dataclass(frozen=True, slots=True)
class Adopted:
    """An answer that was taken in place of a call: under which claim, and what the other picture's were."""

    taken: Taken
    bodies: tuple[bytes, ...]
    had: str | None
    """How the picture was settled until then."""


@dataclass(slots=True)
class Truth:
    """All claims and sends, in order. `latest`: the highest that the clock ever stood."""

    latest: float
    taken: list[Taken] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    decisions: list[Decided] = field(default_factory=list)
    adopted: list[Adopted] = field(default_factory=list)

    def of(self, identity: Identity) -> list[Send]:
        return [send for send in self.sends if send.identity == identity]

    def live(self, identity: Identity) -> tuple[Send, ...]:
        return tuple(send for send in self.of(identity) if send.live(self.latest))

    def doubtful(self, identity: Identity) -> tuple[Send, ...]:
        return tuple(send for send in self.of(identity) if send.doubtful(self.latest))

    def settled(self, identity: Identity) -> str | None:
        told = {send.settles for send in self.of(identity)}
        if Decided(identity, gave_up=True) in self.decisions:
            told.add("failed")
        if any(one.taken.claim.identity == identity for one in self.adopted):
            told.add("answered")
        return next((word for word in ("answered", "failed") if word in told), None)

    def newest(self, identity: Identity) -> Taken | None:
        """The claim that the ledger gave last: whoever had one before has lost it."""
        return next((one for one in reversed(self.taken) if one.claim.identity == identity), None)

    def holder(self, identity: Identity) -> Taken | None:
        """Who may send now, if anybody."""
        newest = self.newest(identity)
        gone = newest is None or newest.given_up or newest.until <= self.latest or self.used(newest)
        return None if gone else newest

    def sendable(self) -> list[Taken]:
        """The claims that may be sent under, also where their lease has ended and nobody asked since."""
        return [
            one
            for one in self.taken
            if not one.given_up and not self.used(one) and one is self.newest(one.claim.identity)
        ]

    def untold(self) -> list[Send]:
        return [send for send in self.sends if send.told is None]

    def used(self, taken: Taken) -> bool:
        sent = any(send.taken is taken for send in self.sends)
        return sent or any(one.taken is taken for one in self.adopted)

    def adopt(self, taken: Taken, other: Identity) -> None:
        bodies = self.bodies(other, "answered")
        self.adopted.append(Adopted(taken, tuple(bodies), self.settled(taken.claim.identity)))

    def bodies(self, identity: Identity, settled: str | None) -> list[bytes]:
        """The replies that settled it in this way."""
        return [send.reply.body for send in self.of(identity) if send.settles == settled and send.reply]

    def before(self, identity: Identity, run: RunKey) -> Before:
        return Before(
            newest=self.newest(identity),
            holder=self.holder(identity),
            untold=any(send.told is None for send in self.of(identity)),
            live=self.live(identity),
            doubtful=self.doubtful(identity),
            settled=self.settled(identity),
            asked=any(send.run == run and not send.turned_away for send in self.of(identity)),
            decided=any(decision.identity == identity for decision in self.decisions),
        )

    def decide(self, identity: Identity, *, gave_up: bool) -> None:
        for send in self.of(identity):
            send.decided = send.decided or send.doubtful(self.latest)
        # What is settled is not given up.
        self.decisions.append(Decided(identity, gave_up and self.settled(identity) is None))

    def quota_end(self, account: Account) -> QuotaEnd | None:
        """The last word that the account's quota had ended, unless an answer to a later call came since."""
        told = [send for send in self.sends if send.account is account and send.told]
        ends = [send for send in told if send.told and send.told.verdict in QUOTA_ENDS]
        last = max(ends, key=lambda send: send.told_at, default=None)
        if last is None or any(send.settles and send.began > last.told_at for send in told):
            return None
        probing = any(
            send.account is account and send.began > last.told_at and send.live(self.latest)
            for send in self.sends
        )
        topped_up = last.told is not None and last.told.verdict is Verdict.QUOTA_TOPUP
        of_yesterday = limits(account).next_reset(last.began) < limits(account).next_reset(last.told_at)
        return QuotaEnd(last.told_at, topped_up, of_yesterday, probing)


def send_seconds(account: Account) -> float:
    """The longest that a send may take before nobody waits for it any more, as docs/operations.md says."""
    return 2 * account.connect_timeout_seconds + 4 * account.read_timeout_seconds + 10.0


def limits(account: Account) -> Limits:
    return Limits(account.daily_limit, account.reset_time, account.reset_timezone)
