// Text to a QR code (ISO/IEC 18004): versions 1 to 10 at level M, alphanumeric where the text allows, bytes otherwise.
// Out: { size, dark(x, y) }, or null where the text is too long. Pure.

const QR_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";

// For each version: codewords of error correction a block, then the data codewords of each block.
const QR_BLOCKS = [
  null,
  [10, [16]],
  [16, [28]],
  [26, [44]],
  [18, [32, 32]],
  [24, [43, 43]],
  [16, [27, 27, 27, 27]],
  [18, [31, 31, 31, 31]],
  [22, [38, 38, 39, 39]],
  [22, [36, 36, 36, 37, 37]],
  [26, [43, 43, 43, 43, 44]],
];

const QR_ALIGNED = [
  null, [], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46], [6, 28, 50],
];

const QR_MASKS = [
  (x, y) => (x + y) % 2,
  (x, y) => y % 2,
  (x, y) => x % 3,
  (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(y / 2) + Math.floor(x / 3)) % 2,
  (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

function qr(text) {
  for (let version = 1; version < QR_BLOCKS.length; version += 1) {
    const data = qrData(text, version);
    if (data) return qrDrawn(version, qrWoven(data, QR_BLOCKS[version]));
  }
  return null;
}

// The data codewords of a version, padded; null where they do not fit.
function qrData(text, version) {
  const bits = [];
  const put = (value, length) => {
    for (let i = length - 1; i >= 0; i -= 1) bits.push((value >>> i) & 1);
  };
  const values = Array.from(text, (one) => QR_ALPHANUMERIC.indexOf(one));
  if (values.every((value) => value >= 0)) {
    put(2, 4);
    put(values.length, version < 10 ? 9 : 11);
    for (let i = 0; i < values.length; i += 2) {
      if (i + 1 < values.length) put(values[i] * 45 + values[i + 1], 11);
      else put(values[i], 6);
    }
  } else {
    const bytes = unescape(encodeURIComponent(text));
    put(4, 4);
    put(bytes.length, version < 10 ? 8 : 16);
    for (let i = 0; i < bytes.length; i += 1) put(bytes.charCodeAt(i), 8);
  }
  const room = QR_BLOCKS[version][1].reduce((sum, block) => sum + block, 0) * 8;
  if (bits.length > room) return null;
  put(0, Math.min(4, room - bits.length));
  while (bits.length % 8) bits.push(0);
  for (let pad = 0xec; bits.length < room; pad ^= 0xfd) put(pad, 8);
  const data = [];
  for (let i = 0; i < bits.length; i += 8) {
    data.push(bits.slice(i, i + 8).reduce((byte, bit) => byte * 2 + bit, 0));
  }
  return data;
}

// Blocks with their error correction, one codeword of each in turn.
function qrWoven(data, [corrected, sizes]) {
  const divisor = qrDivisor(corrected);
  let start = 0;
  const blocks = sizes.map((size) => {
    const block = data.slice(start, start + size);
    start += size;
    return block;
  });
  const rests = blocks.map((block) => qrRest(block, divisor));
  const woven = [];
  for (const parts of [blocks, rests]) {
    for (let i = 0; i < Math.max(...parts.map((part) => part.length)); i += 1) {
      for (const part of parts) if (i < part.length) woven.push(part[i]);
    }
  }
  return woven;
}

// Reed and Solomon over GF(256) with x^8 + x^4 + x^3 + x^2 + 1.
function qrTimes(a, b) {
  let product = 0;
  for (let i = 7; i >= 0; i -= 1) {
    product = (product << 1) ^ ((product >>> 7) * 0x11d);
    product ^= ((b >>> i) & 1) * a;
  }
  return product;
}

function qrDivisor(degree) {
  const divisor = new Array(degree).fill(0);
  divisor[degree - 1] = 1;
  let root = 1;
  for (let i = 0; i < degree; i += 1) {
    for (let j = 0; j < degree; j += 1) {
      divisor[j] = qrTimes(divisor[j], root) ^ (j + 1 < degree ? divisor[j + 1] : 0);
    }
    root = qrTimes(root, 2);
  }
  return divisor;
}

function qrRest(block, divisor) {
  const rest = new Array(divisor.length).fill(0);
  for (const byte of block) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    divisor.forEach((term, i) => {
      rest[i] ^= qrTimes(term, factor);
    });
  }
  return rest;
}

// The symbol in the mask that reads best.
function qrDrawn(version, codewords) {
  const size = version * 4 + 17;
  const plain = qrGrid(size, version);
  qrFill(plain, codewords);
  let best = null;
  for (let mask = 0; mask < 8; mask += 1) {
    const cells = plain.cells.map((row, y) =>
      row.map((dark, x) => (plain.fixed[y][x] ? dark : dark ^ (QR_MASKS[mask](x, y) === 0 ? 1 : 0))),
    );
    qrFormat(cells, mask);
    const penalty = qrPenalty(cells);
    if (!best || penalty < best.penalty) best = { penalty, cells };
  }
  return { size, dark: (x, y) => best.cells[y][x] === 1 };
}

// Finders, timing, alignment, version; room for the format.
function qrGrid(size, version) {
  const rows = () => Array.from({ length: size }, () => new Array(size).fill(0));
  const grid = { size, cells: rows(), fixed: rows() };
  const set = (x, y, dark) => {
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    grid.cells[y][x] = dark ? 1 : 0;
    grid.fixed[y][x] = 1;
  };
  for (let i = 0; i < size; i += 1) {
    set(6, i, i % 2 === 0);
    set(i, 6, i % 2 === 0);
  }
  const ring = (cx, cy, radius, dark) => {
    for (let dy = -radius; dy <= radius; dy += 1) {
      for (let dx = -radius; dx <= radius; dx += 1) set(cx + dx, cy + dy, dark(Math.max(Math.abs(dx), Math.abs(dy))));
    }
  };
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) ring(x, y, 4, (far) => far !== 2 && far !== 4);
  const places = QR_ALIGNED[version];
  const last = places.length - 1;
  places.forEach((x, i) => {
    places.forEach((y, j) => {
      const taken = (i === 0 && j === 0) || (i === 0 && j === last) || (i === last && j === 0);
      if (!taken) ring(x, y, 2, (far) => far !== 1);
    });
  });
  qrFormat(grid.cells, 0, (x, y) => set(x, y, 0));
  if (version >= 7) {
    const bits = (version << 12) | qrBch(version, 12, 0x1f25);
    for (let i = 0; i < 18; i += 1) {
      const [a, b] = [size - 11 + (i % 3), Math.floor(i / 3)];
      set(a, b, (bits >>> i) & 1);
      set(b, a, (bits >>> i) & 1);
    }
  }
  return grid;
}

function qrBch(value, length, polynomial) {
  let rest = value << length;
  const top = (n) => 31 - Math.clz32(n);
  while (rest && top(rest) >= length) rest ^= polynomial << (top(rest) - length);
  return rest;
}

// Level M is 00, so the format is the mask alone. Twice, around the finders; and the one dark cell.
function qrFormat(cells, mask, visit) {
  const size = cells.length;
  const bits = ((mask << 10) | qrBch(mask, 10, 0x537)) ^ 0x5412;
  const put = (x, y, dark) => (visit ? visit(x, y) : (cells[y][x] = dark));
  for (let i = 0; i < 15; i += 1) {
    const bit = (bits >>> i) & 1;
    if (i < 6) put(8, i, bit);
    else if (i < 8) put(8, i + 1, bit);
    else if (i === 8) put(7, 8, bit);
    else put(14 - i, 8, bit);
    if (i < 8) put(size - 1 - i, 8, bit);
    else put(8, size - 15 + i, bit);
  }
  put(8, size - 8, 1);
}

// Up and down in pairs of columns from the right, past the timing column.
function qrFill({ size, cells, fixed }, codewords) {
  let bit = 0;
  let up = true;
  for (let right = size - 1; right > 0; right -= 2) {
    if (right === 6) right = 5;
    for (let i = 0; i < size; i += 1) {
      const y = up ? size - 1 - i : i;
      for (const x of [right, right - 1]) {
        if (fixed[y][x]) continue;
        cells[y][x] = bit < codewords.length * 8 ? (codewords[bit >>> 3] >>> (7 - (bit & 7))) & 1 : 0;
        bit += 1;
      }
    }
    up = !up;
  }
}

// Runs, blocks, patterns that look like a finder, imbalance: what makes a symbol hard to read.
function qrPenalty(cells) {
  const size = cells.length;
  let penalty = 0;
  let dark = 0;
  const lines = cells.concat(cells.map((_, x) => cells.map((row) => row[x])));
  for (const line of lines) {
    let run = 1;
    for (let i = 1; i <= size; i += 1) {
      if (i < size && line[i] === line[i - 1]) run += 1;
      else {
        if (run >= 5) penalty += run - 2;
        run = 1;
      }
    }
    const text = line.join("");
    for (const pattern of ["10111010000", "00001011101"]) {
      for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + 1)) penalty += 40;
    }
  }
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      dark += cells[y][x];
      if (y && x) {
        const same = cells[y][x] + cells[y - 1][x] + cells[y][x - 1] + cells[y - 1][x - 1];
        if (same === 0 || same === 4) penalty += 3;
      }
    }
  }
  return penalty + Math.floor(Math.abs((dark * 20) / (size * size) - 10)) * 10;
}
