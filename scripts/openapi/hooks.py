"""What schemathesis cannot know of the API from its description: a link that leads to a package, and a folder
that may be written to. Orders that are meant to be good get both; others must never get that far."""

import itertools
import os

import schemathesis

LINK = os.environ["CHECK_LINK"]
FOLDER = os.environ["CHECK_FOLDER"]
numbers = itertools.count()


def is_order(case):
    return case.method == "POST" and case.operation.path == "/api/v1/downloads" and isinstance(case.body, dict)


@schemathesis.hook
def before_call(context, case, kwargs):
    if not is_order(case):
        return
    # Nothing outside the folder of this check is ever written to, whatever was made up.
    if isinstance(case.body.get("dst_folder"), str) and case.body["dst_folder"].startswith("/"):
        case.body["dst_folder"] = f"{FOLDER}/{next(numbers)}"
    if isinstance(case.body.get("url"), str) and case.meta is not None and case.meta.generation.mode.is_positive:
        case.body["url"] = LINK
