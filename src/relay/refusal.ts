/**
 * What a client sees when an upstream said no: one table, no state.
 *
 * A reply of RFC 1928 §6 about the destination becomes the answer a real network would give; trouble with the
 * proxy itself looks like an unreachable host, because that is what it is to the client. docs/refusals.md shows
 * the errno each answer gives to a program.
 */

import type { Refusal } from "../socks/ports.ts";
import type { RefuseReason } from "../stack/ports.ts";

/** How a pending open ends. "forget": its SYN stays unanswered, so that the client's own time-out is what it sees. */
export type TcpAnswer = RefuseReason | "forget";

/** How a datagram is refused. "silence": dropped, as a network would that does not answer. */
export type UdpAnswer = RefuseReason | "silence";

/** The answer to the SYN of a flow whose CONNECT was refused. */
export function tcpAnswer(refusal: Refusal): TcpAnswer {
  switch (refusal.kind) {
    case "reply":
      return connectAnswer(refusal.reply);
    case "timeout":
      return "forget";
    case "local":
      return "reset";
    default:
      return "host-unreachable";
  }
}

/**
 * The answer to a datagram whose association was refused.
 *
 * The reply speaks of the relay, never of the datagram's target, so only "not allowed" keeps its meaning;
 * everything else is port unreachable, the one error that reaches an ordinary connected socket.
 */
export function udpAnswer(refusal: Refusal): UdpAnswer {
  switch (refusal.kind) {
    case "reply":
      return refusal.reply === Reply.NOT_ALLOWED ? "prohibited" : "port-unreachable";
    case "protocol":
      return "port-unreachable";
    case "timeout":
    case "local":
      return "silence";
    default:
      return "host-unreachable";
  }
}

/**
 * True when the refusal says that this upstream has no UDP at all: command or address type not supported, which is
 * also how src/socks reports a connection that closed on the request (OpenSSH). A proxy that spoke nonsense before
 * may be one that is just being restarted.
 */
export function lacksUdp(refusal: Refusal): boolean {
  return (
    refusal.kind === "reply" &&
    (refusal.reply === Reply.COMMAND_NOT_SUPPORTED ||
      refusal.reply === Reply.ADDRESS_TYPE_NOT_SUPPORTED)
  );
}

/** True when the refusal of an association may mean that the proxy has as many as it takes. */
export function isFullProxy(refusal: Refusal): boolean {
  return refusal.kind === "reply" && refusal.reply === Reply.GENERAL_FAILURE;
}

/** True when the trouble is the proxy's or ours, not the destination's: worth a line to the operator. */
export function isOperatorsConcern(refusal: Refusal): boolean {
  return refusal.kind === "timeout" ? refusal.isProxySilent === true : refusal.kind !== "reply";
}

/** REP field of RFC 1928 §6. */
const Reply = {
  GENERAL_FAILURE: 0x01,
  NOT_ALLOWED: 0x02,
  NET_UNREACHABLE: 0x03,
  HOST_UNREACHABLE: 0x04,
  TTL_EXPIRED: 0x06,
  COMMAND_NOT_SUPPORTED: 0x07,
  ADDRESS_TYPE_NOT_SUPPORTED: 0x08,
} as const;

function connectAnswer(reply: number): TcpAnswer {
  switch (reply) {
    case Reply.NOT_ALLOWED:
      return "prohibited";
    case Reply.NET_UNREACHABLE:
      return "net-unreachable";
    case Reply.HOST_UNREACHABLE:
      return "host-unreachable";
    case Reply.TTL_EXPIRED:
      return "ttl-exceeded";
    default:
      // 01, 05, 07, 08, Tor's F0 to F7 and whatever else: nothing better to say than "refused".
      return "reset";
  }
}
