"""What Airflow's provider manager reads. Every Airflow component calls it, so it imports nothing."""


def get_provider_info() -> dict[str, object]:
    """The provider's metadata: its modules and, as data, the form of the `jdocr` connection."""
    return {
        "package-name": "airflow-provider-jdocr",
        "name": "JD OCR",
        "description": "Recognise scans of Chinese VAT invoices with JD's OCR services, check them, "
        "load them.",
        "integrations": [
            {
                "integration-name": "JD OCR",
                "external-doc-url": "https://www.jdcloud.com/cn/products/ocr-invoice",
                "tags": ["service"],
            }
        ],
        "hooks": [_modules("hooks")],
        "operators": [_modules("operators", "bookkeeping", "planning", "reviewing")],
        "sensors": [_modules("sensors")],
        "triggers": [_modules("triggers")],
        "cli": ["airflow_provider_jdocr.cli.definition.get_commands"],
        "connection-types": [
            {
                "connection-type": "jdocr",
                "hook-class-name": "airflow_provider_jdocr.hooks.JdOcrHook",
                "hook-name": "JD OCR",
                "ui-field-behaviour": _FORM,
                "conn-fields": _EXTRAS,
            }
        ],
    }


def _modules(*names: str) -> dict[str, object]:
    modules = [f"airflow_provider_jdocr.{name}" for name in names]
    return {"integration-name": "JD OCR", "python-modules": modules}


def _field(label: str, description: str, *types: str, **schema: object) -> dict[str, object]:
    return {"label": label, "description": description, "schema": {"type": [*types, "null"], **schema}}


_FORM = {
    "hidden-fields": ["schema"],
    "relabeling": {"login": "Access key (appkey)", "password": "Secret key", "host": "Base URL (override)"},
    "placeholders": {
        "login": "access key of the JD Cloud account, or the appkey",
        "password": "its secret key",
        "host": "empty for JD itself; http://127.0.0.1:8600 for the local service",
    },
}

_EXTRAS = {
    "endpoint": _field(
        "Endpoint",
        "Which of JD's two invoice services the account calls.",
        "string",
        enum=["ocr_invoice", "intsig_invoice"],
    ),
    "auth": _field(
        "Signing",
        "How calls are signed. Empty: what the endpoint uses by default.",
        "string",
        enum=["jdcloud2", "appkey", None],
    ),
    "region": _field("Signing region", "Region of the JDCLOUD2 credential scope.", "string"),
    "service": _field("Signing service", "Service of the JDCLOUD2 credential scope.", "string"),
    "security_token": _field(
        "Security token", "Session token of a temporary JDCLOUD2 key.", "string", format="password"
    ),
    "body_encoding": _field(
        "Body encoding",
        "How the picture is sent. Empty: what the endpoint documents.",
        "string",
        enum=["raw", "base64", "data_uri", None],
    ),
    "qps": _field("Calls a second", "The rate the account may use, shared by all its tasks.", "number"),
    "daily_limit": _field("Calls a day", "The account's daily limit, where it is known.", "integer"),
    "reset_time": _field(
        "Quota reset time", "When the daily limit starts again, HH:MM or HH:MM:SS.", "string"
    ),
    "reset_timezone": _field("Quota reset time zone", "Time zone of the reset time, an IANA name.", "string"),
    "connect_timeout_seconds": _field("Connect timeout (s)", "For reaching the service.", "number"),
    "read_timeout_seconds": _field(
        "Read timeout (s)",
        "For the answer. A call that times out may have been charged: 10 or more.",
        "number",
    ),
    "ca_bundle": _field(
        "Certificate authorities",
        "Path of a PEM file: only these may vouch for the service. Empty: those that the machine trusts.",
        "string",
    ),
    "ledger_conn_id": _field(
        "Ledger connection",
        "Airflow connection of the database that keeps paid answers. Empty: a SQLite file in the "
        "Airflow home, "
        "for a single machine only.",
        "string",
    ),
    "price_per_call": _field(
        "Price of a call (CNY)",
        "Yuan a call, such as 0.048, or one of JD's packs, such as 10k. For the bill only.",
        "string",
        "number",
    ),
}
