from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from headrace.engine.payload_index.documents import MemberReader

bounded = settings(max_examples=200, derandomize=True, database=None, deadline=None)

names = st.text(max_size=4) | st.sampled_from(("a", "b", "é", 'quote"', "back\\slash", "new\nline"))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@bounded
@given(
    documents=st.lists(st.dictionaries(names, json_values, max_size=4), max_size=4),
    wanted=st.lists(names, unique=True, max_size=4),
)
def test_members_are_those_of_the_whole_document(
    documents: list[dict[str, Any]], wanted: list[str]
) -> None:
    payloads = [orjson.dumps(document) for document in documents]
    members = MemberReader(wanted).read(payloads)
    whole = [orjson.loads(payload) for payload in payloads]
    expected = [[document.get(name, UNSET) for document in whole] for name in wanted]
    assert repr(members) == repr(expected)


def test_escaped_and_repeated_names_are_read_as_in_a_whole_document() -> None:
    payloads = [b'{"\\u0061":1,"b":2}', b'{"a":1,"a":2}', b'{ "b" : [ ] , "a" : {} }']
    assert MemberReader(["a", "b"]).read(payloads) == [[1, 2, {}], [2, UNSET, []]]


def test_documents_deeper_than_the_decoder_goes_are_read() -> None:
    deep = b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}"
    (members,) = MemberReader(["a"]).read([deep, b'{"a":1}'])
    depth, value = 0, members[0]
    while value:
        depth, value = depth + 1, value[0]
    assert depth == 999
    assert members[1] == 1
