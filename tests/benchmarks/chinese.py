"""The tables of ``docs/performance.md`` in Chinese: the same figures, other words.

A word that nobody translated fails a test: see `left_in_english`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.benchmarks import tables

# Applied one after the other, so that what contains another comes first. Those with letters at an end stand
# alone: no word is changed inside another.
_SAID: Sequence[tuple[str, str]] = (
    # sentences below a table
    (
        r"The service reads (.+?) of the best raw one's pictures a second\.",
        r"服务每秒读的张数是最快的裸 rapidocr 的 \1。",
    ),
    (r"Its memory: (.*)\.$", r"它占的内存：\1。"),
    (r"(\d+) MB after (\d+)", r"\2 张之后 \1 MB"),
    (
        r"(\d+) deferred sensors in a triggerer, watched for (\d+) s: ",
        r"一个 triggerer 里 \1 个挂起的传感器，观察 \2 秒：",
    ),
    (r"([\d.]+) ms of CPU a minute and ([\d.]+) MB with them, ", r"有它们时每分钟 \1 ms CPU、\2 MB 内存，"),
    (r"([\d.]+) ms and ([\d.]+) MB without; (\d+) calls\.", r"没有时 \1 ms、\2 MB；调用 \3 次。"),
    (r"Milliseconds by part:", "各部分的毫秒数："),
    (r"A growing warehouse, documents a second:", "不断增长的仓库，每秒文档数："),
    # headings
    (r"share / lost / over-limit per answer", "占比 / 丢失 / 每个应答的超限次数"),
    (r"CPU ms a picture: scheduler and tasks", "每张 CPU 毫秒：调度器与任务"),
    (r"CPU ms a picture", "每张 CPU 毫秒"),
    (r"a connection and SELECT 1: ms", "一次连接加 SELECT 1：ms"),
    (r"of rapidocr as it comes", "相对原样 rapidocr"),
    (r"yuan, at JD's packs", "元，按京东套餐"),
    (r"at 1000 calls a day", "每天 1000 次"),
    (r"at (\d+) QPS", r"\1 QPS"),
    (r"a re-run over all", "全部重跑一遍"),
    (r"images in the ledger", "账本里的图片"),
    (r"parse and check", "解析与校验"),
    (r"held for a person", "留给人决定"),
    (r"documents a second", "每秒文档"),
    (r"pictures a second", "每秒图片"),
    (r"rows a second", "每秒行数"),
    (r"of the bare POST", "相对裸 POST"),
    (r"of insertmanyvalues", "相对 insertmanyvalues"),
    (r"of executemany", "相对 executemany"),
    (r"of COPY and merge", "相对 COPY 再合并"),
    (r"CPU a picture", "每张 CPU"),
    (r"Size of the ledger", "账本大小"),
    (r"last of first", "末步比首步"),
    (r"pictures read", "读图"),
    (r"billed twice", "重复计费"),
    (r"above nothing", "高出空转"),
    (r"slowest step", "最慢一步"),
    (r"first step", "第一步"),
    (r"last step", "最后一步"),
    (r"API server", "API 服务器"),
    (r"in flight", "同时在途"),
    (r"of ours", "相对我们"),
    (r"of both", "相对两者之和"),
    (r"its size", "账本大小"),
    (r"an image", "每张"),
    (r"([\d_]+) images", r"\1 张"),
    (r"a poke", "一次询问"),
    # cases
    (r"ours, one task, QR codes looked for", "我们，一个任务，并找二维码"),
    (r"ours, ledger in ", "我们，账本在 "),
    (r"ours, one task", "我们，一个任务"),
    (r"ours, in_doubt=hold", "我们，in_doubt=hold"),
    (r"one mapped task a picture", "每张图一个映射任务"),
    (r"a task that does nothing", "什么也不做的任务"),
    (r"HttpOperator, mapped", "HttpOperator，映射"),
    (r"bare POST, one Session", "裸 POST，一个 Session"),
    (r"bare POST, no Session", "裸 POST，不用 Session"),
    (r"loop by hand, one Session", "手写循环，一个 Session"),
    (r"loop, one commit a picture", "循环，每张提交一次"),
    (r"loop, results at the end", "循环，最后才存结果"),
    (r"pool, results at the end", "线程池，最后才存结果"),
    (r"asyncio, results at the end", "asyncio，最后才存结果"),
    (r"loop, Session", "循环，Session"),
    (r"loop, requests\.post", "循环，requests.post"),
    (r"pool of 8, no limiter", "8 线程池，不限速"),
    (r"pool of 8, tenacity", "8 线程池，tenacity"),
    (r"answers, ours", "应答，我们"),
    (r"documents, ours", "文档，我们"),
    (r"COPY and merge", "COPY 再合并"),
    (r"DAG file, three tasks of amazon", "DAG 文件，amazon 的三个任务"),
    (r"DAG file, ", "DAG 文件，"),
    (r"get_provider_info, ours", "get_provider_info，我们"),
    (r"get_provider_info, amazon", "get_provider_info，amazon"),
    (r"A re-run", "重跑一遍"),
    (r"re-run", "重跑"),
    (r"look-up", "查找"),
    # single words
    (r"sliding", "滑动窗口"),
    (r"fixed", "固定窗口"),
    (r"token", "令牌桶"),
    (r"strict", "严格等距"),
    (r"window", "计数方式"),
    (r"jitter", "抖动"),
    (r"service", "服务"),
    (r"pictures", "图片"),
    (r"picture", "图片"),
    (r"listing", "列举"),
    (r"storage", "存储"),
    (r"ledger", "账本"),
    (r"database", "数据库"),
    (r"documents", "文档"),
    (r"queries", "查询"),
    (r"allowed", "允许"),
    (r"billed", "计费"),
    (r"images", "图片"),
    (r"nothing", "空转"),
    (r"success", "成功"),
    (r"failed", "失败"),
    (r"tasks", "任务"),
    (r"minutes", "分钟"),
    (r"calls", "调用"),
    (r"ours", "我们"),
    (r"rest", "其余"),
    (r"peak", "峰值"),
    (r"days", "天"),
    (r"what", "内容"),
    (r"any", "不限"),
    (r"of", "大小"),
    (r", ", "，"),
)
_AS_THEY_ARE = re.compile(
    r"`[^`]*`|\b(?:rapidocr(?: x\d)?|requests\.post|Session|POST|asyncio|aiolimiter|sleep|tenacity"
    r"|insertmanyvalues|executemany|COPY|SELECT|amazon|triggerer|preflight|http|get_provider_info|in_doubt=hold"
    r"|HttpOperator|DAG|CPU|QPS|API|MB|KB|GB|ms|s|µs|PostgreSQL|SQLite|MariaDB|postgresql|sqlite|mysql|backfill_historical_scans"
    r"|invoices_to_warehouse|review_doubtful_invoices|M|k|B)\b"
)


def table(name: str) -> str:
    """What the Chinese page says of a benchmark. Its origin, commands and versions, stays as it is."""
    said = tables.table(name)
    if said == tables.NOT_MEASURED:
        return "还没有测量。\n"
    body, end, origin = said.rpartition("\n\n")
    return f"{_chinese(body)}{end}{origin}".replace("[Raw rows]", "[原始数据行]")


def _chinese(said: str) -> str:
    return "\n".join(line if line.startswith("![") else _line(line) for line in said.split("\n"))


def _line(line: str) -> str:
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\x00{len(kept) - 1}\x00"

    # What is in parentheses is a call or a pack, whose comma is no comma of the sentence.
    line = re.sub(r"\([^)]*\)", keep, line)
    for english, chinese in _SAID:
        before = r"(?<![A-Za-z_])" if english[0].isalpha() else ""
        after = r"(?![A-Za-z_])" if english[-1].isalpha() else ""
        line = re.sub(f"{before}{english}{after}", chinese, line)
    return re.sub("\x00(\\d+)\x00", lambda found: kept[int(found[1])], line)


def left_in_english(name: str) -> list[str]:
    """The words of a table that are neither translated nor the name of something."""
    if (said := table(name)).startswith("还没有"):
        return []
    body = "\n".join(line for line in said.rpartition("\n\n")[0].split("\n") if not line.startswith("!["))
    return re.findall("[A-Za-z]{2,}", _AS_THEY_ARE.sub("", re.sub(r"\([^)]*\)", "", body)))
