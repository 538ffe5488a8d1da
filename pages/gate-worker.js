// Keeps the gate's page and its parts, so that it opens without a network. It keeps nothing of anybody: lists, keys and scans are the
// page's own, and whatever is asked of /v1/ goes past it.
"use strict";

const KEPT = "liangma-gate-1";
const PAGE_WAIT = 3000;
const PARTS = /pages\/[\w.-]+\?v=[\w-]+/g;

self.addEventListener("install", (event) => event.waitUntil(keepPage().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  if (request.mode === "navigate" && url.pathname === new URL(self.registration.scope).pathname) event.respondWith(page(request));
  else if (url.pathname.includes("/pages/")) event.respondWith(kept(request).then((found) => found || fetch(request)));
});

async function kept(request) {
  return (await caches.open(KEPT)).match(request);
}

// The page and every part that it and its scripts name, or nothing at all.
async function keepPage() {
  const scope = self.registration.scope;
  const cache = await caches.open(KEPT);
  const response = await fetch(scope, { cache: "no-cache" });
  if (!response.ok) throw new Error("no page");
  const wanted = new Set((await response.clone().text()).match(PARTS));
  const parts = new Map();
  for (const name of wanted) {
    const address = new URL(name, scope).href;
    const found = (await cache.match(address)) || (await fetch(address));
    // A node of another release leads to its own part. Under this address only this version is kept.
    if (!found.ok || found.redirected) throw new Error("no " + name);
    parts.set(address, found.clone());
    // A set that grows while it is walked over is walked over whole.
    if (name.includes(".js")) for (const more of (await found.text()).match(PARTS) || []) wanted.add(more);
  }
  for (const [address, part] of parts) await cache.put(address, part);
  await cache.put(scope, response);
  const current = new Set([...parts.keys(), scope]);
  for (const old of await cache.keys()) if (!current.has(old.url)) await cache.delete(old);
}

async function page(request) {
  const late = new Promise((resolve) => setTimeout(resolve, PAGE_WAIT));
  const asked = fetch(request).catch(() => undefined);
  const answer = await Promise.race([asked, late]);
  if (answer && answer.ok) {
    keepPage().catch(() => undefined);
    return answer;
  }
  return (await kept(self.registration.scope)) || answer || Response.error();
}
