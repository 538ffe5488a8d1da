// The first page of the demonstration: a link, a QR code of it and a sentence for each role.

let demo = null;

function drawRoles() {
  if (!demo) return;
  text("phone", say(demo.lan ? "phone" : "no_phone"));
  fill("roles", demo.links.map(({ role, link }) => {
    const address = new URL(link, location.origin).href;
    const words = element("span", element("b", say(role)), element("span", say(role + "_says")));
    const to = made("a", { href: address, target: "_blank", rel: "noopener", "data-role": role }, words);
    // A link of two tokens is longer than a code has room for, and nobody opens a school on a phone.
    if (role !== "operator" && qr(address)) {
      const code = made("canvas", { role: "img", "aria-label": say(role) });
      drawCode(code, address, 6);
      to.appendChild(code);
    }
    return element("li", to);
  }).concat(demo.visitor ? [visitor(demo.visitor)] : []));
}

// Somebody from another province: the code itself, to be scanned at the gate's page or pasted there.
function visitor(text) {
  const code = made("canvas", { role: "img", "aria-label": say("visitor") });
  if (qr(text)) drawCode(code, text, 6);
  const words = element("span", element("b", say("visitor")), element("span", say("visitor_says")), made("input", { readonly: "", value: text, "aria-label": say("visitor") }));
  return made("li", { "data-role": "visitor" }, words, code);
}

offerLanguages(drawRoles);
fetch("demo/links.json", { cache: "no-store" }).then((response) => response.json()).then((told) => {
  demo = told;
  drawRoles();
}).catch(() => text("says", say("away")));
