// The resident's page, as a resident meets it.

import assert from "node:assert/strict";
import net from "node:net";
import { after, before, test } from "node:test";
import { DESKTOP, PHONE, SIZES, SMALL_PHONE, barriers, closeTab, decode, ground, launch, openSheet, screenshot, scrollsSideways, seen, shows, tab, tap, view, words } from "./browser.js";
import { Node, person, until } from "./node.js";

let browser;
let node;
let scanner;
const GREEN = "rgb(11, 122, 59)";
const RED = "rgb(180, 18, 29)";

before(async () => {
  browser = await launch();
  node = await Node.start();
  scanner = node.scanner();
});

after(async () => {
  await browser?.close();
  await node?.close();
});

async function open(session, { at = node, ...options } = {}) {
  const page = await tab(browser, options);
  await page.goto(`${at.doors.resident}/#s=${session}`);
  return page;
}

async function scan(code) {
  const response = await fetch(node.doors.gate + "/v1/scan", {
    method: "POST", body: code, headers: { authorization: "Bearer " + scanner, "content-type": "text/plain" },
  });
  return response.json();
}

/// Does this with a node whose codes live for six seconds, and somebody green on a screen.
async function quickly(act, settings = []) {
  const quick = await Node.start({ settings: ["code_life=6s", ...settings] });
  try {
    const chen = person(1);
    await quick.register(chen);
    const page = await open(quick.session(chen), { at: quick });
    await shows(page, "green");
    await act(page, quick, chen);
    await closeTab(page);
  } finally {
    quick.signal("SIGCONT");
    await quick.close();
  }
}

test("a green code is shown, read off the screen by another decoder, and scanned", async () => {
  const chen = person(1);
  await node.register(chen);
  const page = await open(node.session(chen));
  await shows(page, "green");
  assert.equal(await ground(page), GREEN);
  assert.match(await words(page, "#verdict"), /绿码/);
  assert.equal(await words(page, "#name"), "陈**");
  assert.match(await words(page, "#as-of"), /\d\d:\d\d:\d\d 更新/);
  const code = decode(await screenshot(page, "resident-green"));
  const verdict = await scan(code);
  assert.equal(verdict.state, "green");
  assert.equal(verdict.name, "陈**");
  assert.deepEqual(await barriers(page), []);
  await closeTab(page);
});

test("every size, side and language is readable, and its code can be read", async () => {
  const chen = person(2);
  await node.register(chen);
  await node.say("set", chen, "home_isolation");
  const session = node.session(chen);
  const sideways = { width: 844, height: 390, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
  for (const [name, options] of Object.entries({
    small: { viewport: SMALL_PHONE, languages: "zh-HK" },
    desktop: { viewport: DESKTOP, languages: "en-GB,zh" },
    sideways: { viewport: sideways, languages: "en" },
    dark: { viewport: PHONE, dark: true },
    large: { viewport: PHONE, languages: "zh-TW", large: true },
  })) {
    const page = await open(session, options);
    await shows(page, "red");
    if (options.large) {
      await openSheet(page, "settings");
      await tap(page, "#large");
      await tap(page, "#sheet-back");
      await until("the code is back", () => seen(page, "#card"));
    }
    assert.equal(await scrollsSideways(page), false, `${name} scrolls sideways`);
    await screenshot(page, `resident-red-${name}`);
    const card = await (await page.$("#card")).screenshot({ path: `${new URL("../../target/pages/", import.meta.url).pathname}card.png` });
    assert.ok(card);
    assert.equal((await scan(decode(new URL("../../target/pages/card.png", import.meta.url).pathname))).state, "red", name);
    assert.deepEqual(await barriers(page), [], name);
    await closeTab(page);
  }
});

test("on every screen the code is in the middle, and is read off it", async () => {
  const [chen, child] = [person(30), person(31, "李小明", "unverified")];
  for (const someone of [chen, child]) await node.register(someone);
  for (const [name, viewport] of Object.entries(SIZES)) {
    for (const someone of [chen, child]) {
      const page = await open(node.session(someone), { viewport });
      await shows(page, "green");
      const { middle, width, height } = await page.$eval("#card", (part) => {
        const { left, right, width, height } = part.getBoundingClientRect();
        return { middle: (left + right) / 2 - document.documentElement.clientWidth / 2, width, height };
      });
      // Where the screen is wider than high the words stand beside it.
      if (viewport.width < viewport.height) assert.ok(Math.abs(middle) <= 1, `${name}: ${middle} px off the middle`);
      assert.ok(width <= viewport.width && height <= viewport.height, name);
      assert.equal(await scrollsSideways(page), false, name);
      const shot = await screenshot(page, `resident-${someone === child ? "white" : "green"}-${name}`);
      assert.equal((await scan(decode(shot))).state, "green", name);
      if (viewport === PHONE) assert.deepEqual(await barriers(page), [], name);
      await closeTab(page);
    }
  }
});

test("the clock is that of China, and says so, in whatever zone the phone is", async () => {
  const chen = person(32);
  await node.register(chen);
  const session = node.session(chen);
  for (const [zone, labelled] of [["America/New_York", true], ["Asia/Shanghai", false], ["Pacific/Kiritimati", true]]) {
    const page = await tab(browser);
    await page.emulateTimezone(zone);
    await page.goto(`${node.doors.resident}/#s=${session}`);
    await shows(page, "green");
    const [hours, minutes] = (await words(page, "#clock")).split(":").map(Number);
    const now = new Date(Date.now() + 8 * 3600000);
    const apart = Math.abs(hours * 60 + minutes - now.getUTCHours() * 60 - now.getUTCMinutes()) % 1439;
    assert.ok(apart <= 1, `${zone}: ${await words(page, "#clock")}`);
    const day = await words(page, "#day");
    assert.match(day, new RegExp(`${now.getUTCMonth() + 1}月${now.getUTCDate()}日`));
    assert.equal(/北京时间/.test(day), labelled, zone);
    await closeTab(page);
  }
});

test("at twice its size nothing of the page is cut off, and it scrolls one way", async () => {
  const chen = person(36);
  await node.register(chen);
  const page = await open(node.session(chen), { viewport: { width: 195, height: 422, isMobile: true, hasTouch: true } });
  await shows(page, "green");
  assert.equal(await scrollsSideways(page), false);
  assert.equal(await page.evaluate(() => window.innerWidth), 195, "nothing made it wider");
  await screenshot(page, "resident-zoomed");
  await closeTab(page);
});

test("only what is current moves, and nothing for whoever asked for less motion", async () => {
  const chen = person(33);
  await node.register(chen);
  const moves = (page) => page.$eval("#card", (card) => getComputedStyle(card, "::before").animationName);
  const page = await open(node.session(chen));
  await shows(page, "green");
  assert.equal(await moves(page), "march");
  await page.setOfflineMode(true);
  await shows(page, "past");
  assert.equal(await moves(page), "none");
  await closeTab(page);
  const still = await open(node.session(chen), { reduced: true });
  await shows(still, "green");
  assert.equal(await moves(still), "none");
  await closeTab(still);
  const nobody = await open("NOTASESSION");
  await shows(nobody, "login");
  assert.equal(await seen(nobody, "#clock"), false);
  await closeTab(nobody);
});

test("after a silence whoever holds the phone may try at once, and not more than once in three seconds", () => quickly(async (page, quick) => {
  await quick.end("SIGKILL");
  await shows(page, "past");
  await until("there is a button", () => seen(page, "#again"));
  const asked = () => page.asked.filter((request) => request.url().endsWith("/v1/code")).length;
  await quick.open();
  const before = asked();
  await tap(page, "#again");
  await shows(page, "green");
  assert.equal(asked(), before + 1);
  assert.equal(await seen(page, "#again"), false);
}));

test("a page that runs no script says a true sentence and shows no empty card", async () => {
  const page = await tab(browser);
  await page.setRequestInterception(true);
  page.on("request", (request) => (request.url().includes(".js") ? request.abort() : request.continue()));
  await page.goto(node.doors.resident + "/");
  assert.match(await words(page), /若一直不显示，请刷新本页，或请工作人员登记查验/);
  assert.deepEqual(await barriers(page), []);
  for (const part of ["#card", "#clock"]) assert.equal(await seen(page, part), false, part);
  await screenshot(page, "resident-no-script");
  await closeTab(page);
});

test("the page opens without a network once it was there, in its own words, and with no colour", async () => {
  const chen = person(35);
  await node.register(chen);
  const page = await open(node.session(chen));
  await shows(page, "green");
  await until("the page is kept", () => page.evaluate(async () => {
    const names = (await caches.keys()).filter((name) => name.startsWith("liangma "));
    return names.length === 1 && (await (await caches.open(names[0])).keys()).length >= 6 && Boolean(navigator.serviceWorker.controller);
  }));
  // Nothing that the service said of anybody is among it.
  const kept = await page.evaluate(async () => {
    const [name] = await caches.keys();
    return (await (await caches.open(name)).keys()).map((request) => new URL(request.url).pathname);
  });
  assert.ok(kept.every((path) => path === "/" || path.startsWith("/pages/")), kept.join(" "));
  await page.setOfflineMode(true);
  await page.reload();
  await shows(page, "trouble");
  assert.match(await words(page, "#trouble"), /网络不可用|连不上/);
  assert.notEqual(await ground(page), GREEN);
  assert.equal(await seen(page, "#card"), false);
  assert.match(await words(page, "#sole"), /不是通行的唯一凭证/);
  assert.deepEqual(await barriers(page), []);
  await screenshot(page, "resident-kept");
  await page.setOfflineMode(false);
  await shows(page, "green");
  await closeTab(page);
});

test("the page can be put on the home screen", async () => {
  const page = await tab(browser);
  await page.goto(node.doors.resident + "/");
  const { icons, start_url } = await page.evaluate(async () => (await fetch(document.querySelector("[rel=manifest]").href)).json());
  assert.equal(start_url, "./");
  for (const { src, sizes } of icons) {
    const wide = await page.evaluate(async (address) => (await createImageBitmap(await (await fetch(address)).blob())).width, src);
    assert.equal(`${wide}x${wide}`, sizes);
  }
  await closeTab(page);
});

test("a code that changes every minute is not printed", async () => {
  const chen = person(34);
  await node.register(chen);
  const page = await open(node.session(chen));
  await shows(page, "green");
  await page.emulateMediaType("print");
  assert.equal(await seen(page, "#card"), false);
  assert.match(await page.evaluate(() => getComputedStyle(document.body, "::after").content), /不能打印/);
  await closeTab(page);
});

test("a red code says why and how it is released, and the words follow the language", async () => {
  const chen = person(3);
  await node.register(chen);
  await node.say("set", chen, "close_contact");
  const page = await open(node.session(chen));
  await shows(page, "red");
  assert.equal(await ground(page), RED);
  assert.match(await words(page, "#why"), /密切接触者[\s\S]*12345/);
  await openSheet(page, "settings");
  await tap(page, "[data-language=en]");
  assert.match(await words(page, "#sheet-title"), /Settings/);
  await page.reload();
  await shows(page, "red");
  assert.match(await words(page, "#verdict"), /RED/);
  assert.match(await words(page, "#why"), /[Cc]lose contact/);
  // This door has no desk behind it: the button for details goes away.
  assert.deepEqual(await barriers(page), []);
  await tap(page, "#details-open");
  await until("the button has gone", async () => !(await seen(page, "#details-open")));
  await closeTab(page);
});

test("who is not checked by face has a white ground, and the colour in the frame", async () => {
  const child = person(5, "李小明", "unverified");
  await node.register(child);
  const page = await open(node.session(child), { dark: true });
  await shows(page, "green");
  assert.equal(await ground(page), "rgb(255, 255, 255)");
  assert.match(await words(page, "#checked"), /白底码/);
  assert.equal((await scan(decode(await screenshot(page, "resident-white")))).state, "green");
  assert.deepEqual(await barriers(page), []);
  await closeTab(page);
});

test("whoever is not on record, or whose status is too old to say, gets no colour", async () => {
  const page = await open(node.session(person(6)));
  await shows(page, "unknown");
  assert.match(await words(page, "#verdict"), /未登记/);
  assert.notEqual(await ground(page), GREEN);
  assert.deepEqual(await barriers(page), []);
  await closeTab(page);
  // No node tells this for long without ceasing to be ready: the answer is one of the contract, made here.
  const old = await tab(browser);
  await old.setRequestInterception(true);
  old.on("request", (request) => {
    if (!request.url().endsWith("/v1/code")) return request.continue();
    const now = Date.now();
    const time = (ms) => new Date(now + ms).toISOString();
    return request.respond({
      status: 200, contentType: "application/json",
      body: JSON.stringify({ state: "too_old", reasons: [], code: "ABC", issued_at: time(0), expires_at: time(60000), refresh_after_ms: 30000, name: "陈**", cert_no: "4****9", assurance: "real_person", as_of: time(-40000), stale: true }),
    });
  });
  await old.goto(`${node.doors.resident}/#s=AAAA`);
  await shows(old, "too_old");
  assert.match(await words(old), /更新有延迟/);
  await screenshot(old, "resident-too-old");
  assert.deepEqual(await barriers(old), []);
  await closeTab(old);
});

test("the session leaves the address at once, reaches no server but in its header, and dies with the tab", async () => {
  const chen = person(7);
  await node.register(chen);
  const session = node.session(chen);
  const page = await open(session);
  await shows(page, "green");
  assert.equal(page.url(), node.doors.resident + "/");
  assert.equal(await page.evaluate(() => window.history.length <= 2), true);
  for (const request of page.asked) {
    assert.ok(request.url().startsWith(node.doors.resident + "/"), `a third party: ${request.url()}`);
    assert.ok(!new URL(request.url()).search.includes(session.slice(0, 20)));
    assert.ok(!new URL(request.url()).pathname.includes(session.slice(0, 20)));
  }
  assert.equal(await page.evaluate((known) => JSON.stringify(window.localStorage).includes(known), session.slice(0, 20)), false);
  await page.reload();
  await shows(page, "green");
  await closeTab(page);
  const another = await tab(browser);
  await another.goto(node.doors.resident + "/");
  await shows(another, "login");
  await screenshot(another, "resident-login");
  assert.deepEqual(await barriers(another), []);
  await closeTab(another);
});

test("a session that is refused leaves nothing on the screen", async () => {
  const page = await open("NOTASESSION");
  await shows(page, "login");
  assert.equal(await seen(page, "#card"), false);
  await closeTab(page);
});

test("the first code is one round trip behind the page", async (t) => {
  const chen = person(8);
  await node.register(chen);
  const page = await open(node.session(chen));
  await shows(page, "green");
  const paths = page.asked.map((request) => new URL(request.url()).pathname);
  assert.deepEqual(paths.slice(0, 3).sort(), ["/", "/pages/resident.css", "/pages/resident.js"]);
  assert.equal(paths.filter((path) => path === "/v1/code").length, 1);
  assert.ok(paths.filter((path) => path !== "/manifest.json").length <= 5, paths.join(" "));
  await closeTab(page);
  // For the README: a phone on a slow network (150 ms a round trip, 1.6 Mbit/s), the first time and the second.
  const phone = await tab(browser);
  await phone.emulateNetworkConditions({ latency: 150, download: 200_000, upload: 94_000 });
  const session = node.session(chen);
  for (const visit of ["first", "second"]) {
    await phone.goto(`${node.doors.resident}/?${visit}#s=${session}`);
    await shows(phone, "green");
    const [all, code, bytes] = await phone.evaluate(() => {
      const parts = performance.getEntriesByType("resource");
      const code = parts.find((part) => part.name.endsWith("/v1/code"));
      const page = performance.getEntriesByType("navigation")[0];
      return [code.responseEnd, code.responseEnd - code.startTime, parts.concat(page).reduce((sum, part) => sum + part.transferSize, 0)];
    });
    t.diagnostic(`${visit} visit: first code after ${Math.round(all)} ms, ${Math.round(code)} of them for itself; ${bytes} bytes in all`);
  }
  await closeTab(phone);
});

test("a change of status turns the page red by itself", () => quickly(async (page, quick, chen) => {
  await quick.say("set", chen, "confirmed");
  await shows(page, "red");
  assert.equal(await ground(page), RED);
  await quick.say("clear", chen, "confirmed");
  await shows(page, "green");
}));

test("without the service no colour is current, and it comes back by itself", () => quickly(async (page, quick) => {
  await quick.end("SIGKILL");
  await shows(page, "past");
  assert.notEqual(await ground(page), GREEN);
  assert.match(await words(page, "#verdict"), /状态未刷新[\s\S]*上次结果：绿码，\d+ 秒前/);
  assert.match(await words(page, "#trouble"), /连不上/);
  // The code itself may be scanned until it expires, and no longer.
  await until("the code has expired", () => seen(page, "#code-over"));
  const expired = await screenshot(page, "resident-offline");
  assert.equal(decode(expired), "");
  assert.deepEqual(await barriers(page), []);
  await quick.open();
  await shows(page, "green");
}));

test("without a network the page says so", () => quickly(async (page) => {
  await page.setOfflineMode(true);
  await shows(page, "past");
  assert.match(await words(page, "#trouble"), /网络不可用/);
  await page.setOfflineMode(false);
  await shows(page, "green");
}));

test("a service that is silent is not waited for with a colour on the screen", () => quickly(async (page, quick) => {
  quick.signal("SIGSTOP");
  await shows(page, "past");
  assert.equal(await seen(page, "#code"), false);
  quick.signal("SIGCONT");
  await shows(page, "green");
}));

test("a drained node is left for the one that follows", () => quickly(async (page, quick) => {
  await quick.end("SIGTERM");
  await quick.open();
  const first = page.asked.length;
  await until("it has asked the new node", () => page.asked.slice(first).some((request) => request.response()?.status() === 200));
  await shows(page, "green");
}));

test("a full door is busy: the sentence, a countdown, the last answer with its age, and no asking before the time", () => quickly(async (page, quick) => {
  const crowd = [];
  try {
    // The page's connection is idle and makes room for those who come.
    const { port } = new URL(quick.doors.resident);
    const hold = () => {
      const socket = net.connect(Number(port), "127.0.0.1", () => socket.write("GET /v1/code HTTP/1.1\r\nhost: a\r\n"));
      socket.resume();
      socket.on("error", () => {});
      socket.on("close", () => {
        if (crowd.open) setTimeout(() => crowd.push(hold()), 300);
      });
      return socket;
    };
    crowd.open = true;
    for (let i = 0; i < 16; i += 1) crowd.push(hold());
    await until("it is told that we are busy", async () => /系统繁忙，当前查询人数过多，请稍后再试/.test(await words(page, "#trouble")));
    const told = Date.now();
    assert.equal(await view(page), "past");
    assert.match(await words(page, "#trouble-wait"), /\d+ 秒后自动重试/);
    // The page's worker asks for its parts at any time.
    const asked = () => page.asked.filter((request) => request.url().endsWith("/v1/code"));
    const before = asked().length;
    const busy = asked().at(-1);
    const wait = (await busy.response().json()).retry_after_ms;
    // Told a moment before it was seen.
    const due = told + wait - 2000;
    await screenshot(page, "resident-busy");
    assert.deepEqual(await barriers(page), []);
    await new Promise((resolve) => setTimeout(resolve, Math.min(wait, 4000) * 0.8));
    assert.equal(asked().length, before);
    crowd.open = false;
    for (const socket of crowd) socket.destroy();
    // Nor does loading the page anew bring anybody in before the time: the page says so, or the door in its place.
    await page.reload();
    // On a slow machine that time may have come.
    const isSaid = async () => /系统繁忙，当前查询人数过多|The system is busy/.test(await words(page));
    await until("it is said again", async () => Date.now() > due || (await isSaid()));
    assert.ok(asked().length === before || Date.now() > due);
    // The door may have told the page that was loaded anew another time, of two minutes at most.
    await until("its time has come", async () => (await view(page)) === "green", { within: 300000 });
  } finally {
    crowd.open = false;
    for (const socket of crowd) socket.destroy();
  }
}, ["resident_connections_max=8", "resident_threads=1"]));
