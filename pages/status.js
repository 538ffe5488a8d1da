// The status page: reads /metrics every two seconds and draws what it says, for the minute when nothing else does.

const EVERY = 2000;
const KEPT = 150; // readings in a line: five minutes
const DOORS = ["resident", "gate", "desk", "ops", "exchange"];
const ANSWERED = ["done", "green", "yellow", "red", "unknown", "too_old"];

// A node that hangs holds its connections open: what has not answered by then counts as no answer.
const ANSWER_WITHIN = 4000;

const history = {};
let before = null;
let heard = null; // when the last answer came

function within(path) {
  const cut = typeof AbortController === "function" ? new AbortController() : null;
  let timer;
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error("late"));
      if (cut) cut.abort();
    }, ANSWER_WITHIN);
  });
  const answer = fetch(path, { cache: "no-store", signal: cut ? cut.signal : undefined }).then((response) => response.text());
  return Promise.race([answer, late]).then((body) => {
    clearTimeout(timer);
    return body;
  }, (error) => {
    clearTimeout(timer);
    throw error;
  });
}

function read() {
  const asked = moment();
  Promise.all([within("metrics"), within("ready").then(JSON.parse)]).then(([text, ready]) => {
    const now = { at: asked.steady, meters: exposition(text) };
    if (before && total(now.meters, "liangma_connections_accepted_total") < total(before.meters, "liangma_connections_accepted_total")) before = null;
    draw(now, before || now, ready);
    before = now;
    heard = moment();
    age();
  }).catch(age).then(() => setTimeout(read, EVERY));
}

// Figures of a node that has ceased to answer are of the past, and look it.
function age() {
  const silent = heard ? since(heard) : null;
  const old = silent === null || silent > EVERY + ANSWER_WITHIN;
  document.body.dataset.old = String(old && before !== null);
  if (!old) return;
  text("ready", silent === null ? "no answer" : "no answer for " + Math.round(silent / 1000) + " s");
  delete part("ready").dataset.good;
  show("old", silent !== null);
  if (silent !== null) text("old", "Everything below is of " + Math.round(silent / 1000) + " s ago.");
}

function draw(now, then, ready) {
  const seconds = Math.max(0.001, (now.at - then.at) / 1000);
  const value = (name, labels) => total(now.meters, name, labels);
  const rate = (name, labels) => now === then ? 0 : Math.max(0, (value(name, labels) || 0) - (total(then.meters, name, labels) || 0)) / seconds;
  text("ready", ready.state);
  show("old", false);
  if (ready.state === "ready") part("ready").dataset.good = "";
  else delete part("ready").dataset.good;
  text("read", clockTime(Date.now()) + " UTC+8");
  text("node", location.host);
  const build = (now.meters.liangma_build_info || [])[0];
  part("version").textContent = build ? build.labels.version : "";
  drawFacts(value, rate);
  drawAlarms(value, rate, ready);
  fill("doors", DOORS.filter((door) => value("liangma_connections_limit_max", { door }) !== null).map((door) => row([
    door, count(value("liangma_connections", { door })), count(value("liangma_connections_limit", { door })), count(value("liangma_connections_limit_max", { door })),
    perSecond(rate("liangma_connections_accepted_total", { door })), perSecond(rate("liangma_connections_rejected_total", { door })),
    time(value("liangma_queue_delay_seconds", { door, quantile: "0.9" })), count(value("liangma_accept_queue", { door })),
    time(value("liangma_retry_after_seconds", { door })),
  ])));
  drawQueries(now, then, rate);
}

function drawFacts(value, rate) {
  const facts = [
    ["residents on the board", count(value("liangma_residents")), "people of whom this node can tell at once"],
    ["on record at the start", count(value("liangma_residents_on_record")), "people in the store when this node started"],
    ["board filled", value("liangma_board_filled") ? "yes" : "no", "whether everybody on record is on the board"],
    ["age of what is known", time(value("liangma_data_age_seconds")), "how far this node is behind the store"],
    ["changes fed/s", perSecond(rate("liangma_feed_events_total", { outcome: "applied" })), "lines of feeds to this node that changed something"],
    ["lines rejected/s", perSecond(rate("liangma_feed_events_total", { outcome: "rejected" })), "lines of feeds to this node that were wrong"],
    ["codes in bulk/s", perSecond(rate("liangma_bulk_codes_total")), "codes checked by bulk scans"],
    ["asking the store", count(value("liangma_store_lookups_in_flight")) + " of " + count(value("liangma_store_lookups_limit")), "queries that memory could not answer, now and at most"],
    ["store takes", time(value("liangma_store_rtt_seconds", { stat: "smoothed" })), "how long the store takes to answer a query of late"],
    ["held red", count(value("liangma_board_retained_reds")), "people who stay red for what the store has lost"],
    ["ahead of the store", count(value("liangma_board_lost_by_store")), "people of whom this node knows more than the store"],
    ["store failures", count(value("liangma_store_failures_total")), "commits that failed since the start"],
  ];
  fill("facts", facts.map(([name, words, what]) => element("div", element("dt", name), element("dd", words), made("dd", { class: "what" }, what))));
}

// The same that the alerts of deploy/prometheus look at, as they stand this moment.
function drawAlarms(value, rate, ready) {
  const alarms = [
    [ready.state !== "ready", "This node is " + ready.state + " and should get no traffic."],
    [value("liangma_data_age_seconds") > 2, "What is known is old: look at the store and the way to it."],
    [value("liangma_board_lost_by_store") > 0, "The store has lost what it acknowledged: feed it again."],
    [value("liangma_board_retained_reds") > 0, "Residents stay red for what the store has lost: feed it again."],
    [rate("liangma_store_failures_total") > 0, "Commits fail: look at the store's disk."],
    ...DOORS.map((door) => [rate("liangma_connections_rejected_total", { door }) > 0, "The " + door + " door is full and turns people away."]),
    [rate("liangma_connections_overflowed_total") > 0, "Connections find the accept queue full."],
    [rate("liangma_accept_errors_total") > 0, "Accepts fail: look at the limit of descriptors."],
    [rate("liangma_store_lookups_total", { outcome: "busy" }) > 0, "Queries find no room before the store."],
  ].filter(([rings]) => rings);
  part("alarms-section").hidden = !alarms.length;
  fill("alarms", alarms.map(([, words]) => element("li", words)));
}

function drawQueries(now, then, rate) {
  const lines = now.meters.liangma_queries_total || [];
  const kinds = lines.map((line) => line.labels.kind).filter((kind, nth, all) => all.indexOf(kind) === nth).sort();
  const refused = [];
  fill("queries", kinds.map((kind) => {
    let answered = 0;
    let turnedAway = 0;
    for (const line of lines.filter((one) => one.labels.kind === kind)) {
      const perSecondNow = rate("liangma_queries_total", line.labels);
      if (ANSWERED.indexOf(line.labels.outcome) >= 0) answered += perSecondNow;
      else {
        turnedAway += perSecondNow;
        if (line.value) refused.push([kind, line.labels.outcome, perSecond(perSecondNow), count(line.value)]);
      }
    }
    const kept = (history[kind] = (history[kind] || []).concat(answered).slice(-KEPT));
    const half = quantile(now.meters, then.meters, "liangma_query_seconds", { kind }, 0.5);
    const most = quantile(now.meters, then.meters, "liangma_query_seconds", { kind }, 0.99);
    return row([kind, perSecond(answered), perSecond(turnedAway), time(half), time(most), sparkline(kept)]);
  }));
  fill("refusals", refused.map(row));
}

function sparkline(values) {
  const name = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
  const [width, height] = [160, 24];
  const most = Math.max(1, ...values);
  const drawing = name("svg");
  drawing.setAttribute("width", width);
  drawing.setAttribute("height", height);
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", "most: " + perSecond(most));
  const path = name("polyline");
  const points = values.map((value, nth) => [width - (values.length - nth) * (width / KEPT), height - 1 - (value / most) * (height - 2)]);
  path.setAttribute("points", points.map((point) => point.map((n) => n.toFixed(1)).join(",")).join(" "));
  drawing.appendChild(path);
  return drawing;
}

function count(value) {
  return value === null ? "–" : Math.round(value).toLocaleString("en");
}

function perSecond(value) {
  return value >= 10 || value === 0 ? count(value) : value.toFixed(1);
}

function time(seconds) {
  if (seconds === null || Number.isNaN(seconds)) return "–";
  if (seconds === Infinity) return "> 10 s";
  if (seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
  if (seconds < 1) return (seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0) + " ms";
  return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
}

setInterval(age, 1000);
read();
