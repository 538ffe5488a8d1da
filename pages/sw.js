// Keeps the resident's page and its parts on the device, so that the page opens without a network and while the service is busy.
// It never keeps what the service says of anybody: a colour comes from the network or not at all.

const KEPT = "liangma {resident.html}";
const PARTS = ["./", "{resident.css}", "{resident.js}", "{desk.js}", "{divisions.js}", "{icon.svg}"];
const PAGE_WAIT = 4000;

// A node of another release leads to its own parts. Under an address with a version only that version is kept.
self.addEventListener("install", (event) => {
  const parts = PARTS.map((part) => new Request(part, { redirect: "error" }));
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(parts)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const others = (names) => Promise.all(names.filter((name) => name.indexOf("liangma ") === 0 && name !== KEPT).map((name) => caches.delete(name)));
  event.waitUntil(caches.keys().then(others).then(() => self.clients.claim()));
});

// The newest page where it comes in time; where it does not, or the service is busy, the one that is kept.
function page(request) {
  const kept = () => caches.open(KEPT).then((cache) => cache.match("./"));
  const late = new Promise((resolve) => setTimeout(resolve, PAGE_WAIT)).then(kept);
  const fresh = fetch(request).then((response) => (response.ok ? response : kept().then((one) => one || response)), () => kept());
  return Promise.race([fresh, late.then((one) => one || fresh)]).then((one) => one || fetch(request));
}

// A part is bound to its contents by its address: the one that is kept is the one that is asked for.
function part(request) {
  return caches.open(KEPT).then((cache) => cache.match(request)).then((one) => one || fetch(request));
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname, search } = new URL(request.url);
  const root = new URL("./", self.location.href).pathname;
  if (request.method !== "GET" || origin !== self.location.origin) return;
  if (request.mode === "navigate" && pathname === root) event.respondWith(page(request));
  else if (pathname.indexOf(root + "pages/") === 0 && /[?&]v=/.test(search)) event.respondWith(part(request));
});
