// The status list as a gate without a network reads it: keys, codes, both files, and what may be said of a code. Pure: bytes and times
// in, words out. It needs WebCrypto (HTTPS, loopback, or Node 20) and nothing of a page, so an integrator may copy this one file.
//
//   const list = new OfflineList();
//   list.keys = await OfflineList.readKeys(JSON.parse(jwks));
//   await list.takeBase(bytes); await list.takeChanges(bytes);      // "taken", "older" or "bad"; what is held never gets older
//   const said = await list.judge(text, Date.now());                // { state, stale, name, certNo, assurance, issuedAt, expiresAt }

const OFFLINE_CHARACTERS = 154;
const LIST_HEAD = 64;
const SIGNATURE = 64;
const COLUMN_BITS_MAX = 1 << 26;
const CLOCK_LEEWAY = 5 * 60000;
const CODE_EPOCH = 1577836800000;
const BASE_KIND = 1;
const CHANGES_KIND = 2;
// In the order of a changes file, and the safe side first.
const LIST_STATES = ["green", "red", "yellow", "void"];
const SAFE_FIRST = [3, 1, 2, 0];
const LENGTHS_OF_NUMBERS = [18, 9, 9, 12];
const ASSURANCES = ["unverified", "real_name", "real_person"];

function fmix(x) {
  x ^= x >>> 16;
  x = Math.imul(x, 0x85ebca6b);
  x ^= x >>> 13;
  x = Math.imul(x, 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

function listWord(high, low, seed, nth) {
  const salt = (seed + Math.imul(nth, 0x9e3779b9)) | 0;
  return fmix(fmix(high ^ salt) ^ low);
}

/** The upper 32 bits of a product of two numbers of 32 bits. */
function upperHalf(a, b) {
  const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = a1 * b0 + Math.floor((a0 * b0) / 65536);
  const other = a0 * b1 + (middle % 65536);
  return a1 * b1 + Math.floor(middle / 65536) + Math.floor(other / 65536);
}

/** What one ribbon says of an id: a bit for each column, the first lowest. `stop`: give up at the first column that is set. */
function ribbonBits(file, ribbon, high, low, stop) {
  const { at, span, seed, columns } = ribbon;
  const start = upperHalf(listWord(high, low, seed, 4), span);
  const bytes = columnBytes(span);
  const words = [0, 1, 2, 3].map((nth) => listWord(high, low, seed, nth));
  words[0] |= 1;
  let bits = 0;
  for (let column = 0; column < columns; column++) {
    const [from, end] = [at + column * bytes, at + (column + 1) * bytes];
    const [first, shift] = [from + (start >>> 3), start & 7];
    let parity = 0;
    for (let nth = 0; nth < 16; nth++) {
      const here = first + nth < end ? file[first + nth] : 0;
      const next = first + nth + 1 < end ? file[first + nth + 1] : 0;
      const window = ((here | (next << 8)) >>> shift) & 0xff;
      parity ^= window & ((words[nth >> 2] >>> ((nth & 3) * 8)) & 0xff);
    }
    parity ^= parity >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    if (parity & 1) {
      if (stop) return 1;
      bits |= 1 << column;
    }
  }
  return bits;
}

function columnBytes(span) {
  return Math.ceil((span + 128) / 8);
}

function readBytes(view, at) {
  return view.getUint32(at) * 4294967296 + view.getUint32(at + 4);
}

class OfflineList {
  constructor() {
    this.keys = { issuer: 0, byId: new Map() };
    this.base = null;
    this.changes = null;
    this.staleAfter = 30 * 60000;
    this.tooOldAfter = 12 * 3600000;
  }

  /** The public keys of a JWKS; one of another kind is passed over. */
  static async readKeys(jwks) {
    const byId = new Map();
    for (const jwk of jwks.keys) {
      if (jwk.kty !== "EC" || jwk.crv !== "P-256") continue;
      const { kty, crv, x, y } = jwk;
      const algorithm = { name: "ECDSA", namedCurve: "P-256" };
      const key = await crypto.subtle.importKey("jwk", { kty, crv, x, y }, algorithm, false, ["verify"]);
      byId.set(Number(jwk.kid), key);
    }
    return { issuer: Number(jwks.issuer), byId };
  }

  async signed(key, message, signature) {
    const algorithm = { name: "ECDSA", hash: "SHA-256" };
    return key !== undefined && (await crypto.subtle.verify(algorithm, key, signature, message));
  }

  /** The head of a file whose signature is good and whose lengths fit, or null. */
  async head(file, kind) {
    if (file.length < LIST_HEAD + SIGNATURE) return null;
    const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    const head = {
      planes: file[7],
      issuer: view.getUint32(8),
      number: readBytes(view, 16),
      asOf: readBytes(view, 24),
      until: readBytes(view, 32),
      own: [44, 48, 52, 56, 60].map((at) => view.getUint32(at)),
      end: file.length - SIGNATURE,
      view,
    };
    const isOurs = view.getUint32(0) === 0x4c4d4c31 && file[4] === kind && file[5] === 1 && head.planes <= 2;
    if (!isOurs || view.getUint32(12) !== 0 || head.issuer !== this.keys.issuer) return null;
    const good = await this.signed(
      this.keys.byId.get(file[6]), file.subarray(0, head.end), file.subarray(head.end));
    return good ? head : null;
  }

  async takeBase(file) {
    const head = await this.head(file, BASE_KIND);
    if (head === null) return "bad";
    const [listed, m1, k, m2, seed2] = head.own;
    if (Math.max(m1, m2) > COLUMN_BITS_MAX || k > 32) return "bad";
    const first = { at: LIST_HEAD, span: m1, seed: 1, columns: m1 === 0 ? 0 : k };
    let at = LIST_HEAD + first.columns * (m1 === 0 ? 0 : columnBytes(m1));
    const second = { at, span: m2, seed: seed2, columns: 1 };
    at += m2 === 0 ? 0 : columnBytes(m2);
    const which = { at: at + 8, span: 0, seed: 0, columns: head.planes };
    if (head.planes > 0) {
      if (at + 8 > head.end) return "bad";
      which.span = head.view.getUint32(at);
      which.seed = head.view.getUint32(at + 4);
      if (which.span === 0 || which.span > COLUMN_BITS_MAX) return "bad";
      at += 8 + head.planes * columnBytes(which.span);
    }
    if ((listed === 0) !== (m2 === 0) || at !== head.end) return "bad";
    const held = this.base;
    if (held !== null) {
      if (head.number < held.head.number || head.asOf < held.head.asOf) return "older";
      if (head.number === held.head.number) return "taken";
      if (head.asOf < this.asOf()) return "older";
    }
    this.base = { head, file, first, second, which };
    this.changes = null;
    return "taken";
  }

  async takeChanges(file) {
    const head = await this.head(file, CHANGES_KIND);
    if (head === null || head.planes !== 0 || head.own[4] !== 0) return "bad";
    const counts = head.own.slice(0, 4);
    const all = counts.reduce((sum, count) => sum + count, 0);
    if (LIST_HEAD + all * 8 !== head.end) return "bad";
    let at = LIST_HEAD;
    for (const count of counts) {
      for (let nth = 1; nth < count; nth++) {
        const [before, here] = [at + nth * 8 - 8, at + nth * 8];
        const [high, low] = [head.view.getUint32(before), head.view.getUint32(before + 4)];
        const [nextHigh, nextLow] = [head.view.getUint32(here), head.view.getUint32(here + 4)];
        if (nextHigh < high || (nextHigh === high && nextLow <= low)) return "bad";
      }
      at += count * 8;
    }
    // Changes of another base say nothing of this one.
    if (this.base === null || head.number !== this.base.head.number || head.asOf < this.asOf()) return "older";
    this.changes = { head, counts, file };
    return "taken";
  }

  /** Up to when the files are true, in milliseconds since 1970; null without a base. */
  asOf() {
    const newest = this.changes || this.base;
    return newest === null ? null : newest.head.asOf;
  }

  /** The state of an id by the changes, or undefined. */
  changed(high, low) {
    if (this.changes === null) return undefined;
    const { head, counts } = this.changes;
    const has = (state) => {
      let from = LIST_HEAD;
      for (let before = 0; before < state; before++) from += counts[before] * 8;
      let [least, most] = [0, counts[state] - 1];
      while (least <= most) {
        const middle = (least + most) >> 1;
        const [h, l] = [head.view.getUint32(from + middle * 8), head.view.getUint32(from + middle * 8 + 4)];
        if (h === high && l === low) return true;
        if (h < high || (h === high && l < low)) least = middle + 1;
        else most = middle - 1;
      }
      return false;
    };
    const found = SAFE_FIRST.find(has);
    return found === undefined ? undefined : LIST_STATES[found];
  }

  based(high, low) {
    const { file, first, second, which } = this.base;
    const isListed = second.span > 0
      && ribbonBits(file, first, high, low, true) === 0 && ribbonBits(file, second, high, low, false) === 1;
    if (!isListed) return "green";
    if (which.span === 0) return "red";
    const value = ribbonBits(file, which, high, low, false);
    if (value === 0) return "red";
    return which.columns === 2 && value === 1 ? "yellow" : "void";
  }

  /** What a list says of an id, whatever its age: for tests of a reader. */
  state(high, low) {
    return this.changed(high, low) || this.based(high, low);
  }

  /** A code as it was read, or null where it is none of this issuer's. */
  async open(text) {
    const bytes = decodeBase32(text.trim().toUpperCase());
    if (bytes === null || bytes[0] !== 0x19) return null;
    const view = new DataView(bytes.buffer);
    const [cert, assurance] = [bytes[22] & 3, (bytes[22] >> 2) & 3];
    const lifeHours = view.getUint16(20);
    const isForm = view.getUint16(14) < 1 << 14 && lifeHours >= 1 && lifeHours <= 8784
      && bytes[22] >> 4 === 0 && cert < LENGTHS_OF_NUMBERS.length && assurance < ASSURANCES.length;
    if (!isForm || view.getUint32(1) % 16777216 !== this.keys.issuer) return null;
    const context = Uint8Array.from("liangma offline 1", (c) => c.charCodeAt(0));
    const message = new Uint8Array(context.length + 32);
    message.set(context);
    message.set(bytes.subarray(0, 32), context.length);
    if (!(await this.signed(this.keys.byId.get(bytes[1]), message, bytes.subarray(32)))) return null;
    const issuedAt = CODE_EPOCH + 1000 * view.getUint32(16);
    const ends = String.fromCharCode(...bytes.subarray(23, 27));
    const first = bytes.subarray(27, 31);
    const length = first.indexOf(0) < 0 ? 4 : first.indexOf(0);
    return {
      high: view.getUint32(5),
      low: view.getUint32(9),
      issuedAt,
      expiresAt: issuedAt + lifeHours * 3600000,
      name: new TextDecoder().decode(first.subarray(0, length)) + "*".repeat(Math.min(bytes[31], 64)),
      certNo: ends.slice(0, 2) + "*".repeat(LENGTHS_OF_NUMBERS[cert] - 4) + ends.slice(2),
      assurance: ASSURANCES[assurance],
    };
  }

  /** What may be said of a code at `now` by the gate's own clock. Only green, red and yellow are colours; nothing else opens. */
  async judge(text, now) {
    const code = await this.open(text);
    if (code === null) return { state: "code_invalid", stale: false };
    const said = (state, stale = false) => Object.assign({}, code, { state, stale });
    if (this.base === null) return said("too_old");
    const asOf = this.asOf();
    if (now + CLOCK_LEEWAY < asOf) return said("clock");
    if (now >= code.expiresAt || now + CLOCK_LEEWAY < code.issuedAt) return said("code_expired");
    const age = Math.max(0, now - asOf);
    if (age > this.tooOldAfter || now > (this.changes || this.base).head.until) return said("too_old");
    if (code.issuedAt > asOf) return said("not_covered");
    return said(this.state(code.high, code.low), age > this.staleAfter);
  }
}

/** The bytes of an offline code's characters, or null. Each code has one spelling. */
function decodeBase32(text) {
  if (text.length !== OFFLINE_CHARACTERS) return null;
  const bytes = new Uint8Array(96);
  let [bits, count, at] = [0, 0, 0];
  for (const character of text) {
    const value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(character);
    if (value < 0) return null;
    bits = ((bits << 5) | value) & 0xfff;
    count += 5;
    if (count >= 8) {
      count -= 8;
      bytes[at++] = (bits >> count) & 0xff;
    }
  }
  return at === 96 && (bits & ((1 << count) - 1)) === 0 ? bytes : null;
}
