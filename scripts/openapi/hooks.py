"""What schemathesis cannot know of the API from its description: a link that leads to a package, and a folder
that may be written to. Orders that are meant to be good get both; others must never get that far."""

import itertools
import os

import schemathesis

LINK = os.environ["CHECK_LINK"]
FOLDER = os.environ["CHECK_FOLDER"]
numbers = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    shorten_wait(case.query)
    if not isinstance(case.body, dict):
        return
    if case.operation.path == "/api/v1/settings":
        mend_schedule(case.body.get("schedule"))
    elif case.method == "POST" and case.operation.path == "/api/v1/downloads":
        mend_order(case)
        mend_link(case)
    elif case.method == "POST" and case.operation.path == "/api/v1/links/inspect":
        mend_link(case)


def shorten_wait(query):
    """A long poll that is answered late is as it should be; the longest waits are tested elsewhere."""
    wait = str(query.get("wait", "")) if query else ""
    if wait.isascii() and wait.isdigit() and 1 < int(wait) <= 60:
        query["wait"] = 1


def mend_schedule(windows):
    """A pattern cannot say that a window must not end when it begins."""
    for window in windows if isinstance(windows, list) else []:
        if isinstance(window, dict) and "to" in window and window["to"] == window.get("from"):
            window["to"] = "24:00"


def mend_order(case):
    # Nothing outside the folder of this check is ever written to, whatever was made up.
    if isinstance(case.body.get("dst_folder"), str) and case.body["dst_folder"].startswith("/"):
        case.body["dst_folder"] = f"{FOLDER}/{next(numbers)}"


def mend_link(case):
    if isinstance(case.body.get("url"), str) and case.meta is not None and case.meta.generation.mode.is_positive:
        case.body["url"] = LINK
