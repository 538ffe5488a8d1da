// A gate without a network, in JavaScript (Node 20): runs pages/offline-list.js, the one file that a device needs.
//
//   node offline_gate.js OFFLINE-LIST.JS KEYS.json NOW_MS FILE... < CODES
//
// Prints for each file whether it was taken, then for each code a line: state, fresh or stale, masked name, masked number.
"use strict";
const fs = require("fs");
const readline = require("readline");

async function main([library, keys, now, ...files]) {
  const OfflineList = new Function(`${fs.readFileSync(library, "utf8")}\nreturn OfflineList;`)();
  const list = new OfflineList();
  list.keys = await OfflineList.readKeys(JSON.parse(fs.readFileSync(keys, "utf8")));
  for (const name of files) {
    const file = new Uint8Array(fs.readFileSync(name));
    const taken = file[4] === 2 ? await list.takeChanges(file) : await list.takeBase(file);
    console.log(taken);
  }
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const said = await list.judge(line, Number(now));
    const holder = said.name === undefined ? "" : ` ${said.name} ${said.certNo}`;
    console.log(`${said.state} ${said.stale ? "stale" : "fresh"}${holder}`);
  }
}

main(process.argv.slice(2));
