"""Secrets of many issuers go, in many draws; what only looks like one stays."""

from __future__ import annotations

import json
import random
import re
import string
import time

import pytest

from instar.engine.feedback_rows import check_feedback
from instar.engine.redact import redact

LETTERS = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
URL = LETTERS + "_-"
HEX = "0123456789abcdef"
DIGITS = string.digits

ISSUED: dict[str, tuple[tuple[str, str, int], ...]] = {
    "aws": (("AKIA", UPPER, 16),),
    "aws secret": (("aws_secret_access_key=", LETTERS + "/+", 40),),
    "github": (("ghp_", LETTERS, 36),),
    "github fine-grained": (("github_pat_", LETTERS + "_", 82),),
    "gitlab": (("glpat-", URL, 20),),
    "slack": (("xoxb-", DIGITS, 12), ("-", LETTERS, 24)),
    "slack app": (("xapp-1-", UPPER, 11), ("-", HEX, 64)),
    "slack webhook": (("https://hooks.slack.com/services/T", UPPER, 8), ("/B", UPPER, 10), ("/", LETTERS, 24)),
    "stripe": (("sk_live_", LETTERS, 24),),
    "stripe webhook": (("whsec_", LETTERS, 32),),
    "google": (("AIza", URL, 35),),
    "google oauth": (("ya29.", URL, 60),),
    "openai": (("sk-proj-", LETTERS, 48),),
    "anthropic": (("sk-ant-api03-", URL, 90),),
    "hugging face": (("hf_", LETTERS, 34),),
    "npm": (("npm_", LETTERS, 36),),
    "pypi": (("pypi-AgEIcHlwaS5vcmc", URL, 70),),
    "docker": (("dckr_pat_", URL, 27),),
    "sendgrid": (("SG.", URL, 22), (".", URL, 43)),
    "digitalocean": (("dop_v1_", HEX, 64),),
    "databricks": (("dapi", HEX, 32),),
    "vault": (("hvs.", URL, 24),),
    "telegram": (("123456789:AA", URL, 33),),
    "twilio": (("SK", HEX, 32),),
    "jwt": (("eyJ", URL, 20), (".eyJ", URL, 40), (".", URL, 43)),
    "login in a url": (("postgres://app:", LETTERS, 12), ("@db/x", "", 0)),
    "basic auth": (("Authorization: Basic ", LETTERS, 24),),
    "password": (("password=", LETTERS, 9), ("1", "", 0)),
    "quoted password": (("'password': '", LETTERS, 9), ("'", "", 0)),
    "azure": (("AccountKey=", LETTERS + "+/", 86),),
    "private key": (("-----BEGIN PRIVATE KEY-----\n", LETTERS, 64), ("\n-----END PRIVATE KEY-----", "", 0)),
    "no name, dense": (("", LETTERS, 48),),
}


@pytest.mark.parametrize("issuer", ISSUED)
def test_secret_of_an_issuer_is_gone_in_every_draw(issuer: str) -> None:
    draw = random.Random(issuer)
    for _ in range(30):
        parts = [
            (lead, "".join(draw.choices(signs, k=length)) if length else "") for lead, signs, length in ISSUED[issuer]
        ]
        out = redact(f"before {''.join(lead + body for lead, body in parts)} after")
        assert out.startswith("before ")
        assert out.endswith(" after")
        left = re.sub(r"\W", "", out)
        assert all(re.sub(r"\W", "", body)[-8:] not in left for _, body in parts if body), out


@pytest.mark.parametrize(
    "text",
    [
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "request 123e4567-e89b-12d3-a456-426614174000",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "integrity sha512-QkNUfYkqa3TkPSE9Lk8mnnZDr3hVkxTtQUJFbfWlnUYKJ7IHoNKNbPxaA1xW6FXnRRyUc3OcvA0pYh5gMLWn6Q==",
        "github.com/pkg/errors v0.9.1 h1:FEBLx1zS214owpjy7qsBeixbURkuhQAwrK5UwLGTwt4=",
        "getUserByIdFromDatabaseConnection2Pool",
        "src/components/UserProfile2/Index.test.tsx",
        "CONFIG_HIGH_RES_TIMERS_V2_ENABLED_BY_DEFAULT",
        "2026-11-26T08:05:19.982709Z",
        "self.token = nextchar",
        "sorted(rows, key=itemgetter(1), reverse=True)",
        "sk_learn_model_version_2_of_the_trainer",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        "/home/user/Projects/My-App-2/build/Release-x64/Output",
    ],
)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("password", ['a"b12345', '"""" x', "ends in \\\\", 'all " of \\ and \n it', "it's mine"])
@pytest.mark.parametrize("depth", [1, 2])
def test_password_in_json_goes_whole_whatever_is_escaped_in_it(password: str, depth: int) -> None:
    content: object = {"password": password, "user": "joe"}
    for _ in range(depth):
        content = json.dumps(content)
    found: object = redact(str(content))
    assert redact(str(found)) == found
    for _ in range(depth):
        found = json.loads(str(found))
    assert found == {"password": "[redacted:password]", "user": "joe"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("postgres://u:p@ss@host/db", "postgres://u:[redacted:password]@host/db"),
        ("redis://:a@b@c@host:6379", "redis://:[redacted:password]@host:6379"),
        ("smtp://me@example.org:pw12@mail", "smtp://me@example.org:[redacted:password]@mail"),
        ("mongodb://u:p@h1:27017,h2:27017/db", "mongodb://u:[redacted:password]@h1:27017,h2:27017/db"),
        ("http://localhost:8080/a@b", "http://localhost:8080/a@b"),
        ("ssh://git@host:22/path", "ssh://git@host:22/path"),
        ("http://host:8080/@scope/pkg", "http://host:8080/@scope/pkg"),
        ("postgres://me:pa/ss@host/db", "postgres://me:[redacted:password]@host/db"),
        ("curl --token hunter2secret x", "curl --token [redacted:token] x"),
        ("tool --db-password 'my pass 1' -v", "tool --db-password '[redacted:password]' -v"),
        ("call --max-tokens 4096 and --token to pass", "call --max-tokens 4096 and --token to pass"),
        ("curl -s -X GET -u me:passw0rd http://x", "curl -s -X GET -u me:[redacted:password] http://x"),
        ("docker run -u 1000:1000 image", "docker run -u 1000:1000 image"),
        ("PGPASSWORD=hunter22 psql -l", "PGPASSWORD=[redacted:password] psql -l"),
        ('password = "C:\\dir12\\" # no JSON', 'password = "[redacted:password]\\" # no JSON'),
        ("password='it\\'s me'", "password='[redacted:password]'"),
    ],
)
def test_password_ends_where_it_does(text: str, wanted: str) -> None:
    assert redact(text) == wanted == redact(wanted)


@pytest.mark.parametrize(
    "part",
    [
        *('password="a', 'password=\\"\\\\', "password='\\\\", "ab://u:p@", "password='" + "\\" * 900),
        *("ab://u:p/", "curl -u ", "curl -ua:b", "--token ", "--a-b-token '"),
    ],
)
def test_text_made_to_be_slow_takes_no_more_than_its_length(part: str) -> None:
    text = part * (400_000 // len(part))
    begun = time.process_time()
    redact(text)
    assert time.process_time() - begun < 10  # half a second; a regular expression that tries all ways takes for ever


def test_secret_is_not_recorded_with_what_the_agent_tells() -> None:
    row = {
        "task_type": "login",
        "input": "use password=hunter2",
        "output": "token: a1b2c3d4",
        "reference": "ghp_" + "a1B2" * 9,
    }
    event = check_feedback(row)
    assert "hunter2" not in event.input
    assert "a1b2c3d4" not in event.output
    assert event.reference == "[redacted:github-token]"
