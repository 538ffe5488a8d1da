// The gate's page, as the staff at a gate meet it.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { DESKTOP, PHONE, SMALL_PHONE, barriers, closeTab, ground, launch, screenshot, seen, shows, tab, view, words } from "./browser.js";
import { Node, person, until } from "./node.js";

let browser;
let node;
let scanner;
let folder;
const green = person(1);
const red = person(2);
const child = person(3, "李小明", "unverified");

before(async () => {
  browser = await launch();
  node = await Node.start();
  scanner = node.scanner();
  folder = mkdtempSync(join(tmpdir(), "liangma-gate-"));
  for (const someone of [green, red, child]) await node.register(someone);
  await node.say("set", red, "home_isolation");
});

after(async () => {
  await browser?.close();
  await node?.close();
  rmSync(folder, { recursive: true });
});

async function open({ at = node, ...options } = {}) {
  const page = await tab(browser, options);
  await page.goto(`${at.doors.gate}/#t=${at === node ? scanner : at.scanner()}`);
  await shows(page, "ready");
  return page;
}

const code = (someone, at = node) => at.code(at.session(someone));

async function paste(page, text) {
  await page.evaluate((pasted) => {
    const data = new DataTransfer();
    data.setData("text", pasted);
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  }, text);
}

test("a verdict fills the screen in colour and word, with who it is and how old it is", async () => {
  for (const [name, options, someone, state, word] of [
    ["green", { viewport: PHONE }, green, "green", /绿码[\s\S]*通行/],
    ["red", { viewport: PHONE }, red, "red", /红码[\s\S]*禁止进入/],
    ["small", { viewport: SMALL_PHONE, languages: "en" }, red, "red", /RED[\s\S]*No entry/],
    ["desktop", { viewport: DESKTOP, languages: "zh-TW" }, green, "green", /綠碼/],
    ["white", { viewport: PHONE }, child, "green", /绿码/],
  ]) {
    const page = await open(options);
    await page.type("#typed", await code(someone));
    await page.keyboard.press("Enter");
    await shows(page, state);
    assert.match(await words(page, "#verdict"), word);
    assert.equal(await ground(page), state === "green" ? "rgb(11, 122, 59)" : "rgb(180, 18, 29)");
    assert.equal(await words(page, "#name"), someone === child ? "李**" : "陈**");
    assert.match(await words(page, "#checked"), /\d\d:\d\d:\d\d/);
    if (someone === red) assert.match(await words(page, "#reasons"), /居家隔离|Home isolation/);
    if (someone === child) assert.match(await words(page, "#assurance"), /白底码/);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth), false, name);
    await screenshot(page, `gate-${name}`);
    assert.deepEqual(await barriers(page), [], name);
    await page.click("#next");
    await shows(page, "ready");
    await closeTab(page);
  }
});

test("the token leaves the address at once and goes nowhere but into a header", async () => {
  const page = await open();
  assert.equal(page.url(), node.doors.gate + "/");
  for (const request of page.asked) {
    assert.ok(request.url().startsWith(node.doors.gate + "/"), request.url());
    assert.ok(!request.url().replace(/#.*/, "").includes(scanner.slice(0, 20)));
  }
  await closeTab(page);
  const stranger = await tab(browser);
  await stranger.goto(node.doors.gate + "/#t=NOSUCHTOKEN");
  await shows(stranger, "ready");
  await paste(stranger, await code(green));
  await shows(stranger, "login");
  assert.equal(await seen(stranger, "#person"), false);
  assert.deepEqual(await barriers(stranger), []);
  await closeTab(stranger);
});

test("a hardware scanner types a code and Enter, whatever button was touched last", async () => {
  const page = await open();
  await page.click("#continuous");
  await page.click("#continuous");
  for (const [someone, state] of [[green, "green"], [red, "red"], [green, "green"]]) {
    await page.keyboard.type((await code(someone)) + "\n");
    await shows(page, state);
  }
  assert.equal(await page.$eval("#continuous", (button) => button.getAttribute("aria-pressed")), "false");
  assert.match(await words(page, "#shift"), /本班 3[\s\S]*绿码 2[\s\S]*红码 1/);
  await page.reload();
  await shows(page, "ready");
  assert.match(await words(page, "#shift"), /本班 3/);
  page.on("dialog", (dialog) => dialog.accept());
  await page.click("#shift-end");
  assert.match(await words(page, "#shift"), /本班 0/);
  await closeTab(page);
});

test("a hardware scanner ends with Enter, with Tab, or with nothing, outside of the field and in it", async () => {
  const page = await open();
  for (const [focus, end, lower] of [[false, "Tab", true], [false, null, false], [true, "Tab", false], [true, null, true], [true, "Enter", false]]) {
    for (const [someone, state] of [[green, "green"], [red, "red"]]) {
      if (focus) await page.focus("#typed");
      else await page.evaluate(() => document.activeElement.blur());
      const typed = await code(someone);
      await page.keyboard.type(lower ? typed.toLowerCase() : typed);
      if (end) await page.keyboard.press(end);
      await shows(page, state);
      assert.equal(await page.$eval("#typed", (field) => field.value), "");
    }
  }
  await closeTab(page);
});

test("a link with another token does not take the place of the own unseen", async () => {
  const page = await open();
  const asked = [];
  let agrees = false;
  page.on("dialog", (dialog) => {
    asked.push(dialog.message());
    return agrees ? dialog.accept() : dialog.dismiss();
  });
  await page.goto(`${node.doors.gate}/#t=NOSUCHTOKEN`);
  await shows(page, "ready");
  assert.equal(asked.length, 1);
  await page.keyboard.type((await code(green)) + "\n");
  await shows(page, "green");
  agrees = true;
  await page.goto(`${node.doors.gate}/#t=NOSUCHTOKEN`);
  await until("the other token is in use", async () => asked.length === 2);
  await page.keyboard.type((await code(green)) + "\n");
  await shows(page, "login");
  await closeTab(page);
});

test("whatever is no code, or too old a one, has no colour", async () => {
  const quick = await Node.start({ settings: ["code_life=1s", "clock_skew=0ms"] });
  try {
    await quick.register(green);
    const page = await open({ at: quick });
    await paste(page, "https://example.org/a-poster");
    await shows(page, "refused");
    assert.match(await words(page, "#verdict"), /无效的码/);
    const old = await code(green, quick);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await paste(page, old);
    await until("it is told to be too old", async () => /码已过期/.test(await words(page, "#verdict")));
    assert.equal(await seen(page, "#person"), false);
    await paste(page, await code(person(9), quick));
    await shows(page, "unknown");
    await screenshot(page, "gate-unknown");
    assert.deepEqual(await barriers(page), []);
    await closeTab(page);
  } finally {
    await quick.close();
  }
});

test("in continuous mode a verdict goes by itself, and never stays for the next person otherwise", async () => {
  const page = await open();
  await page.click("#continuous");
  await paste(page, await code(green));
  await shows(page, "green");
  await shows(page, "ready");
  await closeTab(page);
});

test("without a network the gate says what to do, has no colour, and tries again by itself", async () => {
  const page = await open();
  await paste(page, await code(green));
  await shows(page, "green");
  await page.setOfflineMode(true);
  await paste(page, await code(green));
  await shows(page, "trouble");
  assert.match(await words(page, "#verdict"), /网络中断[\s\S]*不代表任何颜色[\s\S]*预案/);
  assert.equal(await seen(page, "#person"), false);
  await screenshot(page, "gate-offline");
  assert.deepEqual(await barriers(page), []);
  await page.setOfflineMode(false);
  await shows(page, "green");
  await closeTab(page);
});

test("a scanner that asks too often waits as long as it is told", async () => {
  const quick = await Node.start({ settings: ["scans_per_second=1"] });
  try {
    await quick.register(green);
    const page = await open({ at: quick });
    const shown = await code(green, quick);
    let waits = false;
    for (let i = 0; i < 30 && !waits; i += 1) {
      await paste(page, shown);
      await until("it has an answer", async () => (await view(page)) !== "checking");
      waits = (await view(page)) === "trouble";
    }
    assert.ok(waits);
    assert.match(await words(page, "#verdict"), /系统繁忙[\s\S]*查询过于频繁/);
    await shows(page, "green");
    await closeTab(page);
  } finally {
    await quick.close();
  }
});

test("a camera reads the code off a film of a resident's screen", async () => {
  const phone = await tab(browser, { viewport: { width: 640, height: 900 } });
  await phone.goto(`${node.doors.resident}/#s=${node.session(red)}`);
  await shows(phone, "red");
  const card = await phone.$eval("#card", (part) => part.getBoundingClientRect().toJSON());
  const clip = { x: 0, y: Math.max(0, card.y + card.height / 2 - 240), width: 640, height: 480 };
  const frame = Buffer.from(await phone.screenshot({ type: "jpeg", quality: 80, clip }));
  const film = join(folder, "screen.mjpeg");
  writeFileSync(film, Buffer.concat(Array(30).fill(frame)));
  await closeTab(phone);
  const filmed = await launch("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${film}`);
  try {
    const page = await tab(filmed);
    await page.goto(`${node.doors.gate}/#t=${scanner}`);
    await shows(page, "ready");
    assert.ok(!page.asked.some((request) => request.url().includes("jsQR")), "the decoder is loaded only when it is needed");
    await page.click("#camera");
    await shows(page, "red");
    assert.ok(page.asked.some((request) => request.url().includes("jsQR")));
    assert.match(await words(page, "#shift"), /红码 1/);
    // The same code before the camera is one scan; the next one may come.
    await page.click("#next");
    await until("the picture is back", () => seen(page, "#video"));
    await screenshot(page, "gate-camera");
    await new Promise((resolve) => setTimeout(resolve, 1500));
    assert.match(await words(page, "#shift"), /本班 1/);
    assert.deepEqual(await barriers(page), []);
    await closeTab(page);
  } finally {
    await filmed.close();
  }
});

test("where the browser reads codes itself, no decoder is loaded", async () => {
  const filmed = await launch("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream");
  try {
    const page = await tab(filmed);
    const shown = await code(green);
    await page.evaluateOnNewDocument((rawValue) => {
      window.BarcodeDetector = class {
        static getSupportedFormats() {
          return Promise.resolve(["qr_code"]);
        }

        detect() {
          return Promise.resolve([{ rawValue }]);
        }
      };
    }, shown);
    await page.goto(`${node.doors.gate}/#t=${scanner}`);
    await page.click("#camera");
    await shows(page, "green");
    assert.ok(!page.asked.some((request) => request.url().includes("jsQR")));
    await closeTab(page);
  } finally {
    await filmed.close();
  }
});

test("without a camera the page says what else to use", async () => {
  const page = await open();
  await page.click("#camera");
  await until("it says so", async () => /没有可用的相机/.test(await words(page, "#camera-says")));
  assert.equal(await page.$eval("#camera", (button) => button.getAttribute("aria-pressed")), "false");
  await closeTab(page);
});

test("a roster of codes comes back as a table and as a file", async () => {
  const page = await open({ viewport: DESKTOP });
  const lines = [await code(green), "no code at all", await code(red), await code(person(77)), await code(child)];
  const file = join(folder, "roster.txt");
  writeFileSync(file, lines.join("\r\n") + "\r\n");
  await page.click("#roster-open");
  await (await page.$("#roster-file")).uploadFile(file);
  await until("all are checked", async () => /共 5 行/.test(await words(page, "#roster-says")));
  assert.match(await words(page, "#roster-counts"), /无效的码 1[\s\S]*绿码 2[\s\S]*红码 1[\s\S]*未登记 1/);
  const states = await page.$$eval("#roster-rows td:nth-child(2)", (cells) => cells.map((cell) => cell.dataset.state));
  assert.deepEqual(states, ["green", "code_invalid", "red", "unknown", "green"]);
  await screenshot(page, "gate-roster");
  assert.deepEqual(await barriers(page), []);
  await page.click("#roster-only");
  assert.equal(await page.$$eval("#roster-rows tr", (all) => all.length), 3);
  const session = await page.createCDPSession();
  await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder, browserContextId: page.browserContext().id });
  await page.click("#roster-download");
  let table;
  await until("the table is on the disk", () => {
    const found = readdirSync(folder).find((name) => /^verdicts-.*\.csv$/.test(name));
    table = found && readFileSync(join(folder, found), "utf8");
    return Boolean(table);
  });
  const rows = table.replace("\ufeff", "").trim().split("\r\n");
  assert.equal(rows.length, 6);
  assert.match(rows[3], /^"3","red","陈\*\*","44\*+\w\w","real_person","居家隔离","10"/);
  await page.click("#roster-close");
  assert.equal(await seen(page, "#roster"), false);
  await closeTab(page);
});
