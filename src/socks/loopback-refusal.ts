/** Failures of our own system calls in the words of an upstream, for ways that have no proxy to say them. */

import { constants } from "node:os";
import { getSystemErrorName } from "node:util";
import { TunnelError } from "../errors.ts";
import type { Refusal } from "./ports.ts";

/** What a proxy would have said. `what`: where the way leads. */
export function loopbackRefusal(errno: number, what = "the host's loopback"): Refusal {
  const name = getSystemErrorName(-errno);
  const error = new TunnelError("ERR_PROXY_UNREACHABLE", `cannot reach ${what}: ${name}`);
  if (LOCAL.has(errno)) return { kind: "local", reply: 0, error };
  if (errno === constants.errno.ETIMEDOUT) return { kind: "timeout", reply: 0, error };
  return { kind: "reply", reply: REPLIES.get(errno) ?? 0x01, error };
}

const { ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EMFILE, ENFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL } =
  constants.errno;

/** Our own limits. */
const LOCAL: ReadonlySet<number> = new Set([EMFILE, ENFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL]);

/** REP of RFC 1928 §6. */
const REPLIES: ReadonlyMap<number, number> = new Map([
  [ENETUNREACH, 0x03],
  [EHOSTUNREACH, 0x04],
  [ECONNREFUSED, 0x05],
]);
