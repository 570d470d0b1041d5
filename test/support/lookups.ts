/** Lookups of a client in a `RelayWorld` with `--dns fake`, answered at once. */

import { decode, encode, type Packet, type RecordType } from "dns-packet";
import { RelayWorld, type RelayWorldOptions } from "./relay-world.ts";

export const OURS: string = "198.18.0.3:53";

export type Message = ReturnType<typeof decode> & { readonly rcode?: string };

export function fakeWorld(options: RelayWorldOptions = {}): RelayWorld {
  return new RelayWorld({ dnsMode: "fake", ...options });
}

export function query(name: string, type: string, extra: Partial<Packet> = {}): Buffer {
  const questions = [{ type: type as RecordType, name }];
  return encode({ type: "query", id: 77, flags: 0x100, questions, ...extra });
}

/** The answer that comes at once, or null. */
export function ask(world: RelayWorld, message: Uint8Array, target = OURS): Message | null {
  world.udp(target, 5353, message);
  const [datagram] = world.datagrams();
  return datagram === undefined ? null : decode(Buffer.from(datagram.payload));
}

export function data(message: Message | null): unknown[] {
  return (message?.answers ?? []).map((answer) => ("data" in answer ? answer.data : null));
}

/** The address that stands for a name. */
export function addressOf(world: RelayWorld, name: string, type: "A" | "AAAA" = "A"): string {
  return data(ask(world, query(name, type)))[0] as string;
}
