"""Removes credentials from texts that are shown, logged or stored: errors of other libraries, warnings, addresses.

Known are the values of environment variables whose names say so, and the logins in addresses of any variable; others
are recognised by their form. Every TwofoldError, `say` and preflight finding passes through `redact`.
"""

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, unquote

REFUSAL = "an address must hold no user, password or token; use Git's credential helper or the AWS_… variables"
MIN_LENGTH = 8  # characters; shorter values are ordinary words, and are removed from addresses only
_SECRET_NAME = re.compile(
    r"(?i)SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|WEBHOOK|AUTHORIZATION|CONNECTION_STRING|_PAT$|"
    r"(?:ACCESS|ACCOUNT|API|PRIVATE)_?KEY"
)
# A scheme, then the login: not only SSH's user. In a password `@` may occur, and `/` if the text before it is no port.
_LOGIN = re.compile(r"([A-Za-z][\w+.-]*://)(?!(?<=ssh://)[^\s/:@]+@)([^\s/?#'\"<>]*|[^\s/:@]+:(?!\d+/)[^\s@'\"<>]*)@")
# The login of dvc+user:password@host/repo@revision:path, which lacks a scheme; in dvc+host:repo@revision:path is none.
_BARE = re.compile(r"dvc\+[^/@:\s]+:(?!//)[^@\s]+@(?=[^@\s]*@|[^:@\s]*(?:\s|$))")
_PARAMETER = re.compile(
    r"(?i)(\b(?:(?:x-amz-)?(?:credential|signature|security-token)|awsaccesskeyid|sig|api_?key|account_?key|password|"
    r"(?:client_?)?secret|(?:\w+_)?token)(?:=|%3D))[^\s&;,'\"<>)]+"
)
_FORMS = (  # each begins with the part that stays
    _PARAMETER,
    re.compile(r"(?i)(<(?:awsaccesskeyid|signatureprovided|stringtosign\w*|canonicalrequest\w*)>)[^<]*"),  # from S3
    re.compile(r"(?i)(invalid header value:? ?)b?(?:'[^']*'|\"[^\"]*\")"),
    re.compile(r"(?i)((?:authorization|cookie)['\"]?\s*[:=]\s*b?['\"]?)[^'\"\r\n]+"),
    re.compile(r"(?i)(\b(?:bearer|basic) )(?=\S*[\d=])[\w.~+/=-]+"),
    re.compile(r"()\b(?:(?:AKIA|ASIA)[A-Z0-9]{12,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,})"),
)


def without_credentials(text: str) -> str:
    """Return an address, or a text with addresses, without the users and passwords in it.

    The user of an ssh address stays, because the address does not work without it.
    """
    return _LOGIN.sub(r"\1", _BARE.sub("dvc+", text))


def has_credentials(address: str) -> bool:
    """Whether an address contains a user other than ssh's, a password, or a parameter that is one."""
    return without_credentials(address) != address or bool(_PARAMETER.search(address.partition("?")[2]))


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text with `***` for every secret: the given ones, the environment's, and those known by their form."""
    text = without_credentials(text)
    known = {*filter(None, secrets), *_secrets_in(tuple(os.environ.items()))}
    for secret in sorted(known, key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, "***")
    for form in _FORMS:
        text = form.sub(r"\1***", text)
    return text


@lru_cache(maxsize=2)
def _secrets_in(variables: tuple[tuple[str, str], ...]) -> frozenset[str]:
    """Return the secrets in environment variables, in the forms in which other libraries quote them."""
    found: set[str] = set()
    for name, value in variables:
        is_path = name.endswith(("_FILE", "_PATH", "_DIR")) or (value.startswith("/") and os.path.exists(value))  # noqa: PTH110
        if _SECRET_NAME.search(name) and not is_path:
            # A secret made from a file ends with a line end; cookies and connection strings hold several values.
            found |= {value, *re.split(r"[\r\n;=]\s*", value), re.sub(r"^\w+://[^/]*", "", value)}
        for _, login in _LOGIN.findall(value):
            user, _, password = login.partition(":")
            found.add(password or user)
    plain = {form.strip() for text in found for form in (text, unquote(text))}
    forms = {form for text in plain for form in (text, quote(text), quote(text, ""), repr(text)[1:-1])}
    return frozenset(form for form in forms if len(form) >= MIN_LENGTH)
