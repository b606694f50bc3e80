"""Made-up secrets, in pieces, so that no scanner of this repository takes them for real ones."""

from __future__ import annotations

import random
import string

__all__ = ["NOT_SECRETS", "SECRETS", "made"]

B62 = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits


def made(rng: random.Random, alphabet: str, length: int) -> str:
    """Random characters, among them one of each class that ``alphabet`` has."""
    while True:
        text = "".join(rng.choices(alphabet, k=length))
        if any(one.isdigit() for one in text) and (alphabet != B62 or (text.lower() != text != text.upper())):
            return text


def _secrets() -> dict[str, str]:
    rng = random.Random(20261124)

    def b62(n: int) -> str:
        return made(rng, B62, n)

    def hexa(n: int) -> str:
        return made(rng, HEX, n)

    pem = "\n".join(b62(64) for _ in range(5))
    return {
        "aws_access_key_id": "AK" + "IA" + made(rng, UPPER, 16),
        "azure_storage_key": "Account" + "Key=" + b62(86) + "==",
        "google_api_key": "AI" + "za" + b62(35),
        "google_oauth_secret": "GOC" + "SPX-" + b62(28),
        "github_token": "gh" + "p_" + b62(36),
        "github_fine_grained_token": "github" + "_pat_" + b62(22) + "_" + b62(59),
        "gitlab_token": "gl" + "pat-" + b62(20),
        "slack_token": "xo" + "xb-" + "048522051489-471984829398-" + b62(24),
        "stripe_key": "sk" + "_live_" + b62(24),
        "openai_key": "sk-" + "proj-" + b62(74) + "T3Blb" + "kFJ" + b62(74),
        "anthropic_key": "sk-" + "ant-api03-" + b62(93) + "AA",
        "huggingface_token": "hf" + "_" + b62(34),
        "npm_token": "np" + "m_" + b62(36),
        "pypi_token": "pypi" + "-AgEIcHlwaS5vcmc" + b62(150),
        "twilio_key": "S" + "K" + hexa(32),
        "sendgrid_key": "S" + "G." + b62(22) + "." + b62(43),
        "digitalocean_token": "dop" + "_v1_" + hexa(64),
        "shopify_token": "shp" + "at_" + hexa(32),
        "databricks_token": "da" + "pi" + hexa(32),
        "linear_key": "lin" + "_api_" + b62(40),
        "vault_token": "hv" + "s." + b62(90),
        "square_secret": "sq0" + "csp-" + b62(43),
        "groq_key": "gs" + "k_" + b62(52),
        "mailchimp_key": hexa(32) + "-us" + "12",
        "discord_token": "M" + b62(23) + "." + b62(6) + "." + b62(27),
        "telegram_token": "7213808860" + ":" + "AA" + b62(33),
        "azure_client_secret": "ab1" + "8Q~" + b62(34),
        "unknown_token": "acme_" + "live_" + b62(32),
        "jwt": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" + "." + b62(40) + "." + b62(43),
        "private_key": "-----BEGIN RSA PRIVATE KEY-----\n" + pem + "\n-----END RSA " + "PRIVATE KEY-----",
        "database_url": "postgresql+psycopg://" + "app:" + b62(14) + "@db.internal:5432/app",
        "basic_auth_url": "https://" + "deploy:" + b62(14) + "@git.acme.test/repo.git",
        "webhook_url": "https://hooks.slack.com/" + "services/T01234567/B01234567/" + b62(24),
        "password": "DB_PASSWORD" + "=" + b62(12) + "!x",
        "assigned_secret": 'client_secret: "' + b62(40) + '"',
        "bearer_token": "Authorization: " + "Bearer " + b62(40),
        "basic_auth": "Authorization: " + "Basic " + b62(24) + "==",
    }


SECRETS = _secrets()

NOT_SECRETS = [
    "AKIAIOSFODNN7" + "EXAMPLE is the documentation's own",
    'api_key = "YOUR_API_KEY"',
    "export TOKEN=xxxxxxxxxxxxxxxxxxxxxxxx",
    'password = os.environ["DB_PASSWORD"]',
    "password: ${DB_PASSWORD}",
    "the record is 1a57dcb2-b058-40c3-8555-7e83ab3c4b27",
    "commit d40de8ff9d9258434aded3080c35fe73ce68fc1f broke it",
    "integrity sha512-6DfzNwfxEtIIHZC00wSHj6AM+0SmShZBkp9RCGcklS0Sh0Jc7zloKjNd4sAIKHP8RfpAi5tI7E5XO33oelP/Fg==",
    "the password policy requires 12 characters",
    "postgres://user:password@localhost/db",
    "see https://example.org/docs/api/v2/index.html?page=2",
    "sk-button-primary-large-outline",
    "look for -----BEGIN RSA " + "PRIVATE KEY----- in your files, and remove them from the history.",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1bs5FuabRbgVKJpd6KWoM9v42xhvEDkX3rKrKJuML5 me@host",
    "trace_id=8c2fc87567534697eeb4c53b1084a56b",
    "your key is in the drawer, and the token of thanks is on the table",
]
