"""A gate without a network, in Python 3.9 or later. Signatures need the package `cryptography`; the rest is the standard library.

    python3 offline_gate.py KEYS.json NOW_MS FILE... < CODES

Prints for each file whether it was taken, then for each code a line: state, fresh or stale, masked name, masked number.
Only green, red and yellow are colours, and nothing but green opens. Print the age of the list beside every colour.
"""

import base64
import bisect
import json
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

STATES = ("green", "red", "yellow", "void")  # in the order of a changes file
SAFE_FIRST = (3, 1, 2, 0)
NUMBER_LENGTHS = (18, 9, 9, 12)
ASSURANCES = ("unverified", "real_name", "real_person")
CLOCK_LEEWAY = 5 * 60_000
CODE_EPOCH = 1_577_836_800_000
COLUMN_BITS_MAX = 1 << 26
MASK = 0xFFFFFFFF


class Bad(Exception):
    """Not a file or code of this issuer, or changed on the way."""


def verify(key, message, signature):
    if key is None:
        raise Bad
    halves = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        key.verify(utils.encode_dss_signature(*halves), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        raise Bad from None


def read_keys(jwks):
    """The issuer, and its public keys by id; a key of another kind is passed over."""
    keys = {}
    for jwk in jwks["keys"]:
        if (jwk.get("kty"), jwk.get("crv")) != ("EC", "P-256"):
            continue
        x, y = (int.from_bytes(base64.urlsafe_b64decode(jwk[part] + "=="), "big") for part in "xy")
        keys[int(jwk["kid"])] = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    return int(jwks["issuer"]), keys


def fmix(x):
    x ^= x >> 16
    x = x * 0x85EBCA6B & MASK
    x ^= x >> 13
    x = x * 0xC2B2AE35 & MASK
    return x ^ x >> 16


def word(list_id, seed, nth):
    return fmix(fmix(list_id >> 32 ^ (seed + nth * 0x9E3779B9 & MASK)) ^ list_id & MASK)


def column_bytes(span):
    return (span + 128 + 7) // 8 if span else 0


class Ribbon:
    def __init__(self, at, span, seed, columns):
        self.at, self.span, self.seed, self.columns = at, span, seed, columns if span else 0
        self.end = at + self.columns * column_bytes(span)

    def bits(self, file, list_id):
        """A bit for each column, the first lowest."""
        start = word(list_id, self.seed, 4) * self.span >> 32
        row = sum(word(list_id, self.seed, nth) << 32 * nth for nth in range(4)) | 1
        length, said = column_bytes(self.span), 0
        for column in range(self.columns):
            first = self.at + column * length
            window = file[first + start // 8 : min(first + start // 8 + 17, first + length)]
            parity = bin((int.from_bytes(window, "little") >> start % 8) & row).count("1") & 1
            said |= parity << column
        return said


class Head:
    def __init__(self, file, kind, issuer, keys):
        if len(file) < 128:
            raise Bad
        magic, found, algorithm, key, self.planes, of, zero = struct.unpack_from(">4sBBBBII", file)
        self.number, self.as_of, self.until, self.residents = struct.unpack_from(">QQQI", file, 16)
        self.own = struct.unpack_from(">5I", file, 44)
        if (magic, found, algorithm, of, zero) != (b"LML1", kind, 1, issuer, 0) or self.planes > 2:
            raise Bad
        self.end = len(file) - 64
        verify(keys.get(key), file[: self.end], file[self.end :])


class Base:
    def __init__(self, file, issuer, keys):
        self.head, self.file = Head(file, 1, issuer, keys), file
        listed, m1, k, m2, seed2 = self.head.own
        if max(m1, m2) > COLUMN_BITS_MAX or k > 32:
            raise Bad
        self.first = Ribbon(64, m1, 1, k)
        self.second = Ribbon(self.first.end, m2, seed2, 1)
        self.which, end = None, self.second.end
        if self.head.planes:
            if end + 8 > self.head.end:
                raise Bad
            span, seed = struct.unpack_from(">II", file, end)
            if not 0 < span <= COLUMN_BITS_MAX:
                raise Bad
            self.which = Ribbon(end + 8, span, seed, self.head.planes)
            end = self.which.end
        if (listed == 0) != (m2 == 0) or end != self.head.end:
            raise Bad

    def state(self, list_id):
        if not self.second.span or self.first.bits(self.file, list_id) or self.second.bits(self.file, list_id) != 1:
            return "green"
        value = self.which.bits(self.file, list_id) if self.which else 0
        if value == 0:
            return "red"
        return "yellow" if self.which.columns == 2 and value == 1 else "void"


class Changes:
    def __init__(self, file, issuer, keys):
        self.head = Head(file, 2, issuer, keys)
        counts = self.head.own[:4]
        if self.head.planes or self.head.own[4] or 64 + 8 * sum(counts) != self.head.end:
            raise Bad
        ids = struct.unpack_from(">%dQ" % sum(counts), file, 64)
        self.states, at = [], 0
        for count in counts:
            own = ids[at : at + count]
            if any(a >= b for a, b in zip(own, own[1:])):
                raise Bad
            self.states.append(own)
            at += count

    def state(self, list_id):
        for state in SAFE_FIRST:
            own = self.states[state]
            at = bisect.bisect_left(own, list_id)
            if at < len(own) and own[at] == list_id:
                return STATES[state]
        return None


class Code:
    def __init__(self, text, issuer, keys):
        text = text.strip().upper()
        if len(text) != 154:
            raise Bad
        try:
            data = base64.b32decode(text + "=" * (-len(text) % 8))
        except ValueError:
            raise Bad from None
        # Each code has one spelling: what is left over must be zero.
        if len(data) != 96 or base64.b32encode(data).decode().rstrip("=") != text:
            raise Bad
        first, key = data[0], data[1]
        self.list_id, _generation, check, seconds, hours = struct.unpack_from(">QBHIH", data, 5)
        kind, assurance = data[22] & 3, data[22] >> 2 & 3
        if first != 0x19 or check >= 1 << 14 or not 1 <= hours <= 8_784 or data[22] >> 4:
            raise Bad
        if kind >= len(NUMBER_LENGTHS) or assurance >= len(ASSURANCES):
            raise Bad
        if int.from_bytes(data[2:5], "big") != issuer:
            raise Bad
        verify(keys.get(key), b"liangma offline 1" + data[:32], data[32:])
        self.issued_at = CODE_EPOCH + 1_000 * seconds
        self.expires_at = self.issued_at + 3_600_000 * hours
        ends = data[23:27].decode("ascii", "replace")
        self.cert_no = ends[:2] + "*" * (NUMBER_LENGTHS[kind] - 4) + ends[2:]
        self.name = data[27:31].split(b"\0")[0].decode("utf-8", "replace") + "*" * min(data[31], 64)
        self.assurance = ASSURANCES[assurance]


class Gate:
    """The newest files of one issuer. What is held never gets older, and a bad file replaces nothing."""

    def __init__(self, issuer, keys, stale_after=30 * 60_000, too_old_after=12 * 3_600_000):
        self.issuer, self.keys = issuer, keys
        self.stale_after, self.too_old_after = stale_after, too_old_after
        self.base = self.changes = None

    def as_of(self):
        newest = self.changes or self.base
        return newest.head.as_of if newest else None

    def take(self, file):
        """Returns taken, older or bad."""
        try:
            if file[4:5] == b"\2":
                return self._take_changes(Changes(file, self.issuer, self.keys))
            return self._take_base(Base(file, self.issuer, self.keys))
        except Bad:
            return "bad"

    def _take_base(self, base):
        if self.base:
            held = self.base.head
            if base.head.number < held.number or base.head.as_of < held.as_of:
                return "older"
            if base.head.number == held.number:
                return "taken"
            if base.head.as_of < self.as_of():
                return "older"
        self.base, self.changes = base, None
        return "taken"

    def _take_changes(self, changes):
        # Changes of another base say nothing of this one.
        if not self.base or changes.head.number != self.base.head.number or changes.head.as_of < self.as_of():
            return "older"
        self.changes = changes
        return "taken"

    def state(self, list_id):
        """What the files say of an id, whatever their age."""
        return (self.changes and self.changes.state(list_id)) or self.base.state(list_id)

    def judge(self, text, now):
        """State, whether the list is stale, and the code or None. `now` is the gate's clock, in milliseconds since 1970."""
        try:
            code = Code(text, self.issuer, self.keys)
        except Bad:
            return "code_invalid", False, None
        if not self.base:
            return "too_old", False, code
        as_of = self.as_of()
        if now + CLOCK_LEEWAY < as_of:
            return "clock", False, code
        if now >= code.expires_at or now + CLOCK_LEEWAY < code.issued_at:
            return "code_expired", False, code
        age = max(0, now - as_of)
        if age > self.too_old_after or now > (self.changes or self.base).head.until:
            return "too_old", False, code
        if code.issued_at > as_of:
            return "not_covered", False, code
        return self.state(code.list_id), age > self.stale_after, code


def main(keys, now, *files):
    with open(keys, encoding="utf-8") as jwks:
        gate = Gate(*read_keys(json.load(jwks)))
    for name in files:
        with open(name, "rb") as file:
            print(gate.take(file.read()))
    for line in sys.stdin:
        state, stale, code = gate.judge(line, int(now))
        holder = " %s %s" % (code.name, code.cert_no) if code else ""
        print("%s %s%s" % (state, "stale" if stale else "fresh", holder))


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    main(*sys.argv[1:])
