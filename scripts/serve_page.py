"""docs/serving.md, made from docs/serving.json."""

from __future__ import annotations

from typing import Any

_PAGE = """# Serving

Written by `{command}` from [serving.json](serving.json) on {date}: {machine}.

{versions}.

`emojax serve` with its default knobs but `--timeout=5`; {model}, one a request. The client shares the cores with the
server. Time counts from the moment at which a request was due. The server was warm {ready:g} s after the command. No
request asked for a map of evidence (`explain=true`): maps are made one picture at a time, and a batch gets none.

**Stated limit on this machine: {limit} requests/s**, 70 % of the highest rate tried at which every request was answered
and 99 % within {bar:g} ms. Above it the queue fills; what does not fit gets 429 with Retry-After. A body must be there
whole within `--timeout` seconds, however it comes, or gets 408.

A picture of more pixels than `--max-megapixels` and a body of more than `--max-mib` get 413, more pictures than
`--max-pictures` 422, each with the limit, which `/info` tells too. To a client that asks first (`Expect: 100-continue`)
a refusal comes before it sends anything; of one that sends all the same, up to 256 MiB are read and dropped for a few
seconds, so that it meets the answer and not a closed connection.

{rates}

Memory of the server process in MiB: {memory}. From before to after the load at the limit: {growth:+.1f} MiB.

## Hostile uploads

{uploads} requests that no server should answer with a class (`tests/hostile_uploads.py`), one after the other.

- Answered with anything but 4xx: {wrong}.
- The server {crashed}; of the requests right afterwards {errors} failed.
- SIGTERM at the end: exit code {code}.

{kinds}
"""


def page(found: dict[str, Any]) -> str:
    """The page of what was measured."""
    memory, machine, hostile = found["memory_mib"], found["machine"], found["hostile"]
    return _PAGE.format(
        command=found["command"],
        date=found["date"],
        machine=f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, load "
        f"{machine['load_before']:g} before it began",
        versions=", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        model=found["model"],
        ready=found["ready_seconds"],
        limit=found["limit"],
        bar=found["bar_ms"],
        rates=_rates(found),
        memory=", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in memory.items()),
        growth=memory["after_load"] - memory["before_load"],
        uploads=hostile["uploads"],
        wrong="; ".join(f"{name} ({status})" for name, status in hostile["not_4xx"]) or "none",
        crashed="crashed" if hostile["crashed"] else "did not crash",
        errors=hostile["errors_afterwards"],
        code=found["exit_code_after_sigterm"],
        kinds=_kinds(hostile["statuses"]),
    )


def _rates(found: dict[str, Any]) -> str:
    rows = [*(("search", one) for one in found["steps"]), ("**the stated limit, held**", found["held"])]
    rows += [("overload", found["overload"]), ("the limit again, after the hostile uploads", found["again"])]
    lines = [
        "| what | due/s | seconds | requests | answered | not answered | p50 ms | p95 ms | p99 ms |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for what, one in rows:
        others = [
            f"{count:,} x {'no answer' if status == '0' else status}"
            for status, count in one["statuses"].items()
            if status != "200"
        ]
        answered = one["statuses"].get("200", 0)
        lines.append(
            f"| {what} | {one['rate']:g} | {one['seconds']:g} | {one['requests']:,} | {answered:,} "
            f"| {', '.join(others) or 'none'} | {one['p50_ms']:g} | {one['p95_ms']:g} | {one['p99_ms']:g} |"
        )
    return "\n".join(lines)


def _kinds(statuses: dict[str, dict[str, int]]) -> str:
    lines = ["| kind | uploads | answers |", "| --- | ---: | --- |"]
    for kind, counts in statuses.items():
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
        lines.append(f"| {kind} | {sum(counts.values())} | {answers} |")
    return "\n".join(lines)
