// Many codes through the bulk scan. Verdicts come while codes still go; what was cut off stays unchecked and is never filled in.

// Asks for verdicts of lines of codes; `each` hears how many there are so far. Out: { verdicts, whole, refusal }.
function bulkScan(lines, credential, each) {
  const verdicts = [];
  const headers = { "Content-Type": "text/plain", "Accept-Language": language, Authorization: "Bearer " + credential };
  const take = (pieces) => {
    for (const line of pieces) if (line) verdicts.push(JSON.parse(line));
    each(verdicts.length);
  };
  return fetch("v1/scan/bulk", { method: "POST", headers, body: lines.join("\n") + "\n", cache: "no-store", credentials: "omit" })
    .then((response) => {
      if (!response.ok) return understand(response).then(({ refusal }) => ({ verdicts, whole: false, refusal }));
      return readLines(response, take).then(() => ({ verdicts, whole: verdicts.length === lines.length }));
    })
    .catch(() => ({ verdicts, whole: false }));
}

function readLines(response, take) {
  let rest = "";
  const cut = (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    take(lines);
  };
  if (!response.body || !response.body.getReader || typeof TextDecoder !== "function") return response.text().then(cut);
  const reader = response.body.getReader();
  const decode = new TextDecoder();
  const step = () => reader.read().then(({ done, value }) => {
    if (done) return undefined;
    cut(decode.decode(value, { stream: true }));
    return step();
  });
  return step();
}
