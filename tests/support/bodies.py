"""What n8n's Error Trigger posts, as a real n8n did."""

from typing import Any


def failed(execution_id: str | None = "2", *, workflow: str = "Echo", message: str = "boom [line 1]", **changes) -> Any:
    execution = {
        "id": execution_id,
        "url": f"https://n8n.example.com/workflow/wf1/executions/{execution_id}",
        "error": {
            "level": "info",
            "shouldReport": False,
            "description": None,
            "tags": {},
            "lineNumber": 1,
            "message": message,
            "name": "WrappedExecutionError",
            "stack": f"Error: {message}\n    at VmCodeWrapper",
        },
        "lastNodeExecuted": "Code",
        "mode": "webhook",
        "executionContext": {"version": 1, "source": "webhook", "triggerNode": {"name": "Webhook"}},
        **changes,
    }
    if execution_id is None:
        del execution["id"], execution["url"]
    return {"execution": execution, "workflow": {"id": "wf1", "name": workflow}}


def crashed(execution_id: str = "2") -> Any:
    """After a restart: the error has no message."""
    return failed(
        execution_id, error={"level": "error", "tags": {}, "name": "WorkflowCrashedError"}, lastNodeExecuted=None
    )


TRIGGER = {
    "trigger": {
        "error": {
            "level": "warning",
            "description": "not a cron expression",
            "name": "WorkflowActivationError",
            "node": {"name": "Schedule Trigger", "type": "n8n-nodes-base.scheduleTrigger"},
        },
        "mode": "internal",
    },
    "workflow": {"id": "wf9", "name": "Nightly Report"},
}
