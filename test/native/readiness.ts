/** What the native tests share: the addon, addresses as words, and waiting for one epoll event. */

import { constants } from "node:os";
import type { Addon } from "../../src/native/binding.ts";
import { addon, Epoll } from "../../src/native/binding.ts";

export const errno: typeof constants.errno = constants.errno;

/** 127.0.0.1 and ::1 as v4-mapped words and a port. */
export const loopback4 = (port: number): Int32Array =>
  Int32Array.of(0, 0, 0xffff, 0x7f000001, port);
export const loopback6 = (port: number): Int32Array => Int32Array.of(0, 0, 0, 1, port);

/** Port that `fd` is bound to. */
export function portOf(fd: number): number {
  const address = new Int32Array(5);
  const result = addon().localAddress(fd, address);
  if (result < 0) throw new Error(`getsockname: ${result}`);
  return address[4] as number;
}

/** The poll of this environment; each wait watches a descriptor for one wake-up. */
export class Readiness {
  readonly #addon: Addon = addon();
  readonly #events = new Int32Array(64);
  readonly #waiting = new Map<number, (bits: number) => void>();
  /** Wake-ups seen, for tests that count them. */
  wakeUps = 0;

  start(): void {
    this.#addon.pollStart(this.#events, (count) => {
      this.wakeUps++;
      for (let i = 0; i < count; i++) {
        const fd = this.#events[2 * i] as number;
        const resolve = this.#waiting.get(fd);
        if (resolve === undefined) throw new Error(`event for ${fd}, which nobody watches`);
        this.#waiting.delete(fd);
        this.#addon.pollRemove(fd);
        resolve(this.#events[2 * i + 1] as number);
      }
    });
  }

  stop(): void {
    this.#addon.pollStop();
  }

  wait(fd: number, bits: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(fd, resolve);
      const result = this.#addon.pollAdd(fd, fd, bits);
      if (result < 0) reject(new Error(`pollAdd: ${result}`));
    });
  }

  readable(fd: number): Promise<number> {
    return this.wait(fd, Epoll.IN | Epoll.RDHUP);
  }

  writable(fd: number): Promise<number> {
    return this.wait(fd, Epoll.OUT);
  }
}
