"""The environment variables that Twofold reads, by what they decide; a test finds each in the code, and the reverse."""

from scripts.reference.tables import code, table

WHERE = {
    "MLFLOW_TRACKING_URI": "MLflow's tracking server or store; default `mlflow.db` (SQLite) in the main checkout, "
    "created by the first training or registration",
    "TWOFOLD_WEIGHTS": "a file, or a folder of files, with pretrained weights, or their `s3://` address (a folder's "
    "ends with a slash); takes precedence over downloads",
    "TWOFOLD_CACHE": "a folder, or `s3://bucket/prefix`, for the cache: fetched objects, decoded pixels, features; "
    "default `.twofold/memo`",
    "TWOFOLD_CACHE_LIMIT": "largest size of the cache, in bytes or as `500M`, `20G`; default `10G`; the entries used "
    "longest ago are removed first",
    "TWOFOLD_CHECKPOINTS": "a folder for the checkpoints of a running fine-tuning; default `.twofold/checkpoints`",
}
HOW = {
    "TWOFOLD_DEVICE": "`cpu` or `cuda`; default: the GPU if there is one",
    "TWOFOLD_COMPILE": "on a GPU with a C compiler: `auto` (default) compiles a fine-tuning that is long enough to pay "
    "for it, `on` any, `off` none; the kernels are kept in `.twofold/compiled`, or in `TORCHINDUCTOR_CACHE_DIR`",
    "TWOFOLD_WORKERS": "processes that decode images; default: one a core",
    "TWOFOLD_LIVE": "`off`: no live runs while training",
    "TWOFOLD_PROGRESS_SECONDS": "seconds between lines of progress where there is no terminal; default 10",
}
ORIGIN = {
    "TWOFOLD_IMAGE": "the container image",
    "TWOFOLD_COMMIT": "the commit that the image was built from",
    "TWOFOLD_PIPELINE_RUN": "the pipeline run",
    "TWOFOLD_SOURCE": "the address of its images",
    "TWOFOLD_SOURCE_VERSION": "the version of its images that `source_version` found",
}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "and `AWS_SECRET_ACCESS_KEY`, or `AWS_PROFILE`: of S3, read by boto3",
    "AWS_ENDPOINT_URL": "of a store other than AWS; `AWS_ENDPOINT_URL_S3` takes precedence",
    "MLFLOW_TRACKING_USERNAME": "and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`: of the MLflow server",
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "the certificate of your own authority",
    "TWOFOLD_WEBHOOK": "the address to which `notify` posts; a secret",
}
KUBEFLOW = {
    "KF_PIPELINES_ENDPOINT": "the server, instead of `--host`",
    "KF_PIPELINES_UI_ENDPOINT": "the Kubeflow UI for people, if it has another address",
    "KF_PIPELINES_SA_TOKEN_PATH": "the file with the token of a pod's service account",
    "KFP_TOKEN": "a bearer token for the server; a secret",
    "KFP_COOKIES": "cookies for a server behind a login page; a secret",
}
OTHER = {
    "MLFLOW_DISABLE_TELEMETRY": "and `DVC_NO_ANALYTICS`: Twofold sends no telemetry and switches off both tools' own; "
    "set `false` to allow it",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "and `MLFLOW_HTTP_REQUEST_TIMEOUT` (seconds): how long MLflow's client tries",
}
GROUPS = {
    "Where things are": WHERE,
    "On what a step runs": HOW,
    "Credentials and addresses": CREDENTIALS,
    "Kubeflow": KUBEFLOW,
    "Recorded in MLflow as provenance": ORIGIN,
    "Other": OTHER,
}


def variables() -> str:
    """A table for each group."""
    return "\n\n".join(
        f"## {title}\n\n{table(('variable', 'meaning'), code(v.items()))}" for title, v in GROUPS.items()
    )
