"""What MLflow's server means when it refuses: which permission is missing, on what, and to whom.

In: the code and the text of an error. Out: a sentence for people, or None if it is no refusal. Only the user's name is
taken from the environment, never the password.
"""

import os
import re

# What of the server's addresses belongs to which thing that permissions are given on.
_THINGS = {
    "registered-models": "registered model",
    "model-versions": "registered model",
    "experiments": "experiment",
    "runs": "experiment",
    "metrics": "experiment",
    "logged-models": "experiment",
    "artifacts": "experiment",
}
_READS = {"get", "get-by-name", "get-download-uri", "get-history", "get-latest-versions", "list", "search"}
_ASKED = re.compile(r"/mlflow(?:-artifacts)?/([a-z-]+)(?:/([a-z-]+)(?=[\s?]|$))?")


def refused(error: Exception) -> str | None:
    """What a server's refusal means, or None if the error is none."""
    return explained(getattr(error, "error_code", ""), str(error))


def explained(code: str, text: str) -> str | None:
    """A refusal in plain words.

    Args:
        code: MLflow's, as `PERMISSION_DENIED`; empty where the error has none (a file sent or fetched).
        text: of the error.
    """
    if code == "UNAUTHENTICATED" or "401 Client Error" in text:
        return (
            f"the server does not take the login of {_user()}: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD (docs/mlflow.md)"
        )
    denied = code == "PERMISSION_DENIED" and "Permission denied" in text
    if not denied and "403 Client Error" not in text:
        return None
    found = _ASKED.search(text)
    thing = _THINGS.get(found[1], "server") if found else "server"
    need = "READ" if found and found[2] in _READS else "EDIT (MANAGE where something is removed)"
    asked = f" ({found[0].strip('/')})" if found and not text.startswith("403") else ""
    return (
        f"permission denied: {_user()} lacks {need} on the {thing}{asked}; an administrator of the server can grant "
        "it (docs/mlflow.md)"
    )


def _user() -> str:
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return f"user '{name}'" if name else "this process (MLFLOW_TRACKING_USERNAME is not set)"
