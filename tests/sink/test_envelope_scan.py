from __future__ import annotations

import itertools
import json

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.sink.json_value import INTEGER_MAX, INTEGER_MIN

envelope_scan = pytest.importorskip(
    "headrace.sink.envelope_scan", reason="the package was built without a C compiler"
)


def component(text: str) -> np.float32 | None:
    """What the scan makes of a number; None if it leaves it to others."""
    found = envelope_scan.scan([b'{"id":1,"vector":[%s]}' % text.encode()])
    return None if found is None else found[2][0, 0]


def payload_of(text: str) -> tuple[bytes, bool] | None:
    """A payload, and whether it is as it would be written again."""
    found = envelope_scan.scan([b'{"vector":[1],"payload":%s,"id":1}' % text.encode()])
    return None if found is None else (found[3][0], not found[4])


DECIMALS = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**17).map(str),
    st.one_of(st.just(""), st.from_regex(r"\A\.0{0,9}[0-9]{1,17}\Z")),
    st.one_of(st.just(""), st.from_regex(r"\A[eE][-+]?[0-9]{1,3}\Z")),
)


class TestNumbers:
    @settings(max_examples=1_000)
    @given(
        st.one_of(
            DECIMALS,
            st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
            st.floats(width=32, allow_nan=False).map(lambda x: str(np.float32(x))),
        )
    )
    @example("-0")
    @example("-0.0")
    @example("0.12345678")
    @example("0.123456781")
    @example("9007199254740993")
    def test_what_is_taken_is_rounded_as_it_should_be(self, text: str) -> None:
        found = component(text)
        if found is not None:
            # An integer has no negative zero.
            value = float(text) if {*text} & {*".eE"} else float(int(text))
            assert found.tobytes() == np.float32(value).tobytes()

    @settings(max_examples=300)
    @given(st.floats(-1, 1, width=32).filter(lambda x: abs(x) > 1e-4))
    def test_components_as_float32_is_written_are_taken(self, value: float) -> None:
        text = orjson.dumps(np.array([value], np.float32), option=orjson.OPT_SERIALIZE_NUMPY)
        assert component(text[1:-1].decode()) == np.float32(value)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "null",
            "1 2",
            "1,",
            "[1",
            "1234567890123456789",
            "1e23",
            "1e-23",
            "9007199254740993.0",
            '"1"',
            "1.2345678:",
            "1/",
            "0.1234567/",
            "0.1234567:",
            "0.\x801234567",
        ],
    )
    def test_what_is_no_number_or_not_exact_is_left_alone(self, text: str) -> None:
        assert component(text) is None


JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(INTEGER_MIN, INTEGER_MAX),
        st.integers(-1000, 1000),
        st.floats(allow_nan=False, allow_infinity=False),
        st.floats(-1000, 1000).map(lambda x: round(x, 3)),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text('ab"é', max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


class TestPayloads:
    @settings(max_examples=500)
    @given(
        st.dictionaries(st.text("abc\\", max_size=2), JSON_VALUES, max_size=4),
        st.sampled_from([(",", ":"), (", ", ": ")]),
        st.booleans(),
    )
    def test_one_that_stays_as_it_is_would_be_written_the_same(
        self, payload: dict[str, object], separators: tuple[str, str], is_ascii: bool
    ) -> None:
        text = json.dumps(payload, separators=separators, ensure_ascii=is_ascii)
        found = payload_of(text)
        if found is not None:
            taken, is_as_written = found
            assert taken == text.encode()
            assert not is_as_written or taken == orjson.dumps(payload)

    @pytest.mark.parametrize(
        "text",
        [
            "{}",
            '{"a":[],"b":{},"c":[{}]}',
            '{"price":12.5,"n":-7,"zero":0,"small":0.0001,"flag":true,"none":null,"t":"x y"}',
            '{"a":{"a":1},"b":{"a":2}}',
            '{"a":-0.0,"b":5.0,"c":123456789012345678}',
        ],
    )
    def test_what_is_written_plainly_stays_as_it_is(self, text: str) -> None:
        assert payload_of(text) == (text.encode(), True)
        assert orjson.dumps(orjson.loads(text)) == text.encode()

    @pytest.mark.parametrize(
        "text",
        [
            '{"a":1,"a":2}',
            '{"a":{"b":1,"b":2}}',
            '{"a": 1}',
            '{"a":-0}',
            '{"a":1.50}',
            '{"a":0.00001}',
            '{"a":1e5}',
            '{"a":0.1234567890123456}',
            '{"a":"\\u0061"}',
            '{"a":"é"}',
            '{"a":"\\""}',
            "{" + ",".join(f'"k{i}":{i}' for i in range(40)) + "}",
        ],
    )
    def test_what_may_be_written_in_another_way_is_marked(self, text: str) -> None:
        assert payload_of(text) == (text.encode(), False)

    @pytest.mark.parametrize(
        "text",
        [
            "[]",
            "1",
            "{",
            '{"a"}',
            '{"a":}',
            '{"a":1,}',
            '{"a":01}',
            '{"a":1.}',
            '{"a":tru}',
            "{a:1}",
            '{"a":1234567890123456789}',
            '{"a":[1,]}',
            '{"a":"\n"}',
            '{"a":truex}',
            '{"a":1}}',
            '{"a":' * 40 + "1" + "}" * 40,
            '{"a":"\\',
            '{"a":-}',
            '{"a":NaN}',
        ],
    )
    def test_what_is_wrong_or_large_is_left_alone(self, text: str) -> None:
        assert payload_of(text) is None


def test_texts_of_another_width_or_shape_end_the_scan() -> None:
    good = b'{"id":1,"vector":[1,2]}'
    assert envelope_scan.scan([good, good]) is not None
    for other in (
        b"",
        b"{}",
        b'{"id":1,"vector":[1]}',
        b'{"id":1,"vector":[1,2,3]}',
        b'{"id":1,"vector":[1,2],"other":1}',
        b'{"id":1,"id":2,"vector":[1,2]}',
        b'{"id":-1,"vector":[1,2]}',
        b'{"vector":[1,2]}',
        b'{"id":1}',
        b'{"id":1,"vector":[1,2]',
        b'{"id":1,"vector":[1,2]} x',
    ):
        assert envelope_scan.scan([good, other]) is None
        assert envelope_scan.scan([other, good]) is None


def test_the_order_of_the_fields_is_free() -> None:
    fields = [
        b'"collection_name":"c"',
        b'"payload":{"tags":["a","b","c"]}',
        b'"vector":[1,2]',
        b'"id":7',
    ]
    for order in itertools.permutations(fields):
        found = envelope_scan.scan([b"{%b}" % b",".join(order)])
        assert found is not None
        names, ids, vectors, payloads, rewritten = found
        assert (names, ids, payloads) == ([b"c"], [7], [b'{"tags":["a","b","c"]}'])
        assert vectors.tolist() == [[1, 2]]
        assert rewritten == []
