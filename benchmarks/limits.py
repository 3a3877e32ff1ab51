"""Requests a second achieved of those that a server admits, over real HTTP, and what the gate costs a call.

The server admits R requests a second and answers 429 with `retry-after: 1` beyond. "whole" holds all of the settling,
at the start or after R has changed; "settled" is the time from 3 s after that on.
"""

import os
import sys
import threading
import time
from pathlib import Path

STEADY_S = 20.0
BEFORE_S, AFTER_S = 8.0, 15.0  # a change of R
SETTLING_S = 3.0
WORKERS = 64


def ask_for(server, workers: int, change=None) -> dict[str, object]:
    """Ask with all workers until the time is over; the facts of the limiter, with the number of failed calls."""
    from mmlu_pipe.endpoint.connect import ModelOptions, connect
    from mmlu_pipe.endpoint.session import LineSession
    from mmlu_pipe.errors import MmluPipeError, RunCancelled
    from mmlu_pipe.records import Endpoint

    os.environ.setdefault("AZURE_OPENAI_API_KEY", "benchmark")
    failed = 0
    with connect(Endpoint(server.endpoint, "dep", "gpt-4o", "2024-10-21"), ModelOptions(workers=workers)) as connection:
        client = connection.client
        assert client is not None
        over = threading.Event()

        def work(worker: int) -> None:
            nonlocal failed
            session = LineSession(worker)
            while not over.is_set():
                try:
                    client.ask([{"role": "user", "content": f"{worker} {time.monotonic()}"}], session)
                except RunCancelled:
                    return
                except MmluPipeError:
                    failed += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
        server.started = time.monotonic()
        for thread in threads:
            thread.start()
        if change is None:
            time.sleep(STEADY_S)
        else:
            time.sleep(BEFORE_S)
            server.rule.rate = change
            time.sleep(AFTER_S)
        over.set()
        client.stop()
        for thread in threads:
            thread.join()
        return {"failed": failed, **client.limiter.facts}


def _load() -> str:
    return f"load {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else "load unknown"


def gate() -> float:
    """Microseconds that a slot costs where nobody waits."""
    from mmlu_pipe.endpoint.limiter import Limiter

    limiter, body, rounds = Limiter(8), {"messages": []}, 20_000
    started = time.perf_counter()
    for _ in range(rounds):
        limiter.release(limiter.acquire(body), 200, {})
    return (time.perf_counter() - started) / rounds * 1e6


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.servers.rate_limited import FixedWindow, RateLimitedServer, SlidingWindow, TokenBucket

    print(f"limits: share of what the server admits, {WORKERS} workers, answers after 20 ms; {_load()}")
    rules = (("token bucket", lambda r: TokenBucket(r, 0.2)), ("fixed window", FixedWindow), ("sliding", SlidingWindow))
    for name, rule in rules:
        for rate, change in ((10, None), (50, None), (200, None), (50, 200), (200, 50)):
            with RateLimitedServer(rule(rate), latency=0.02) as server:
                facts = ask_for(server, WORKERS, change)
            start, end = (0.0, STEADY_S) if change is None else (BEFORE_S, BEFORE_S + AFTER_S)

            def share(begin, end=end, now=change or rate, server=server):
                return sum(begin <= moment < end for moment in server.admitted) / (now * (end - begin))

            refused = sum(moment >= start + SETTLING_S for moment in server.refused)
            asked = refused + sum(moment >= start + SETTLING_S for moment in server.admitted)
            shown = f"{rate}" if change is None else f"{rate} then {change}"
            print(
                f"  {name:<13} R = {shown:<12} whole {share(start):6.1%}   settled {share(start + SETTLING_S):6.1%}   "
                f"refused when settled {refused / max(1, asked):5.1%}   failed {facts['failed']}   {_load()}",
                flush=True,
            )
    print(f"  the gate, uncontended: {gate():.1f} us a call")
