// Assertions of an identity platform that the node trusts, and families made of them.

import { sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const identity = fileURLToPath(new URL("../it/identity/", import.meta.url));
const ISSUER = "https://id.example";

export const PLATFORM = [`identity_jwks_file=${identity}jwks.json`, `identity_issuer=${ISSUER}`];

let number = 0;

/// What the platform says of somebody who is to be a family member.
export function assertion(person) {
  const now = Math.floor(Date.now() / 1000);
  number += 1;
  const claims = { iss: ISSUER, aud: "liangma", iat: now, exp: now + 300, jti: `${process.pid}-${number}`, cert_type: "10", purpose: "family", ...person };
  const coded = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const signed = coded({ alg: "EdDSA", kid: "ed" }) + "." + coded(claims);
  return signed + "." + sign(null, Buffer.from(signed), readFileSync(identity + "ed.pem")).toString("base64url");
}

export async function addMember(node, session, person, more = {}) {
  const response = await fetch(node.doors.desk + "/v1/family", {
    method: "POST", body: JSON.stringify({ assertion: assertion(person), ...more }),
    headers: { authorization: "Bearer " + session, "content-type": "application/json" },
  });
  const added = await response.json();
  if (response.status !== 201) throw new Error(JSON.stringify(added));
  return added;
}
