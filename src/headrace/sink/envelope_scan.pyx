# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True
"""How are plain envelopes read without a Python object for anything in between?

One pass over each text, without the interpreter's lock, and none but the commonest form:
an object of `collection_name`, `id`, `vector` and `payload`, each once at most, in any order.
Numbers of the vector are those whose digits and power of ten are exact in a double, so that
one multiplication or division rounds them as it should. Whatever is different ends the scan,
and is for others to read.

A payload is taken as it stands if that is how it would be written again; else it is marked.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

import numpy as np

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* The value of eight digits, or -1. All are looked at in one word: pairs of them are
       added up to numbers below 100, pairs of those to numbers below 10,000, and so on. */
    static inline int64_t hr_eight_digits(const char *at)
    {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        uint64_t word, low;
        memcpy(&word, at, 8);
        low = word ^ 0x3030303030303030u;
        if (((low + 0x7676767676767676u) | low) & 0x8080808080808080u)
            return -1;
        low = (low * 10 + (low >> 8)) & 0x00ff00ff00ff00ffu;
        low = (low * 100 + (low >> 16)) & 0x0000ffff0000ffffu;
        return (int64_t)((low * 10000 + (low >> 32)) & 0xffffffffu);
    #else
        (void)at;
        return -1;
    #endif
    }
    """
    int64_t hr_eight_digits(const char* at) noexcept nogil

cdef enum:
    DEPTH_MAX = 32
    KEYS_MAX = 32

# One less than would be needed for the smallest integer beyond 64 bits.
cdef int DIGITS_MAX = 18
# Numbers with so few significant digits are each the shortest that stands for their double.
cdef int SHORTEST_DIGITS_MAX = 15
cdef uint64_t EXACT_MAX = <uint64_t>1 << 53

cdef double[23] POWERS
POWERS[0] = 1.0
for _power in range(1, 23):
    POWERS[_power] = POWERS[_power - 1] * 10.0


cdef struct Part:
    const char* begin
    Py_ssize_t size


cdef struct Envelope:
    const char* text
    const char* end
    Part name
    # Of the id its text, if it is a string; else its value.
    Part id_text
    uint64_t id_number
    # Without a begin there is none.
    Part payload
    bint payload_as_written


cdef inline const char* _skip_space(const char* at, const char* end) noexcept nogil:
    while at < end and (at[0] == c" " or at[0] == c"\n" or at[0] == c"\r" or at[0] == c"\t"):
        at += 1
    return at


cdef inline bint _is_digit(char byte) noexcept nogil:
    return c"0" <= byte <= c"9"


cdef const char* _plain_string(const char* at, const char* end, Part* part) noexcept nogil:
    """Past a string of plain ASCII without escapes; NULL if it is anything else."""
    if at >= end or at[0] != c'"':
        return NULL
    at += 1
    part.begin = at
    while at < end and at[0] != c'"':
        if not 32 <= <unsigned char>at[0] < 128 or at[0] == c"\\":
            return NULL
        at += 1
    if at >= end:
        return NULL
    part.size = at - part.begin
    return at + 1


cdef const char* _component(const char* at, const char* end, float* out) noexcept nogil:
    """Past a number that is exact by its digits and power of ten; NULL if it is not."""
    cdef uint64_t digits = 0
    cdef int64_t eight
    cdef int significant = 0, power = 0, exponent = 0
    cdef bint is_negative = False, is_float = False, exponent_is_negative = False
    cdef double value
    if at < end and at[0] == c"-":
        is_negative = True
        at += 1
    if at >= end or not _is_digit(at[0]):
        return NULL
    if at[0] == c"0":
        at += 1
        if at < end and _is_digit(at[0]):
            return NULL
    while at < end and _is_digit(at[0]):
        digits = digits * 10 + <uint64_t>(at[0] - c"0")
        significant += 1
        if significant > DIGITS_MAX:
            return NULL
        at += 1
    if at < end and at[0] == c".":
        is_float = True
        at += 1
        if at >= end or not _is_digit(at[0]):
            return NULL
        if end - at >= 8 and significant <= DIGITS_MAX - 8:
            eight = hr_eight_digits(at)
            if eight >= 0:
                digits = digits * 100000000 + <uint64_t>eight
                significant += 8
                power -= 8
                at += 8
        while at < end and _is_digit(at[0]):
            digits = digits * 10 + <uint64_t>(at[0] - c"0")
            if digits:
                significant += 1
                if significant > DIGITS_MAX:
                    return NULL
            power -= 1
            at += 1
    if at < end and (at[0] == c"e" or at[0] == c"E"):
        is_float = True
        at += 1
        if at < end and (at[0] == c"-" or at[0] == c"+"):
            exponent_is_negative = at[0] == c"-"
            at += 1
        if at >= end or not _is_digit(at[0]):
            return NULL
        while at < end and _is_digit(at[0]):
            exponent = exponent * 10 + (at[0] - c"0")
            if exponent > 999:
                return NULL
            at += 1
        power += -exponent if exponent_is_negative else exponent
    if digits > EXACT_MAX or power < -22 or power > 22:
        return NULL
    value = <double>digits
    value = value / POWERS[-power] if power < 0 else value * POWERS[power]
    # An integer has no negative zero.
    out[0] = <float>(-value if is_negative and (is_float or digits) else value)
    return at


cdef const char* _vector(
    const char* at, const char* end, float* out, Py_ssize_t dim
) noexcept nogil:
    """Past an array of so many numbers; NULL if it is anything else."""
    cdef Py_ssize_t rank
    if at >= end or at[0] != c"[":
        return NULL
    at += 1
    for rank in range(dim):
        at = _component(_skip_space(at, end), end, &out[rank])
        if at == NULL:
            return NULL
        at = _skip_space(at, end)
        if at >= end or at[0] != (c"]" if rank == dim - 1 else c","):
            return NULL
        at += 1
    return at


cdef const char* _payload_string(
    const char* at, const char* end, Part* part, bint* as_written
) noexcept nogil:
    """Past a string; what is not plain ASCII may be written in another way."""
    at += 1
    part.begin = at
    while at < end and at[0] != c'"':
        if <unsigned char>at[0] < 32:
            return NULL
        if <unsigned char>at[0] >= 128:
            as_written[0] = False
        elif at[0] == c"\\":
            as_written[0] = False
            at += 1
        at += 1
    if at >= end:
        return NULL
    part.size = at - part.begin
    return at + 1


cdef const char* _payload_number(const char* at, const char* end, bint* as_written) noexcept nogil:
    """Past a number; only short ones without an exponent are known to be written like that."""
    cdef const char* begin
    cdef Py_ssize_t whole, fraction = 0, zeros = 0
    cdef bint is_negative = at[0] == c"-"
    if is_negative:
        at += 1
    begin = at
    while at < end and _is_digit(at[0]):
        at += 1
    whole = at - begin
    if whole == 0 or whole > DIGITS_MAX or (whole > 1 and begin[0] == c"0"):
        return NULL
    if at < end and at[0] == c".":
        at += 1
        begin = at
        while at < end and _is_digit(at[0]):
            if at[0] == c"0" and zeros == at - begin:
                zeros += 1
            at += 1
        fraction = at - begin
        if fraction == 0 or fraction > DIGITS_MAX:
            return NULL
        if (at - 1)[0] == c"0" and fraction > 1:
            as_written[0] = False
        # Smaller ones are written with an exponent.
        if whole + fraction > SHORTEST_DIGITS_MAX or zeros > 3:
            as_written[0] = False
    elif is_negative and whole == 1 and begin[0] == c"0":
        as_written[0] = False
    if at < end and (at[0] == c"e" or at[0] == c"E"):
        as_written[0] = False
        at += 1
        if at < end and (at[0] == c"-" or at[0] == c"+"):
            at += 1
        if at >= end or not _is_digit(at[0]):
            return NULL
        while at < end and _is_digit(at[0]):
            at += 1
    return at


cdef const char* _literal(const char* at, const char* end) noexcept nogil:
    if end - at >= 4 and (memcmp(at, b"true", 4) == 0 or memcmp(at, b"null", 4) == 0):
        return at + 4
    if end - at >= 5 and memcmp(at, b"false", 5) == 0:
        return at + 5
    return NULL


cdef inline const char* _payload_space(
    const char* at, const char* end, bint* as_written
) noexcept nogil:
    cdef const char* past = _skip_space(at, end)
    if past != at:
        as_written[0] = False
    return past


cdef const char* _payload_value(
    const char* at, const char* end, int depth, bint* as_written
) noexcept nogil:
    """Past a value; NULL if it is none, or nested too deeply."""
    cdef Part string
    if at >= end or depth > DEPTH_MAX:
        return NULL
    if at[0] == c'"':
        return _payload_string(at, end, &string, as_written)
    if at[0] == c"{":
        return _payload_object(at, end, depth, as_written)
    if at[0] == c"[":
        return _payload_array(at, end, depth, as_written)
    if at[0] == c"-" or _is_digit(at[0]):
        return _payload_number(at, end, as_written)
    return _literal(at, end)


cdef const char* _payload_array(
    const char* at, const char* end, int depth, bint* as_written
) noexcept nogil:
    at = _payload_space(at + 1, end, as_written)
    if at < end and at[0] == c"]":
        return at + 1
    while True:
        at = _payload_value(at, end, depth + 1, as_written)
        if at == NULL:
            return NULL
        at = _payload_space(at, end, as_written)
        if at >= end:
            return NULL
        if at[0] == c"]":
            return at + 1
        if at[0] != c",":
            return NULL
        at = _payload_space(at + 1, end, as_written)


cdef const char* _payload_object(
    const char* at, const char* end, int depth, bint* as_written
) noexcept nogil:
    """Past an object; of a key given twice the last value would be written alone."""
    cdef Part[KEYS_MAX] keys
    cdef int count = 0, other
    at = _payload_space(at + 1, end, as_written)
    if at < end and at[0] == c"}":
        return at + 1
    while True:
        if at >= end or at[0] != c'"':
            return NULL
        if count == KEYS_MAX:
            as_written[0] = False
            count = 0
        at = _payload_string(at, end, &keys[count], as_written)
        if at == NULL:
            return NULL
        for other in range(count):
            if keys[other].size == keys[count].size and not memcmp(
                keys[other].begin, keys[count].begin, <size_t>keys[count].size
            ):
                as_written[0] = False
        count += 1
        at = _payload_space(at, end, as_written)
        if at >= end or at[0] != c":":
            return NULL
        at = _payload_space(at + 1, end, as_written)
        at = _payload_value(at, end, depth + 1, as_written)
        if at == NULL:
            return NULL
        at = _payload_space(at, end, as_written)
        if at >= end:
            return NULL
        if at[0] == c"}":
            return at + 1
        if at[0] != c",":
            return NULL
        at = _payload_space(at + 1, end, as_written)


cdef const char* _id(const char* at, const char* end, Envelope* envelope) noexcept nogil:
    """Past an id: a string, or an integer of so many digits that it fits into 64 bits."""
    cdef uint64_t number = 0
    cdef const char* begin = at
    if at < end and at[0] == c'"':
        return _plain_string(at, end, &envelope.id_text)
    while at < end and _is_digit(at[0]):
        number = number * 10 + <uint64_t>(at[0] - c"0")
        at += 1
    if at == begin or at - begin > DIGITS_MAX or (at - begin > 1 and begin[0] == c"0"):
        return NULL
    envelope.id_number = number
    return at


cdef bint _is_key(Part* key, const char* name, Py_ssize_t size) noexcept nogil:
    return key.size == size and memcmp(key.begin, name, <size_t>size) == 0


cdef bint _envelope(Envelope* envelope, float* vector, Py_ssize_t dim) noexcept nogil:
    """Read one text; False if it is not of the common form."""
    cdef const char* end = envelope.end
    cdef const char* at = _skip_space(envelope.text, end)
    cdef const char* begin
    cdef Part key
    cdef bint has_id = False, has_vector = False, has_payload = False
    envelope.name.begin = NULL
    envelope.id_text.begin = NULL
    envelope.payload.begin = NULL
    envelope.payload_as_written = True
    if at >= end or at[0] != c"{":
        return False
    at += 1
    while True:
        at = _plain_string(_skip_space(at, end), end, &key)
        if at == NULL:
            return False
        at = _skip_space(at, end)
        if at >= end or at[0] != c":":
            return False
        at = _skip_space(at + 1, end)
        if _is_key(&key, b"vector", 6) and not has_vector:
            has_vector = True
            at = _vector(at, end, vector, dim)
        elif _is_key(&key, b"id", 2) and not has_id:
            has_id = True
            at = _id(at, end, envelope)
        elif _is_key(&key, b"collection_name", 15) and envelope.name.begin == NULL:
            at = _plain_string(at, end, &envelope.name)
        elif _is_key(&key, b"payload", 7) and not has_payload:
            has_payload = True
            begin = at
            if at < end and at[0] == c"{":
                at = _payload_object(at, end, 1, &envelope.payload_as_written)
                envelope.payload.begin = begin
                envelope.payload.size = at - begin
            elif end - at >= 4 and memcmp(at, b"null", 4) == 0:
                at += 4
            else:
                return False
        else:
            return False
        if at == NULL:
            return False
        at = _skip_space(at, end)
        if at >= end:
            return False
        if at[0] == c"}":
            break
        if at[0] != c",":
            return False
        at += 1
    return has_id and has_vector and _skip_space(at + 1, end) == end


cdef Py_ssize_t _width(const char* at, const char* end) noexcept nogil:
    """How many components the vector of a text seems to have; 0 without one."""
    cdef Py_ssize_t commas = 0
    while end - at >= 8 and memcmp(at, b'"vector"', 8) != 0:
        at += 1
    while at < end and at[0] != c"[":
        at += 1
    while at < end and at[0] != c"]":
        commas += at[0] == c","
        at += 1
    return commas + 1 if at < end else 0


def scan(list texts):
    """Read envelopes that are all of the common form, with vectors of one width.

    Args:
        texts: bytes, at least one.

    Returns:
        None if one is different; else, with an element for each text, its collection's name
        (bytes, or None), its point's id (an integer, or bytes that are to be a UUID), the
        vectors as a matrix of float32, its payload (bytes, or None without one), and the
        ranks of the payloads that are valid but for their strings, and not as they would be
        written again.
    """
    cdef Py_ssize_t count = len(texts), rank, dim
    cdef Envelope* envelopes = <Envelope*>malloc(<size_t>count * sizeof(Envelope))
    cdef float[:, ::1] matrix
    cdef bint is_common = True
    cdef bytes text
    if envelopes == NULL:
        raise MemoryError
    try:
        for rank in range(count):
            text = texts[rank]
            envelopes[rank].text = PyBytes_AS_STRING(text)
            envelopes[rank].end = envelopes[rank].text + PyBytes_GET_SIZE(text)
        dim = _width(envelopes[0].text, envelopes[0].end)
        # A shorter text cannot have so many.
        for rank in range(count):
            if dim == 0 or envelopes[rank].end - envelopes[rank].text < 2 * dim:
                return None
        vectors = np.empty((count, dim), dtype=np.float32)
        matrix = vectors
        with nogil:
            for rank in range(count):
                is_common = _envelope(&envelopes[rank], &matrix[rank, 0], dim)
                if not is_common:
                    break
        if not is_common:
            return None
        return (
            [_bytes(envelopes[rank].name) for rank in range(count)],
            [
                _bytes(envelopes[rank].id_text)
                if envelopes[rank].id_text.begin != NULL
                else envelopes[rank].id_number
                for rank in range(count)
            ],
            vectors,
            [_bytes(envelopes[rank].payload) for rank in range(count)],
            [rank for rank in range(count) if not envelopes[rank].payload_as_written],
        )
    finally:
        free(envelopes)


cdef object _bytes(Part part):
    if part.begin == NULL:
        return None
    return PyBytes_FromStringAndSize(part.begin, part.size)
