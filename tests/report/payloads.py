"""Texts that somebody might put into a scenario or a result file to make a report do something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "<!--<script>alert(1)//-->",
    "<img src=x onerror=alert(1)>",
    "<img src='https://example.com/a.png'>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>click</a>",
    "<a href='https://example.com'>click</a>",
    "<b>bold</b><br><i>slanted</i>",
    "<link rel=stylesheet href=https://example.com/a.css>",
    "<style>@import 'https://example.com/a.css';body{display:none}</style>",
    "<base href=https://example.com/>",
    "<meta http-equiv=refresh content='0;url=https://example.com'>",
    "<form action=https://example.com><button>go</button></form>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<body onload=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<math><mtext><img src=x onerror=alert(1)></mtext></math>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "\" style=\"background:url('https://example.com/a.png')",
    "javascript:alert(1)",
    "{{7*7}}",
    "{% include '/etc/passwd' %}",
    "${alert(1)}",
    "%{customdata[0]}",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "$\\unicode{<img src=x onerror=alert(1)>}$",
    "a\u2028alert(1)\u2029b",
    "<ScRiPt/x>alert(1)</sCrIpT >",
    "]]></script><script>alert(1)</script>",
)


CLOSED = frozenset({"stack_kind", "verdict", "rule"})
"""Keys whose texts are a choice of few: another text makes the document invalid."""


def poisoned(value: Any, texts: Iterator[str]) -> Any:
    """A JSON value of the same shape in which every free text is the next of `texts`; keys and closed words are kept."""
    if isinstance(value, dict):
        closed = CLOSED | ({"kind"} if "bytes" in value else set())
        return {key: child if key in closed else poisoned(child, texts) for key, child in value.items()}
    if isinstance(value, list):
        return [poisoned(child, texts) for child in value]
    return next(texts) if isinstance(value, str) else value
