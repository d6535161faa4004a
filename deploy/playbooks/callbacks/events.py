"""What happens in a playbook, as one JSON object a line on stdout: read by sparkbundle.playbook.

ansible-playbook loads it; only this file and the module roles/base/library/place.py import ansible.
"""

import json
import sys
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: events
type: stdout
short_description: one JSON object a line
description: Plays, tasks, results and totals for the program that started the playbook.
"""


class CallbackModule(CallbackBase):
    """Writes events; results under no_log arrive here already without their content."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "events"

    def _write(self, event, **values):
        line = {"event": event, "at": round(time.time(), 2), **values}
        sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()

    def _result(self, result, status, ignored=False):
        found = result._result
        told = [
            str(found.get(key)).strip()
            for key in ("msg", "module_stderr", "stderr", "stdout")
            if found.get(key)
        ]
        items = [
            str(item.get("msg", ""))
            for item in found.get("results", [])
            if isinstance(item, dict) and (item.get("failed") or item.get("unreachable"))
        ]
        self._write(
            "result",
            host=result._host.get_name(),
            task=result._task.get_name(),
            status="ignored" if ignored else status,
            told=items + told if status in ("failed", "unreachable") else [],
            diff=self._diffs(found) if status == "changed" else "",
        )

    def _diffs(self, found):
        diffs = [found.get("diff")] + [
            item.get("diff") for item in found.get("results", []) if isinstance(item, dict)
        ]
        return "".join(self._get_diff(diff) for diff in diffs if diff)

    def v2_playbook_on_play_start(self, play):
        """A phase begins."""
        self._write("play", name=play.get_name())

    def v2_playbook_on_task_start(self, task, is_conditional):  # noqa: ARG002 - ansible's interface
        """A task begins on some hosts."""
        self._write("task", name=task.get_name())

    def v2_playbook_on_handler_task_start(self, task):
        """A handler begins."""
        self._write("task", name=task.get_name())

    def v2_runner_on_ok(self, result):
        """A task has ended well on a host."""
        self._result(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """A task has failed on a host."""
        self._result(result, "failed", ignored=ignore_errors)

    def v2_runner_on_unreachable(self, result):
        """A host is lost."""
        self._result(result, "unreachable")

    def v2_runner_retry(self, result):
        """A task has failed and will be tried again."""
        found = result._result
        self._write(
            "retry",
            host=result._host.get_name(),
            task=result._task.get_name(),
            told=[str(found.get("msg", ""))],
        )
