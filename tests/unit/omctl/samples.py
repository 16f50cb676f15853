"""Arguments of several commands, for tests. No tests here."""

REQUEST_ID = "6a0c9f5e-0000-4000-8000-000000000001"


CREATE = (
    "order",
    "create",
    "--item",
    "TEAPOT:2:18.95",
    "--item",
    "a:b:1:0",
    "--currency",
    "gbp",
    "--name",
    "Ada",
    "--country",
    "gb",
    "--address-line",
    "12 St James's Square",
)
