"""What people write today to have pictures read, as they write it: a loop, a pool, a pool with retries,
asyncio.

All of it signs as ours does, keeps its connections, and asks for the code inside the answer; what is not in
it is what is not in such code: a ledger, a shared rate, a table of codes. None is made worse than its
author would make it. The service counts what it was sent; here only the pictures without an answer are
counted.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import aiohttp
import requests
from aiolimiter import AsyncLimiter
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from airflow_provider_jdocr.core import signing
from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.client import Jdcloud2Auth

TIMEOUT_SECONDS = 30
THREADS = 8
TRIES = 5
AT_ONCE = 64
Post = Callable[[bytes], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Errand:
    """Pictures by number, in order, until the time is over. `qps` is what the author was told."""

    account: Account
    pictures: int
    seconds: float
    qps: float
    read: Callable[[int], bytes]

    def numbers(self) -> Iterator[int]:
        ends = time.monotonic() + self.seconds
        for number in range(self.pictures):
            if time.monotonic() >= ends:
                return
            yield number


@dataclass(frozen=True, slots=True)
class Done:
    """`good` of the `tried` pictures have an answer; the others are lost to whoever wrote this."""

    tried: int
    good: int


def poster(account: Account, *, session: bool) -> Post:
    """Posts a picture, signed anew, and gives the answer's JSON."""
    post = requests.Session().post if session else requests.post
    auth, headers = _auth(account), {"Content-Type": account.endpoint.content_type}

    def posted(picture: bytes) -> Mapping[str, Any]:
        answer = post(
            account.url,
            data=picture,
            headers=headers,
            auth=auth,
            timeout=TIMEOUT_SECONDS,
            verify=account.ca_bundle or True,
        )
        said: Mapping[str, Any] = answer.json()
        return said

    return posted


def is_good(said: Mapping[str, Any]) -> bool:
    return said.get("code") == "10000" and str(said["result"]["code"]) == "0"


def loop(errand: Errand, *, session: bool = True, pause: bool = False) -> Done:
    post = poster(errand.account, session=session)
    tried = good = 0
    for number in errand.numbers():
        tried, good = tried + 1, good + is_good(post(errand.read(number)))
        if pause:
            time.sleep(1 / errand.qps)
    return Done(tried, good)


def loop_without_session(errand: Errand) -> Done:
    return loop(errand, session=False)


def loop_with_pause(errand: Errand) -> Done:
    return loop(errand, pause=True)


def pool(errand: Errand) -> Done:
    """Eight threads, a Session each, no limiter."""
    own = threading.local()

    def one(number: int) -> bool:
        if not hasattr(own, "post"):
            own.post = poster(errand.account, session=True)
        return is_good(own.post(errand.read(number)))

    return _pooled(errand, one)


def pool_with_retries(errand: Errand) -> Done:
    """The same with tenacity: five tries, random exponential pauses."""
    own = threading.local()

    def attempt(picture: bytes) -> None:
        if not is_good(own.post(picture)):
            raise _TurnedAwayError

    def one(number: int) -> bool:
        if not hasattr(own, "post"):
            own.post = poster(errand.account, session=True)
        again = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(max=10),
            retry=retry_if_exception_type(_TurnedAwayError),
        )
        try:
            again(attempt, errand.read(number))
        except RetryError:
            return False
        return True

    return _pooled(errand, one)


class _TurnedAwayError(Exception):
    pass


def _pooled(errand: Errand, one: Callable[[int], bool]) -> Done:
    free = threading.Semaphore(2 * THREADS)  # the queue of a pool has no end, and time has

    def freed(number: int) -> bool:
        try:
            return one(number)
        finally:
            free.release()

    with ThreadPoolExecutor(THREADS) as workers:
        begun = []
        for number in errand.numbers():
            free.acquire()
            begun.append(workers.submit(freed, number))
    return Done(len(begun), sum(each.result() for each in begun))


def asyncio_bursting(errand: Errand) -> Done:
    """aiolimiter as its documentation begins: as many as are allowed, in each second."""
    return asyncio.run(_asynchronously(errand, AsyncLimiter(errand.qps, 1)))


def asyncio_even(errand: Errand) -> Done:
    """aiolimiter with one call at a time, evenly."""
    return asyncio.run(_asynchronously(errand, AsyncLimiter(1, 1 / errand.qps)))


async def _asynchronously(errand: Errand, limiter: AsyncLimiter) -> Done:
    free = asyncio.Semaphore(AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def one(number: int) -> bool:
            try:
                async with limiter:
                    prepared = _prepared(errand.account, errand.read(number))
                    headers = {str(name): str(value) for name, value in prepared.headers.items()}
                    url = str(prepared.url)
                    async with session.post(url, data=prepared.body, headers=headers) as answer:
                        return is_good(await answer.json())
            finally:
                free.release()

        begun = []
        for number in errand.numbers():
            await free.acquire()
            begun.append(asyncio.create_task(one(number)))
        return Done(len(begun), sum(await asyncio.gather(*begun)))


def _prepared(account: Account, picture: bytes) -> requests.PreparedRequest:
    headers = {"Content-Type": account.endpoint.content_type}
    request = requests.Request("POST", account.url, headers=headers, data=picture, auth=_auth(account))
    return request.prepare()


def _auth(account: Account) -> Jdcloud2Auth:
    scope = (account.region, account.signing_service, account.security_token)
    credentials = signing.Credentials(account.access_key, account.secret_key, *scope)
    return Jdcloud2Auth(credentials, time.time, lambda: f"{time.time_ns():x}-{threading.get_ident():x}")


WAYS: Mapping[str, Callable[[Errand], Done]] = {
    "loop, requests.post": loop_without_session,
    "loop, Session": loop,
    "loop, Session, sleep(1/Q)": loop_with_pause,
    f"pool of {THREADS}, no limiter": pool,
    f"pool of {THREADS}, tenacity": pool_with_retries,
    "asyncio, aiolimiter(Q, 1)": asyncio_bursting,
    "asyncio, aiolimiter(1, 1/Q)": asyncio_even,
}
