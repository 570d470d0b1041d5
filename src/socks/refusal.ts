/**
 * Refusals and their words. The error is made when somebody asks for it: most refusals are a closed port somewhere,
 * and nobody logs those.
 */

import { constants } from "node:os";
import { getSystemErrorName } from "node:util";
import { type ErrorCode, TunnelError } from "../errors.ts";
import type { Refusal } from "./ports.ts";

const { errno } = constants;

export class SocksRefusal implements Refusal {
  readonly kind: Refusal["kind"];
  readonly reply: number;
  readonly isProxySilent: boolean;
  readonly #label: string;
  readonly #why: string;
  #error: TunnelError | null = null;

  /** `why`: what failed and what to do, without credentials; `label` names the proxy. */
  constructor(kind: Refusal["kind"], label: string, why: string, reply = 0, isProxySilent = false) {
    this.kind = kind;
    this.reply = reply;
    this.isProxySilent = isProxySilent;
    this.#label = label;
    this.#why = why;
  }

  get error(): TunnelError {
    this.#error ??= new TunnelError(CODES[this.kind], `proxy ${this.#label}: ${this.#why}`);
    return this.#error;
  }
}

const CODES: Readonly<Record<Refusal["kind"], ErrorCode>> = {
  reply: "ERR_PROXY_REFUSED",
  unreachable: "ERR_PROXY_UNREACHABLE",
  auth: "ERR_PROXY_AUTH",
  protocol: "ERR_PROXY_PROTOCOL",
  timeout: "ERR_PROXY_TIMEOUT",
  local: "ERR_PROXY_UNREACHABLE",
};

/** The refusal for a system call on the way to the proxy that ended with `error` (positive errno). */
export function errnoRefusal(label: string, error: number): SocksRefusal {
  const kind = LOCAL.has(error) ? "local" : "unreachable";
  return new SocksRefusal(
    kind,
    label,
    WORDS.get(error) ?? `${getSystemErrorName(-error)}; check the way to it`,
  );
}

/** Our own limits and configuration; everything else says something about the way to the proxy. */
const LOCAL: ReadonlySet<number> = new Set([
  errno.EMFILE,
  errno.ENFILE,
  errno.EADDRNOTAVAIL,
  errno.ENOBUFS,
  errno.ENOMEM,
  errno.ENOSPC,
  errno.EPERM,
  errno.EACCES,
  errno.ENODEV,
]);

const WORDS: ReadonlyMap<number, string> = new Map([
  [errno.ECONNREFUSED, "connection refused; is it running on that port?"],
  [errno.ENETUNREACH, "network unreachable; check the route to it"],
  [errno.EHOSTUNREACH, "host unreachable; check its address"],
  [errno.ETIMEDOUT, "connection timed out; check its address and any firewall"],
  [errno.ECONNRESET, "connection reset; is it a proxy that lets this host in?"],
  [errno.EMFILE, "too many open files; raise the limit (ulimit -n)"],
  [errno.ENFILE, "too many open files in the system; raise fs.file-max"],
  [
    errno.EADDRNOTAVAIL,
    "no local port is free; widen net.ipv4.ip_local_port_range, set net.ipv4.tcp_tw_reuse=1, or give several addresses of this host (--source)",
  ],
  [errno.EPERM, "operation not permitted; a mark needs CAP_NET_ADMIN, or a firewall forbids it"],
  [errno.ENOENT, "there is no such socket; is it running, is that its path?"],
  [errno.ENOTSOCK, "it is no socket; check the path"],
  [errno.EACCES, "permission denied; check the permissions of the socket, or a firewall"],
  [errno.ENODEV, "no such network interface; check --interface"],
]);

/** errno (positive) of a Node.js error, EIO if it has none. */
export function errnoOf(error: NodeJS.ErrnoException): number {
  // errno of Node.js is negative, and not a system's number for its own errors.
  const number = -(error.errno ?? (error.code === "ECONNRESET" ? -errno.ECONNRESET : 0));
  return number > 0 && number < 4096 ? number : errno.EIO;
}
