// Takes some screenshots of the last `make pages` over into docs/, side by side and small.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { SCREENSHOTS, launch } from "./browser.js";

const DOCS = fileURLToPath(new URL("../../docs/", import.meta.url));
const ROWS = {
  resident: ["resident-green-390x844", "resident-red-dark", "resident-white-390x844", "resident-tabs", "resident-records", "resident-notice"],
  sheets: ["sheet-declare", "sheet-entry", "resident-family", "resident-grants", "resident-accesses", "resident-offline-code"],
  gate: ["gate-camera", "gate-green-390x844", "gate-red-390x844", "gate-look-390x844", "gate-offline"],
  offices: ["organisation-390x844", "staff-slip-390x844", "staff-found-390x844"],
};

const browser = await launch();
try {
  for (const [name, shots] of Object.entries(ROWS)) {
    const page = await browser.newPage();
    const images = shots.map((shot) => `<img height="340" src="data:image/png;base64,${readFileSync(`${SCREENSHOTS}${shot}.png`).toString("base64")}">`);
    await page.setViewport({ width: 1600, height: 360 });
    await page.setContent(`<body style="margin:0;background:#ffffff"><div id="row" style="display:inline-flex;gap:12px;padding:10px">${images.join("")}</div></body>`);
    const row = await page.$("#row");
    writeFileSync(`${DOCS}${name}.png`, await row.screenshot());
    await page.close();
  }
} finally {
  await browser.close();
}
