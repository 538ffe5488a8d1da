// The text that Prometheus reads, as numbers: { name: [{ labels, value }] }. Pure.

function exposition(text) {
  const meters = {};
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    const pairs = /(\w+)="((?:[^"\\]|\\.)*)"/g;
    for (let pair = pairs.exec(found[2] || ""); pair; pair = pairs.exec(found[2])) labels[pair[1]] = pair[2];
    (meters[found[1]] = meters[found[1]] || []).push({ labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return meters;
}

// The sum of a meter's lines that bear these labels; null where it has none.
function total(meters, name, labels = {}) {
  const lines = (meters[name] || []).filter((line) => Object.keys(labels).every((label) => line.labels[label] === labels[label]));
  return lines.length ? lines.reduce((sum, line) => sum + line.value, 0) : null;
}

// Below what a part of a histogram's counts lie, between two readings: the bound of the bucket. Null where nothing was counted.
function quantile(now, before, name, labels, part) {
  const buckets = (meters) => (meters[name + "_bucket"] || []).filter((line) => Object.keys(labels).every((label) => line.labels[label] === labels[label]));
  const old = buckets(before);
  const counts = buckets(now).map((line) => {
    const same = old.find((other) => other.labels.le === line.labels.le);
    return { bound: line.labels.le === "+Inf" ? Infinity : Number(line.labels.le), count: line.value - (same ? same.value : 0) };
  });
  const all = counts.length ? counts[counts.length - 1].count : 0;
  const found = all > 0 && counts.find((bucket) => bucket.count >= all * part);
  return found ? found.bound : null;
}
