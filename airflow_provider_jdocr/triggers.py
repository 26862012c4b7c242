"""Waits for a quota, and only waits: a trigger restarts with its triggerer, and a call would be paid
twice.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class JdOcrQuotaTrigger(BaseTrigger):
    """Fires at `moment`. The task that it wakes asks the ledger again: the trigger decides nothing.

    :param moment: seconds since the epoch.
    :param since: when the task began to wait, seconds since the epoch; handed back in the event, because a
        task keeps nothing of its own while it is deferred.
    """

    def __init__(self, moment: float, since: float) -> None:
        super().__init__()
        self.moment = moment
        self.since = since

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "moment": self.moment,
            "since": self.since,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # The wall clock is read again after each sleep: a machine that was suspended wakes up late, not
        # early.
        while (left := self.moment - time.time()) > 0:
            await asyncio.sleep(min(left, 60.0))
        yield TriggerEvent({"since": self.since})
