// The gate's page without a network: offline codes by the kept list, and the page itself from its worker.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { barriers, closeTab, launch, screenshot, seen, shows, tab, words } from "./browser.js";
import { Node, person, until } from "./node.js";

let browser;
const green = person(1);
const red = person(2);
const revoked = person(3);

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

/// A node that publishes lists.
async function issuing(...settings) {
  const node = await Node.start({ settings: ["offline_issuer=440000", ...settings] });
  for (const someone of [green, red, revoked]) await node.register(someone);
  await node.say("set", red, "close_contact");
  return node;
}

async function offlineCode(node, someone) {
  const response = await fetch(node.doors.resident + "/v1/code/offline", { headers: { authorization: "Bearer " + node.session(someone) } });
  return (await response.json()).code;
}

async function open(node, page) {
  await page.goto(`${node.doors.gate}/#t=${node.scanner()}`);
  await shows(page, "ready");
}

/// The page holds a list that covers what was issued until now.
async function covered(page, codesBefore = Date.now()) {
  await until("the page keeps a list", () => page.evaluate((from) => new Promise((resolve) => {
    const asked = indexedDB.open("liangma-gate", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("kept");
    asked.onsuccess = () => {
      const got = asked.result.transaction("kept").objectStore("kept");
      const newest = got.get("changes");
      newest.onsuccess = () => {
        asked.result.close();
        const file = newest.result;
        if (!file) return resolve(false);
        const view = new DataView(file.buffer, file.byteOffset);
        resolve(view.getUint32(24) * 4294967296 + view.getUint32(28) > from);
      };
    };
  }), codesBefore + 1000));
  await until("the worker keeps the page", () => page.evaluate(async () => {
    const cache = await caches.open("liangma-gate-1");
    return Boolean(navigator.serviceWorker.controller) && (await cache.keys()).length > 3;
  }));
}

async function paste(page, text) {
  await page.evaluate((pasted) => {
    const data = new DataTransfer();
    data.setData("text", pasted);
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  }, text);
}

const says = (page, word) => until(`it says ${word}`, async () => word.test(await words(page, "#verdict"))).catch(async (error) => {
  throw new Error(`${error.message}; it says ${await words(page, "#verdict")}`);
});

test("with the door gone the kept list judges saved codes, visibly, and the page opens from its worker", async () => {
  const node = await issuing("list_every=1s");
  try {
    const codes = { green: await offlineCode(node, green), red: await offlineCode(node, red) };
    const live = await node.code(node.session(green));
    const page = await tab(browser);
    await open(node, page);
    await paste(page, codes.green);
    await shows(page, "green");
    assert.equal(await seen(page, "#offline"), false);
    await covered(page);
    await node.end();
    for (const state of ["green", "red"]) {
      await paste(page, codes[state]);
      await until("the verdict is the list's", () => seen(page, "#offline"));
      await shows(page, state);
      assert.match(await words(page, "#offline"), /离线核验：清单时间 \d\d-\d\d \d\d:\d\d（\d+ 分钟前）/);
      if (state === "green") assert.match(await words(page, "#verdict"), /请核对证件/);
      assert.match(await words(page, "#assurance"), /离线码/);
      assert.equal(await words(page, "#name"), "陈**");
    }
    await screenshot(page, "gate-offline-list");
    assert.deepEqual(await barriers(page), []);
    await paste(page, live);
    await shows(page, "trouble");
    await says(page, /网络中断[\s\S]*离线码/);
    await paste(page, codes.green.slice(0, 100) + (codes.green[100] === "A" ? "B" : "A") + codes.green.slice(101));
    await says(page, /不是健康码/);
    assert.equal(await seen(page, "#person"), false);
    // Again from nothing but what is kept.
    await page.reload();
    await shows(page, "ready");
    await paste(page, codes.green);
    await shows(page, "green");
    assert.equal(await seen(page, "#offline"), true);
    // Another clock: behind the list, half an hour later, and a day.
    const later = async (ms) => {
      const other = await page.browserContext().newPage();
      await other.evaluateOnNewDocument((shift) => {
        const now = Date.now.bind(Date);
        Date.now = () => now() + shift;
        // A tab of the same context, which speaks as the first one does.
        Object.defineProperty(navigator, "languages", { get: () => ["zh-CN"] });
      }, ms);
      await other.goto(`${node.doors.gate}/#t=${node.scanner()}`);
      await shows(other, "ready");
      await paste(other, codes.green);
      return other;
    };
    await says(await later(-3600000), /时钟有误|CLOCK IS WRONG/);
    const stale = await later(1900000);
    await shows(stale, "green");
    assert.match(await words(stale, "#offline"), /清单较旧|the list is old/);
    assert.match(await words(stale, "#checked"), /更新有延迟|updates are late/);
    await says(await later(13 * 3600000), /清单过旧|LIST TOO OLD/);
    // That page saw a late time: the clock was set back since.
    await says(await later(0), /时钟有误|CLOCK IS WRONG/);
    await closeTab(page);
  } finally {
    await node.close();
  }
});

/// What the door serves at this moment: keys and lists, as a cache or a thief would keep them.
async function served(node) {
  const bearer = { authorization: "Bearer " + node.scanner() };
  const files = {};
  const take = async (path) => {
    const response = await fetch(`${node.doors.gate}/${path}`, { headers: bearer });
    assert.equal(response.status, 200, path);
    const bytes = Buffer.from(await response.arrayBuffer());
    files[path] = { bytes: bytes.toString("base64"), headers: { "Cache-Control": response.headers.get("cache-control"), Date: response.headers.get("date") } };
    return bytes;
  };
  await take("v1/keys");
  const index = JSON.parse(await take("v1/list/440000"));
  await take("v1/list/440000/base");
  await take("v1/list/440000/changes-" + index.bases[0].number);
  return files;
}

/// In the page: these files are what the network has; all else is away. Says which were asked for.
function serve(files) {
  window.givenOut = [];
  window.fetch = (path) => {
    const file = files[path];
    if (!file) return Promise.reject(new TypeError("away"));
    window.givenOut.push(path);
    const bytes = Uint8Array.from(atob(file.bytes), (letter) => letter.charCodeAt(0));
    return Promise.resolve(new Response(bytes, { status: 200, headers: file.headers }));
  };
}

test("lists that are older than the kept one are passed over, also after the page was opened anew", async () => {
  const node = await issuing("list_every=1s");
  try {
    const [code, other] = [await offlineCode(node, revoked), await offlineCode(node, green)];
    const page = await tab(browser);
    await open(node, page);
    await covered(page);
    const before = await served(node);
    const said = await fetch(node.doors.desk + "/v1/offline-codes/revoke", { method: "POST", headers: { authorization: "Bearer " + node.session(revoked) } });
    assert.equal(said.status, 201);
    await node.say("set", green, "confirmed");
    await covered(page);
    await node.end();
    const judged = async () => {
      await paste(page, code);
      await says(page, /码已作废/);
      await paste(page, other);
      await shows(page, "red");
      assert.equal(await seen(page, "#offline"), true);
    };
    await judged();
    // One look ends before the next begins.
    const looked = () => until("the older list was looked at, and judged", () => page.evaluate(() => {
      window.dispatchEvent(new Event("online"));
      return window.givenOut.filter((path) => path.endsWith("/440000")).length > 1 && window.givenOut.some((path) => /changes-|base/.test(path));
    }));
    await page.evaluate(serve, before);
    await looked();
    await judged();
    await page.evaluateOnNewDocument(serve, before);
    await page.reload();
    await shows(page, "ready");
    await looked();
    await judged();
    await closeTab(page);
  } finally {
    await node.close();
  }
});

test("a refusal of the door is an answer, and a code that is newer than the list has no colour", async () => {
  const node = await issuing("list_every=1s");
  try {
    const code = await offlineCode(node, revoked);
    const page = await tab(browser);
    await open(node, page);
    await covered(page);
    // From here on there is no newer list.
    await node.end();
    node.settings = ["offline_issuer=440000", "list_every=1h"];
    await node.open();
    const session = node.session(revoked);
    const said = await fetch(node.doors.desk + "/v1/offline-codes/revoke", { method: "POST", headers: { authorization: "Bearer " + session } });
    assert.equal(said.status, 201);
    await paste(page, code);
    await shows(page, "refused");
    assert.equal(await seen(page, "#offline"), false);
    const next = await offlineCode(node, revoked);
    await node.end();
    await paste(page, next);
    await says(page, /清单未覆盖/);
    assert.equal(await seen(page, "#person"), false);
    // A list that has heard of it.
    node.settings = ["offline_issuer=440000", "list_every=1s"];
    await node.open();
    await page.reload();
    await covered(page);
    await node.end();
    await paste(page, code);
    await says(page, /码已作废/);
    await paste(page, next);
    await shows(page, "green");
    await closeTab(page);
  } finally {
    await node.close();
  }
});

/// A front before the gate's door. While `isOther` is set it gives out the page of another release, whose script the node does not have.
async function frontBefore(node) {
  const front = { isOther: false, asked: 0 };
  const version = "0".repeat(16);
  const server = createServer(async (request, response) => {
    if (request.url.endsWith(version)) front.asked += 1;
    const { method, headers: { authorization = "" } } = request;
    const answer = await fetch(node.doors.gate + request.url, { method, headers: { authorization }, redirect: "manual" });
    let body = Buffer.from(await answer.arrayBuffer());
    if (front.isOther && request.url === "/") body = body.toString().replace(/(gate\.js\?v=)\w+/, "$1" + version);
    const headers = { "content-type": answer.headers.get("content-type") || "text/plain", "cache-control": "no-store" };
    if (answer.headers.has("location")) headers.location = answer.headers.get("location");
    response.writeHead(answer.status, headers).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  front.url = `http://127.0.0.1:${server.address().port}`;
  front.end = () => { server.close(); server.closeAllConnections(); };
  return front;
}

test("the page of another release works, and the worker keeps no script of this one for it", async () => {
  const node = await Node.start();
  const front = await frontBefore(node);
  try {
    const page = await tab(browser);
    const address = `${front.url}/#t=${node.scanner()}`;
    await page.goto(address);
    await shows(page, "ready");
    const kept = () => page.evaluate(async () => (await (await caches.open("liangma-gate-1")).keys()).map((one) => one.url).sort());
    await until("the worker keeps the page", async () => (await kept()).length > 3 && page.evaluate(() => Boolean(navigator.serviceWorker.controller)));
    const own = await kept();
    front.isOther = true;
    await page.goto("about:blank");
    await page.goto(address);
    await shows(page, "ready");
    await until("page and worker have asked for its script", () => front.asked >= 2);
    await page.goto("about:blank");
    front.end();
    await page.goto(address);
    await shows(page, "ready");
    assert.deepEqual(await kept(), own);
    await closeTab(page);
  } finally {
    front.end();
    await node.close();
  }
});
