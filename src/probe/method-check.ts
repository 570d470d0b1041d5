/**
 * Which methods a SOCKS5 proxy takes: each is offered alone, on a connection of its own (RFC 1928 §3).
 *
 * Nothing is authenticated: a method that was chosen is as far as this goes. A server that prefers one method among
 * several would hide the others, which is why each is alone.
 */

import { Method, VERSION, writeGreeting } from "../socks/message.ts";
import type { Transport } from "../socks/transport.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { MethodAnswer } from "./card.ts";

/** What the proxy at `server` says to `method` alone; within `deadline` ms. Never rejects. */
export function offerMethod(
  transport: Transport,
  server: Endpoint,
  method: number,
  deadline: number,
): Promise<MethodAnswer> {
  return new Promise((resolve) => {
    const socket = transport.open(server);
    if (typeof socket === "number") {
      resolve("closed");
      return;
    }
    const timer = setTimeout(() => settle("no answer"), deadline);
    let received = Buffer.alloc(0);
    const settle = (answer: MethodAnswer): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    socket.once(transport.openEvent, () => {
      const greeting = new Uint8Array(3);
      writeGreeting(greeting, 0, [method]);
      socket.write(greeting);
    });
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received[0] !== VERSION) settle("nonsense");
      else if (received.length >= 2) settle(judge(method, received[1] as number));
    });
    socket.on("end", () => settle("closed"));
    socket.on("error", () => settle("closed"));
  });
}

function judge(offered: number, chosen: number): MethodAnswer {
  if (chosen === offered) return "accepted";
  return chosen === Method.UNACCEPTABLE ? "refused" : "nonsense";
}
