"""Pages by e-mail: what is written, to whom, what counts as proof, and how it fails."""

import subprocess
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.catalog import config as catalog
from bot.catalog.config import Config, ConfigError
from bot.incidents.pager import PageRequest
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.pagers import email
from tests.fakes.smtp import MailServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUEST = PageRequest("INC-42", "Payments are down", "SEV1", "checkout", "tocsin-1", "https://tocsin.example.com/42")
PASSWORD = "mail password of the tests"  # spaces and all


def pager(tmp_path, port, text="", *, seconds=10.0):
    (tmp_path / "tocsin.yaml").write_text(
        f"version: 1\nemail:\n  host: 127.0.0.1\n  port: {port}\n  from: tocsin@example.com\n"
        f"  to: [oncall@example.com, lead@example.com]\n{text or '  tls: none'}\n"
    )
    made = email.make(catalog.load(tmp_path, {"SMTP_PASSWORD": PASSWORD}))
    made._clock, made._seconds = lambda: NOW, seconds
    return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mail"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


async def test_a_page_is_sent_when_the_server_has_taken_the_letter(tmp_path):
    async with MailServer() as server:
        made = pager(tmp_path, server.port)
        result = await made.page(REQUEST)
        await made.close()

    (letter,) = server.letters
    read = message_from_bytes(letter.content, policy=default)
    assert (result.outcome, result.proof) == ("sent", "250 2.0.0 queued as 0001")
    assert letter.to == ["oncall@example.com", "lead@example.com"]
    assert read["Subject"] == "[SEV1] INC-42 Payments are down"
    assert read["Auto-Submitted"] == "auto-generated"
    assert "https://tocsin.example.com/42" in read.get_content()
    assert read.get_content_type() == "text/plain"


async def test_the_same_page_has_the_same_message_id_and_another_has_another(tmp_path):
    other = PageRequest("INC-43", "Search", "SEV2", None, "tocsin-2")
    async with MailServer() as server:
        made = pager(tmp_path, server.port)
        for request in (REQUEST, REQUEST, other):
            await made.page(request)

    first, again, third = [
        message_from_bytes(letter.content, policy=default)["Message-ID"] for letter in server.letters
    ]
    assert first == again != third
    assert first.endswith("@example.com>")


async def test_a_service_of_its_own_is_written_to_alone(tmp_path):
    async with MailServer() as server:
        made = pager(tmp_path, server.port, "  tls: none\n  services: {checkout: [shop@example.com]}")
        await made.page(REQUEST)

    assert server.letters[0].to == ["shop@example.com"]


@settings(max_examples=40, deadline=None)
@given(title=st.text(max_size=300), service=st.text(max_size=60))
def test_no_title_makes_a_header_of_its_own(title, service):
    made = email.Letters(
        catalog.General.model_validate(
            {"email": {"host": "localhost", "tls": "none", "from": "a@example.com", "to": ["b@example.com"]}}
        ).email,
        None,
    )

    raw = made._letter(
        PageRequest("INC-1", f"x\r\nBcc: evil@example.com\r\n\r\n{title}", "SEV1", service, "k"), ("b@example.com",)
    ).as_bytes()

    head = raw.split(b"\r\n\r\n", 1)[0]
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))}
    assert b"bcc" not in names
    assert len(names) == 10
    assert message_from_bytes(raw, policy=default)["To"] == "b@example.com"


@pytest.mark.parametrize("way", ["starttls", "tls"])
async def test_the_letter_and_the_password_go_over_tls(tmp_path, authority, way):
    cert, key = str(authority / "cert.pem"), str(authority / "key.pem")
    text = f"  tls: {way}\n  username: tocsin\n  password: {{env: SMTP_PASSWORD}}\n  ca: {cert}"
    async with MailServer(cert, key, implicit=way == "tls", users={"tocsin": PASSWORD}) as server:
        await pager(tmp_path, server.port, text).page(REQUEST)

    assert (server.letters[0].tls, server.letters[0].user) == (True, "tocsin")


async def test_a_certificate_that_is_not_trusted_is_a_refusal_that_says_where_to_look(tmp_path, authority):
    async with MailServer(str(authority / "cert.pem"), str(authority / "key.pem")) as server:
        with pytest.raises(PermanentError, match=r"email\.ca"):
            await pager(tmp_path, server.port, "  tls: starttls").page(REQUEST)

    assert server.letters == []


async def test_a_server_without_starttls_gets_neither_password_nor_letter(tmp_path):
    text = "  tls: starttls\n  username: tocsin\n  password: {env: SMTP_PASSWORD}"
    async with MailServer() as server:
        with pytest.raises(PermanentError, match="cannot do"):
            await pager(tmp_path, server.port, text).page(REQUEST)

    assert not any(line.startswith("AUTH") for line in server.lines)


async def test_a_wrong_password_is_a_refusal_that_does_not_tell_it(tmp_path, authority):
    cert, key = str(authority / "cert.pem"), str(authority / "key.pem")
    text = f"  tls: tls\n  username: tocsin\n  password: {{env: SMTP_PASSWORD}}\n  ca: {cert}"
    async with MailServer(cert, key, implicit=True, users={"tocsin": "another"}) as server:
        with pytest.raises(PermanentError, match="535") as caught:
            await pager(tmp_path, server.port, text).page(REQUEST)

    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "answer", "kind"),
    [
        ("MAIL", "550 no such sender", PermanentError),
        ("MAIL", "451 try later", TemporaryError),
        ("RCPT", "550 nobody", PermanentError),
        ("RCPT", "450 busy", TemporaryError),
        ("DATA", "554 no", PermanentError),
        ("DATA", "421 going down", TemporaryError),
    ],
    ids=["mail-5", "mail-4", "rcpt-5", "rcpt-4", "data-5", "data-4"],
)
async def test_what_the_server_refuses_for_good_is_not_tried_again(tmp_path, verb, answer, kind):
    async with MailServer(answers={verb: [answer, answer]}) as server:
        with pytest.raises(kind, match=answer[:3]):
            await pager(tmp_path, server.port).page(REQUEST)


async def test_one_refused_address_among_others_is_named(tmp_path):
    async with MailServer(answers={"RCPT": ["550 nobody"]}) as server:
        result = await pager(tmp_path, server.port).page(REQUEST)

    assert (result.outcome, server.letters[0].to) == ("sent", ["lead@example.com"])
    assert "it refused oncall@example.com" in result.detail


async def test_a_server_that_is_away_or_says_nothing_is_tried_again(tmp_path):
    async with MailServer() as server:
        port = server.port
    with pytest.raises(TemporaryError, match="cannot be reached"):
        await pager(tmp_path, port).page(REQUEST)

    async with MailServer(slow=1) as server:
        with pytest.raises(TemporaryError, match=r"within 0\.2 s"):
            await pager(tmp_path, server.port, seconds=0.2).page(REQUEST)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("  host: mail.example.com\n  from: a@example.com\n  to: [b@example.com]\n  tls: none", "on this machine"),
        ("  host: mail.example.com\n  from: a@example.com\n  to: [b@example.com]\n  username: x", "go together"),
        ("  host: mail.example.com\n  from: a@example.com\n  to: []", "at least 1 item"),
        ("  host: mail.example.com\n  from: a@example.com\n  to: [b@example.com]\n  ca: x.pem", "there is no file"),
        ("  host: mail.example.com\n  from: 'a@example.com\\r\\nX: y'\n  to: [b@example.com]", "match pattern"),
    ],
    ids=["plain", "half", "nobody", "ca", "two-lines"],
)
def test_a_section_that_makes_no_sense_is_refused_with_its_line(tmp_path, text, wrong):
    (tmp_path / "tocsin.yaml").write_text(f"version: 1\nemail:\n{text}\n")

    with pytest.raises(ConfigError, match=wrong) as caught:
        catalog.load(tmp_path, {})
    assert str(caught.value).startswith("tocsin.yaml:")


def test_without_its_section_it_says_what_to_write():
    with pytest.raises(UserError, match="email: with host"):
        email.make(Config())
