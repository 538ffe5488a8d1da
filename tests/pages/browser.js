// A real browser: pages of phones and desktops, what is on their screens, and codes read off them by another's decoder.

import axe from "axe-core";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";
import { until } from "./node.js";

const CHROMIUM = process.env.CHROMIUM || ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
export const SCREENSHOTS = fileURLToPath(new URL("../../target/pages/", import.meta.url));

export const PHONE = { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const SMALL_PHONE = { width: 320, height: 568, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const DESKTOP = { width: 1280, height: 800 };
/// Every size that people come with: small and usual phones, a tablet, a counter's upright screen, a laptop.
export const SIZES = {
  "360x640": { width: 360, height: 640, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  "390x844": PHONE,
  "820x1180": { width: 820, height: 1180, isMobile: true, hasTouch: true },
  "1080x1920": { width: 1080, height: 1920 },
  "1440x900": { width: 1440, height: 900 },
};

export async function launch(...args) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  // Without its sandbox where it would refuse root; the pages are our own.
  const always = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=zh-CN", "--autoplay-policy=no-user-gesture-required"];
  return puppeteer.launch({ executablePath: CHROMIUM, headless: true, pipe: true, args: [...always, ...args] });
}

/// A tab with nothing in it: no storage, no cache. It fails on whatever the page throws, or is kept from by its policy.
export async function tab(browser, { viewport = PHONE, languages = "zh-CN", dark = false, reduced = false } = {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.faults = [];
  page.asked = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) page.faults.push(message.text());
  });
  page.on("request", (request) => page.asked.push(request));
  await page.setViewport(viewport);
  await page.evaluateOnNewDocument((tags) => {
    Object.defineProperty(navigator, "languages", { get: () => tags });
    Object.defineProperty(navigator, "language", { get: () => tags[0] });
  }, languages.split(","));
  await page.emulateMediaFeatures([
    { name: "prefers-color-scheme", value: dark ? "dark" : "light" },
    { name: "prefers-reduced-motion", value: reduced ? "reduce" : "no-preference" },
  ]);
  return page;
}

export async function closeTab(page) {
  await page.browserContext().close();
  if (page.faults.length) throw new Error(page.faults.join("\n"));
}

export const view = (page) => page.evaluate(() => document.body.dataset.view);
export const words = (page, selector = "body") => page.$eval(selector, (part) => part.innerText);
export const seen = (page, selector) => page.$eval(selector, (part) => part.getClientRects().length > 0);
export const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

export const shows = (page, wanted) =>
  until(`the page shows ${wanted}`, async () => (await view(page)) === wanted).catch(async (error) => {
    throw new Error(`${error.message}; it shows ${await view(page)}: ${await words(page)}`);
  });

export async function screenshot(page, name) {
  const path = `${SCREENSHOTS}${name}.png`;
  writeFileSync(path, await page.screenshot());
  return path;
}

/// Whether anything makes the page scroll sideways.
export const scrollsSideways = (page) => page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);

/// Fields in whose words a phone's browser would zoom, because they are smaller than 16 px.
export const smallFields = (page) => page.$$eval("input, select, textarea", (all) => all
  .filter((one) => one.getClientRects().length && !["checkbox", "radio", "file", "hidden"].includes(one.type) && parseFloat(getComputedStyle(one).fontSize) < 16)
  .map((one) => one.name || one.id));

/// What can be tapped, and what is said, under the notch, the rounded corners or the bar of a phone, with those of one on its side or
/// upright. `scrolled` to its end, as what lies below the screen is.
export async function underEdges(page, edges) {
  const session = await page.createCDPSession();
  await session.send("Emulation.setSafeAreaInsetsOverride", { insets: edges });
  const found = await page.evaluate(({ top, right, bottom, left }) => {
    const [width, height] = [document.documentElement.clientWidth, window.innerHeight];
    const under = (all, hidden) => all.filter((one) => one.getClientRects().length && !one.closest("#family")).filter((one) => hidden(one.getBoundingClientRect())).map((one) => one.id || one.innerText);
    const all = Array.from(document.querySelectorAll("button, a, h1, input, select, canvas"));
    window.scrollTo(0, 0);
    const sides = under(all, (at) => at.left < left - 1 || at.right > width - right + 1 || at.top < top - 1);
    window.scrollTo(0, document.documentElement.scrollHeight);
    return sides.concat(under(all, (at) => at.bottom > height - bottom + 1));
  }, edges);
  await session.send("Emulation.setSafeAreaInsetsOverride", { insets: {} });
  await session.detach();
  return found;
}

/// The edges of a phone with a notch.
export const NOTCH = { top: 59, right: 0, bottom: 34, left: 0 };

/// Taps a part by its selector, where it may be below the screen or behind another.
export const tap = (page, selector) => page.$eval(selector, (part) => part.click());

/// Opens a sheet of a page by whatever offers it and is seen.
export async function openSheet(page, id) {
  await until(`${id} is offered`, () => page.evaluate((name) => {
    const one = Array.from(document.querySelectorAll(`[data-sheet=${name}]`)).find((part) => part.getClientRects().length);
    if (one) one.click();
    return Boolean(one);
  }, id));
  await until(`${id} is open`, () => seen(page, "#sheet"));
}

/// What ZBar reads off a picture; nothing where there is no code in it.
export function decode(path) {
  try {
    return execFileSync("zbarimg", ["-q", "--raw", "-Sdisable", "-Sqrcode.enable", path], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch (nothing) {
    if (nothing.status === 4) return "";
    throw nothing;
  }
}

/// What axe finds wrong for people who see, hear or point otherwise.
export async function barriers(page) {
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.any.map((one) => one.message).join("; ")}`).join(" | ")}`);
}
