"""The kinds of tokens that have a beginning of their own, as their vendors document it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .checks import entropy, is_jwt, looks_made_up, mixed
from .openers import Openers, TokenRule

__all__ = ["ALPHABET", "TOKENS", "TOKEN_RULES"]

ALPHABET: Final = "A-Za-z0-9_.~+/=:-"

_END: Final = r"(?![A-Za-z0-9_-])"
_HEX, _B62, _ID, _B64 = "[0-9a-f]", "[A-Za-z0-9]", "[A-Za-z0-9_-]", "[A-Za-z0-9+/]"
_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def _real(token: str) -> bool:
    return not looks_made_up(token)


def _random(token: str) -> bool:
    return any(one.isdigit() for one in token) and entropy(token) >= 3.0 and not looks_made_up(token)


def _mixed(token: str) -> bool:
    return mixed(token) and not looks_made_up(token)


def _rule(
    kind: str, literals: str, rest: str, check: Callable[[str], bool] | None = _real, end: str = _END
) -> TokenRule:
    beginnings = tuple(literals.split())
    return TokenRule(
        kind, beginnings, re.compile(f"(?:{'|'.join(map(re.escape, beginnings))}){rest}{end}"), check
    )


TOKEN_RULES: Final = (
    # -- clouds -----------------------------------------------------------------------------------
    # Amazon's own example keys end in EXAMPLE.
    _rule("aws_access_key_id", "AKIA ASIA ABIA ACCA A3T", r"(?:(?<=A3T)[A-Z0-9])?[A-Z0-9]{16}", lambda key: not key.endswith("EXAMPLE")),
    _rule("aws_bedrock_key", "ABSK", rf"{_B64}{{109,269}}={{0,2}}"),
    _rule("azure_storage_key", "AccountKey=", rf"{_B64}{{86}}=="),
    _rule("azure_access_key", "SharedAccessKey=", rf"{_B64}{{43}}="),
    _rule("google_api_key", "AIza", rf"{_ID}{{35}}"),
    _rule("google_oauth_secret", "GOCSPX-", rf"{_ID}{{28}}"),
    _rule("google_oauth_token", "ya29.", rf"{_ID}{{30,500}}"),
    _rule("google_refresh_token", "1//0", rf"{_ID}{{40,200}}"),
    _rule("alibaba_access_key_id", "LTAI", rf"{_B62}{{17,21}}", _mixed),
    _rule("tencent_secret_id", "AKID", rf"{_B62}{{32}}", _mixed),
    _rule("digitalocean_token", "dop_v1_ doo_v1_ dor_v1_", rf"{_HEX}{{64}}"),
    _rule("heroku_key", "HRKU-", rf"{_ID}{{36,64}}"),
    _rule("fly_token", "fo1_ fm1r_ fm2_", r"[A-Za-z0-9_+/=-]{43,800}", _mixed),
    _rule("vercel_token", "vcp_ vci_ vca_ vcr_ vck_", rf"{_B62}{{24,80}}", _mixed),
    _rule("netlify_token", "nfp_ nfc_ nfo_", rf"{_B62}{{36}}"),
    _rule("cloudflare_origin_key", "v1.0-", rf"{_HEX}{{24}}-{_HEX}{{146}}"),
    _rule("scalingo_token", "tk-us-", rf"{_ID}{{48}}"),
    _rule("pulumi_token", "pul-", rf"{_HEX}{{40}}"),
    _rule("planetscale_token", "pscale_pw_ pscale_tkn_ pscale_oauth_", r"[A-Za-z0-9_.=-]{32,64}"),
    _rule("supabase_key", "sbp_", rf"{_HEX}{{40}}"),
    _rule("supabase_secret_key", "sb_secret_", rf"{_ID}{{31,64}}"),
    # -- code ------------------------------------------------------------------------------------
    _rule("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", rf"{_B62}{{36}}"),
    _rule("github_fine_grained_token", "github_pat_", rf"{_B62}{{22}}_{_B62}{{59}}"),
    _rule("gitlab_token", "glpat-", rf"{_ID}{{27,300}}\.[0-9a-z]{{2}}\.[0-9a-z]{{7,9}}"),
    _rule("gitlab_token", "glpat- gldt- glft- glsoat- glrt- glrtr-", rf"{_ID}{{20,50}}"),
    _rule("gitlab_token", "GR1348941", rf"{_ID}{{20,50}}"),
    _rule("gitlab_token", "glcbt-", rf"(?:[0-9a-fA-F]{{1,5}}_)?{_ID}{{20}}"),
    _rule("gitlab_token", "glimt-", rf"{_ID}{{25}}"),
    _rule("gitlab_token", "glptt-", rf"{_ID}{{40}}"),
    _rule("gitlab_token", "glagent-", rf"{_ID}{{50,1024}}"),
    _rule("gitlab_token", "gloas-", rf"{_ID}{{64}}"),
    _rule("gitlab_token", "glffct-", rf"{_ID}{{20}}"),
    _rule("bitbucket_token", "ATBB", rf"{_B62}{{28,40}}", _mixed),
    _rule("atlassian_token", "ATATT3 ATCTT3", r"[A-Za-z0-9_=-]{60,300}"),
    _rule("npm_token", "npm_", rf"{_B62}{{36}}"),
    _rule("pypi_token", "pypi-AgE", rf"{_ID}{{100,400}}"),
    _rule("rubygems_token", "rubygems_", rf"{_HEX}{{48}}"),
    _rule("clojars_token", "CLOJARS_", r"[a-z0-9]{60}"),
    _rule("crates_token", "cio", rf"{_B62}{{32}}", _mixed),
    _rule("docker_token", "dckr_pat_ dckr_oat_", rf"{_ID}{{27,64}}"),
    # Test data of this vendor consists of x; it is a token of its own shape all the same.
    _rule("artifactory_token", "AKC", rf"{_B62}{{10,120}}", None),
    _rule("artifactory_token", " ".join(f"AP{n}" for n in "0123456789ABCDEF"), rf"{_B62}{{10,120}}", lambda token: any(one.isdigit() for one in token) or token.endswith("xxxxx")),
    _rule("artifactory_reference_token", "cmVmdGtuO", rf"{_B62}{{55}}"),
    _rule("circleci_token", "CCIPAT_ CCIPRJ_", rf"{_B62}{{20,24}}_{_HEX}{{40}}"),
    _rule("sourcegraph_token", "sgp_", rf"(?:{_HEX}{{16}}_|local_)?{_HEX}{{40}}"),
    _rule("snyk_token", "snyk_uat.", rf"{_ID}{{8}}\.[A-Za-z0-9_.-]{{20,300}}"),
    _rule("sonar_token", "squ_ sqp_ sqa_", rf"{_HEX}{{40}}"),
    _rule("postman_key", "PMAK-", rf"{_HEX}{{24}}-{_HEX}{{34}}"),
    _rule("readme_key", "rdme_", r"[a-z0-9]{70}"),
    _rule("figma_token", "figd_ figu_ figo_", rf"{_ID}{{40,64}}"),
    # -- models ----------------------------------------------------------------------------------
    _rule("anthropic_key", "sk-ant-", rf"[a-z]{{2,8}}[0-9]{{2}}-{_ID}{{32,160}}"),
    _rule("openai_key", "sk-proj- sk-svcacct- sk-admin- sk-None- sk-", rf"{_ID}{{16,100}}T3BlbkFJ{_ID}{{16,100}}"),
    _rule("openai_key", "sk-proj- sk-svcacct- sk-admin-", rf"{_ID}{{72,200}}", _mixed),
    _rule("openrouter_key", "sk-or-v1-", rf"{_HEX}{{64}}"),
    _rule("langfuse_key", "sk-lf-", _UUID),
    _rule("sk_key", "sk-", rf"{_B62}{{32,96}}", _random),
    _rule("huggingface_token", "hf_ api_org_", rf"{_B62}{{30,40}}"),
    _rule("groq_key", "gsk_", rf"{_B62}{{48,56}}", _mixed),
    _rule("perplexity_key", "pplx-", rf"{_B62}{{40,64}}"),
    _rule("xai_key", "xai-", rf"{_B62}{{64,96}}", _mixed),
    _rule("replicate_token", "r8_", rf"{_B62}{{36,40}}", _mixed),
    _rule("nvidia_key", "nvapi-", rf"{_ID}{{60,72}}"),
    _rule("together_key", "tgp_v1_", rf"{_ID}{{40,60}}"),
    _rule("fireworks_key", "fw_", rf"{_B62}{{22,28}}", _mixed),
    _rule("cerebras_key", "csk-", rf"{_B62}{{40,64}}"),
    _rule("voyage_key", "pa-", rf"{_ID}{{40,48}}", _mixed),
    _rule("pinecone_key", "pcsk_", r"[A-Za-z0-9]{4,8}_[A-Za-z0-9]{50,80}"),
    _rule("langsmith_key", "lsv2_pt_ lsv2_sk_", rf"{_HEX}{{32}}_{_HEX}{{10}}"),
    _rule("elevenlabs_key", "sk_", rf"{_HEX}{{48}}"),
    _rule("mesh_key", "lmg_", rf"{_ID}{{32,100}}", _mixed),
    # -- payment -----------------------------------------------------------------------------------
    _rule("stripe_key", "sk_live_ sk_test_ rk_live_ rk_test_ sk_org_live_ sk_org_test_", rf"{_B62}{{10,120}}", _random),
    _rule("stripe_webhook_secret", "whsec_", rf"{_B64}{{24,64}}={{0,2}}"),
    _rule("square_token", "sq0atp-", rf"{_ID}{{22}}"),
    _rule("square_secret", "sq0csp-", rf"{_ID}{{43}}"),
    _rule("square_token", "EAAA", rf"{_ID}{{60}}", _mixed),
    _rule("shopify_token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),
    _rule("easypost_key", "EZAK EZTK", rf"{_B62}{{54}}"),
    _rule("shippo_token", "shippo_live_ shippo_test_", rf"{_HEX}{{40}}"),
    _rule("duffel_token", "duffel_live_ duffel_test_", rf"{_ID}{{43}}"),
    _rule("flutterwave_key", "FLWSECK- FLWSECK_TEST-", rf"{_B62}{{12,40}}-X"),
    _rule("plaid_token", "access-sandbox- access-development- access-production-", _UUID),
    _rule("adyen_key", "AQE", r"[A-Za-z0-9+/=:.-]{90,300}", _mixed),
    # -- messages --------------------------------------------------------------------------------
    _rule("slack_token", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xoxc- xoxd- xoxe.xoxb- xoxe.xoxp-", r"[A-Za-z0-9+/-]{10,260}", _random),
    _rule("slack_app_token", "xapp-", r"[0-9]-[A-Z0-9]{6,20}-[0-9]{8,16}-[a-z0-9]{40,80}"),
    _rule("sendgrid_key", "SG.", rf"{_ID}{{20,24}}\.{_ID}{{39,50}}"),
    _rule("twilio_key", "SK", rf"{_HEX}{{32}}"),
    _rule("twilio_account", "AC", rf"{_HEX}{{32}}"),
    _rule("mailgun_key", "key-", rf"{_HEX}{{32}}"),
    _rule("brevo_key", "xkeysib- xsmtpsib-", rf"{_HEX}{{64}}-{_B62}{{16}}"),
    _rule("resend_key", "re_", r"[A-Za-z0-9]{6,10}_[A-Za-z0-9]{20,30}", _mixed),
    _rule("facebook_token", "EAA", rf"{_B62}{{90,300}}", _mixed),
    _rule("typeform_token", "tfp_", r"[A-Za-z0-9_.=-]{40,80}"),
    # -- running things --------------------------------------------------------------------------
    _rule("vault_token", "hvs. hvb. hvr.", rf"{_ID}{{24,300}}", _mixed),
    _rule("doppler_token", "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit.", r"(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}"),
    _rule("onepassword_token", "ops_eyJ", r"[A-Za-z0-9+/=_-]{150,2000}"),
    _rule("onepassword_secret_key", "A3-", r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}"),
    _rule("age_secret_key", "AGE-SECRET-KEY-1", r"[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    _rule("grafana_token", "glsa_", rf"{_B62}{{32}}_[0-9a-fA-F]{{8}}"),
    _rule("grafana_cloud_token", "glc_", r"[A-Za-z0-9+/]{32,400}={0,2}", _mixed),
    _rule("newrelic_key", "NRAK-", r"[A-Z0-9]{27}"),
    _rule("newrelic_key", "NRII- NRIQ-", rf"{_ID}{{32}}"),
    _rule("dynatrace_token", "dt0c01. dt0s01. dt0s16.", r"[A-Z0-9]{8,24}\.[A-Z0-9]{64}"),
    _rule("sentry_token", "sntrys_", r"[A-Za-z0-9+/=_]{80,400}"),
    _rule("sentry_user_token", "sntryu_", rf"{_HEX}{{64}}"),
    _rule("databricks_token", "dapi", rf"{_HEX}{{32}}(?:-[0-9])?"),
    _rule("linear_key", "lin_api_ lin_oauth_ lin_wh_", rf"{_B62}{{32,64}}"),
    _rule("notion_token", "ntn_ secret_", rf"{_B62}{{40,50}}", _mixed),
    _rule("airtable_token", "pat", rf"{_B62}{{14}}\.{_HEX}{{64}}"),
    _rule("harness_token", "pat. sat.", rf"{_ID}{{22}}\.{_HEX}{{24}}\.{_B62}{{20}}"),
    _rule("tailscale_key", "tskey-", rf"(?:auth|api|client|scim|webhook)-{_B62}{{6,24}}-{_B62}{{20,64}}"),
    _rule("prefect_key", "pnu_", r"[a-z0-9]{36}"),
    _rule("contentful_token", "CFPAT-", rf"{_ID}{{43}}"),
    _rule("adafruit_key", "aio_", rf"{_B62}{{28}}"),
    _rule("adobe_secret", "p8e- p8e_", rf"{_B62}{{32}}"),
    _rule("frameio_token", "fio-u-", rf"{_ID}{{64}}"),
    _rule("posthog_key", "phx_", rf"{_B62}{{40,50}}", _mixed),
    # -- standards ---------------------------------------------------------------------------------
    _rule("jwt", "eyJ ewogIC ewo", r"[A-Za-z0-9_-]{8,1024}+\.[A-Za-z0-9_-]{8,2500}+(?:\.[A-Za-z0-9_-]{0,700}+){0,3}", is_jwt),
)  # fmt: skip
"""In order: of several rules that fit at a place, the one with the longer beginning comes first, then the first."""

TOKENS: Final = Openers(ALPHABET, TOKEN_RULES)
