"""An embedded store of a synthetic town, who lives there, and tokens."""

import itertools
import json

from shared.tool import Failed, run, say


def make(liangma, residents, seed, folder):
    """Makes a store. Returns its folder, and the NDJSON that was imported into it."""
    say(f"making a store of {residents} residents")
    store, people = folder / "store", folder / "people.ndjson"
    run([liangma, "synth", "--residents", residents, "--seed", seed, "--out", people])
    run([liangma, "import", people, "--store", store])
    return store, people


def residents(people, most):
    """The first residents of what `liangma synth` made, at least one."""
    with open(people, encoding="utf-8") as lines:
        events = (event for event in map(json.loads, lines) if event["event"] == "resident")
        some = list(itertools.islice(events, most))
    if not some:
        raise Failed(f"{people} has no resident")
    return some


def token(liangma, keys, kind, *words):
    return run([liangma, "token", kind, "--keys", keys, *words]).strip()


def session(liangma, keys, person):
    """A resident's token."""
    fields = [(f"--{name.replace('_', '-')}", person[name]) for name in ("cert_type", "cert_no", "name", "assurance")]
    return token(liangma, keys, "resident", *itertools.chain(*fields))
