"""Runs a received pipeline job: its steps in the order of their bindings, those that can at the same time."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from mmlu_pipe.rehearsal.bindings import parent_output, referenced_steps
from mmlu_pipe.rehearsal.exchange import Json
from mmlu_pipe.rehearsal.runs import Run, Runs
from mmlu_pipe.rehearsal.site import Site, binding_text, compute_name, default_output
from mmlu_pipe.rehearsal.step import Step

__all__ = ["Executor"]

EXECUTION_LOG = "logs/azureml/executionlogs.txt"

_log = logging.getLogger("mmlu_pipe.rehearsal")


class Executor:
    """Starts pipeline jobs, each in a thread, and ends them all with the twin."""

    def __init__(self, site: Site, runs: Runs) -> None:
        self._site, self._runs = site, runs
        self._threads: list[threading.Thread] = []

    def submit(self, run: Run) -> None:
        """Run a pipeline job; its state is in `run`."""
        thread = threading.Thread(target=self._guarded, args=(run,), name=f"twin-{run.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Cancel what runs, and wait for it."""
        for run in self._runs:
            run.cancel()
        for thread in self._threads:
            thread.join()

    def _guarded(self, run: Run) -> None:
        try:
            _Pipeline(self._site, self._runs, run).execute()
        except Exception as error:  # noqa: BLE001 - whatever it is, the job's clients are told
            _log.exception("the twin could not run job %s", run.name)
            run.fail("SystemError", f"The twin itself failed: {error!r}", "Twin")


class _Pipeline:
    """One pipeline job under way."""

    def __init__(self, site: Site, runs: Runs, run: Run) -> None:
        self._site, self._runs, self._run = site, runs, run
        self._nodes: dict[str, Json] = run.properties["jobs"]
        self._said = ""

    def execute(self) -> None:
        run = self._run
        run.enter("Preparing")
        run.outputs["default"] = default_output(self._site, run)
        steps = {name: self._child(name, node) for name, node in self._nodes.items()}
        waiting = dict(self._nodes)
        self._say(f"Starting {len(steps)} steps: {', '.join(steps)}")
        run.enter("Running")
        under_way: dict[Future[None], str] = {}
        failed: list[str] = []
        with ThreadPoolExecutor(max_workers=max(1, len(steps)), thread_name_prefix=f"twin-{run.name}") as pool:
            while waiting or under_way:
                unfinished = {*waiting, *under_way.values()}
                ready = [name for name, node in waiting.items() if not _needs(node) & unfinished]
                if failed or run.cancelled.is_set():
                    ready = []
                    for name in waiting:
                        steps[name].enter("Canceled")
                    waiting.clear()
                    for name in under_way.values():
                        steps[name].cancel()
                for name in ready:
                    self._say(f"Submitting step {name} as run {steps[name].name}")
                    under_way[pool.submit(self._step, steps, name, waiting.pop(name))] = name
                if not under_way:
                    break
                done, _ = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    name = under_way.pop(future)
                    future.result()
                    self._say(f"Step {name} is {steps[name].status}")
                    if steps[name].status == "Failed":
                        failed.append(name)
        self._finish(steps, failed)

    def _finish(self, steps: dict[str, Run], failed: list[str]) -> None:
        run = self._run
        if failed:
            nodes = ", ".join(f"/{name}" for name in failed)
            message = f"Pipeline has failed child jobs. Failed nodes: {nodes}. For more details and logs, please go to "
            self._say(f"Failed nodes: {nodes}")
            run.fail("UserError", message + "the job detail page and check the child jobs.", "Pipeline")
        elif run.cancelled.is_set():
            self._say("Canceled")
            run.enter("Canceled")
        else:
            self._bind_outputs(steps)
            self._say("Completed")
            run.enter("Completed")

    def _child(self, name: str, node: Json) -> Run:
        component = str(node["componentId"])
        properties = {
            "experimentName": self._run.properties["experimentName"],
            "target": compute_name(node, self._run.properties),
            "moduleId": component.rpartition("/")[2],
            "moduleName": component.rpartition("/components/")[2].partition("/")[0],
        }
        child = Run(str(uuid.uuid4()), name, properties, self._run)
        self._runs.add(child)
        return child

    def _step(self, steps: dict[str, Run], name: str, node: Json) -> None:
        values: dict[str, str | None] = {
            f"parent.inputs.{key}": binding_text(value)
            for key, value in (self._run.properties.get("inputs") or {}).items()
        }
        for other, run in steps.items():
            values |= {f"parent.jobs.{other}.outputs.{key}": output.uri for key, output in run.outputs.items()}
        Step(self._site, steps[name], node, values, self._run.properties.get("outputs") or {}).execute()

    def _bind_outputs(self, steps: dict[str, Run]) -> None:
        """A pipeline's output is what a step of it put out, under the pipeline's own name."""
        for name, node in self._nodes.items():
            for key, binding in (node.get("outputs") or {}).items():
                bound = parent_output(binding_text(binding))
                if bound and key in steps[name].outputs:
                    self._run.outputs[bound] = steps[name].outputs[key]

    def _say(self, line: str) -> None:
        self._said += f"[{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}] {line}\n"
        self._site.publish(self._run, EXECUTION_LOG, self._said.encode())


def _needs(node: Json) -> set[str]:
    bindings = (node.get("inputs") or {}).values()
    return {step for binding in bindings for step in referenced_steps(binding_text(binding) or "")}
