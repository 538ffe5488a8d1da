// A real node for the pages to speak to: its doors, people, tokens, and what is fed to it.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/// The setting that gives sources, organisations and offices their names in print.
export const NAMES = "names_file=" + fileURLToPath(new URL("names.toml", import.meta.url));

export const LIANGMA = process.env.LIANGMA || fileURLToPath(new URL("../../target/release/liangma", import.meta.url));

const bare = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LIANGMA_")));

/// One of many, each with a number of their own.
export function person(nth, name = "陈美玲", assurance = "real_person", born = "19900307") {
  const body = `440106${born}${String(nth).padStart(3, "0")}`;
  const sum = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2].reduce((all, weight, i) => all + weight * Number(body[i]), 0);
  return { cert_no: body + "10X98765432"[sum % 11], name, assurance };
}

export class Node {
  static async start({ settings = [], ports = {} } = {}) {
    const folder = mkdtempSync(join(tmpdir(), "liangma-pages-"));
    const node = new Node();
    Object.assign(node, { folder, settings, doors: {}, seq: 0 });
    await node.open(ports);
    return node;
  }

  /// Opens the doors, on the same ports the second time.
  async open(ports = this.doors) {
    const address = (door) => `--set=${door}=127.0.0.1:${ports[door] ? new URL(ports[door]).port : 0}`;
    const pairs = ["drain_delay=0ms", "resident_niceness=0", "gate_reasons=all", ...this.settings].map((pair) => `--set=${pair}`);
    const doors = ["resident", "gate", "desk", "ops"];
    this.child = spawn(LIANGMA, ["serve", "--store", join(this.folder, "store"), ...doors.map(address), ...pairs], {
      stdio: ["ignore", "pipe", "inherit"], env: { ...bare, LIANGMA_LOG: "error" },
    });
    let said = "";
    for await (const piece of this.child.stdout) {
      said += piece;
      if (said.split("\n").length > doors.length) break;
    }
    for (const [, door, at] of said.matchAll(/^(\w+) (http:\S+)$/gm)) this.doors[door] = at;
    await until("the node is ready", async () => (await fetch(this.doors.ops + "/ready")).status === 200);
  }

  token(...args) {
    const all = ["token", ...args, "--store", join(this.folder, "store")];
    return execFileSync(LIANGMA, all, { env: bare, encoding: "utf8" }).trim();
  }

  session({ cert_no, name, assurance }) {
    return this.token("resident", "--cert-type", "10", "--cert-no", cert_no, "--name", name, "--assurance", assurance);
  }

  scanner() {
    return this.token("scanner", "--site", "east-gate");
  }

  async feed(...events) {
    this.authority ??= this.token("authority", "--source", "gd-cdc", "--for", "carriers,gz-lab");
    const response = await fetch(this.doors.ops + "/v1/feed", {
      method: "POST",
      headers: { authorization: "Bearer " + this.authority, "content-type": "application/x-ndjson" },
      body: events.map((event) => JSON.stringify(event)).join("\n"),
    });
    const fed = await response.json();
    if (fed.rejected?.length !== 0) throw new Error(JSON.stringify(fed));
  }

  register(someone) {
    return this.feed({ event: "resident", cert_type: "10", ...someone });
  }

  say(action, { cert_no }, reason) {
    this.seq += 1;
    return this.feed({
      event: "status", cert_type: "10", cert_no, reason, action, at: new Date().toISOString(), source: "gd-cdc", seq: this.seq, until: "2030-05-04",
    });
  }

  async code(session) {
    const response = await fetch(this.doors.resident + "/v1/code", { headers: { authorization: "Bearer " + session } });
    return (await response.json()).code;
  }

  signal(name) {
    this.child.kill(name);
  }

  async end(name = "SIGKILL") {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill(name);
    await ended;
  }

  async close() {
    await this.end();
    rmSync(this.folder, { recursive: true });
  }
}

export async function until(what, holds, { within = 30000 } = {}) {
  const deadline = Date.now() + within;
  let last;
  while (Date.now() < deadline) {
    try {
      if (await holds()) return;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited in vain until ${what}`, { cause: last });
}
