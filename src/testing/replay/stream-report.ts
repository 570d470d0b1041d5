/**
 * What became of a stream, in words.
 */

import type { CloseReason } from "../../stack/ports.ts";
import { formatEndpoint } from "../../stack/wire/address.ts";
import type { TcpOption } from "../packet-builder.ts";
import type { ReplayedStream } from "./replayed-stream.ts";

/**
 * exact: upstream has the client's octets, and the client at least those of the server's that it acknowledged, each
 * as captured. different: it ran through, and they are not; the reasons say why. stalled: a packet of the client
 * lost its patience. refused: as by the captured server. unanswered: so was the captured SYN. mid-stream: the
 * capture has no SYN.
 */
export type StreamVerdict =
  | "exact"
  | "different"
  | "stalled"
  | "refused"
  | "unanswered"
  | "mid-stream";

export interface StreamReport {
  /** Number of its first packet in the capture, from 1. */
  readonly frame: number;
  /** As captured. */
  readonly client: string;
  readonly server: string;
  readonly verdict: StreamVerdict;
  /** What the capture lacks, and where the replay went another way. */
  readonly reasons: readonly string[];
  /** Octets of the client that arrived upstream; octets the stack sent to the client, up to the first gap. */
  readonly upstream: Uint8Array;
  readonly downstream: Uint8Array;
  /** What the stack answered first; null: nothing. */
  readonly answer: "SYN-ACK" | "RST" | "ICMP" | null;
  /** Options of the stack's SYN-ACK. */
  readonly offered: readonly TcpOption[];
  /** Acknowledgements that the client had to be lent, see {@link ReplayedStream.added}. */
  readonly added: number;
  /** How the connection ended in the relay's eyes; null: it did not, or never opened. */
  readonly closed: CloseReason | null;
  /** The client's FIN arrived. */
  readonly finReceived: boolean;
}

export function streamReport(stream: ReplayedStream): StreamReport {
  const { conversation, upstream, downstream, answer, offered, added, closed } = stream;
  return {
    frame: Math.min(...conversation.packets.map(({ packet }) => packet.frame)),
    client: formatEndpoint(conversation.client),
    server: formatEndpoint(conversation.server),
    verdict: verdict(stream),
    reasons: reasons(stream),
    upstream: upstream.octets,
    downstream: downstream.octets,
    answer,
    offered,
    added,
    closed,
    finReceived: stream.finReceived,
  };
}

function verdict(stream: ReplayedStream): StreamVerdict {
  const { script, conversation, answer } = stream;
  if (!conversation.hasSyn) return "mid-stream";
  if (stream.isStalled) return "stalled";
  if (script.answer === "none") return answer === null ? "unanswered" : "different";
  if (script.answer === "refused") {
    return answer === "RST" || answer === "ICMP" ? "refused" : "different";
  }
  return isUpstreamExact(stream) && isDownstreamExact(stream) ? "exact" : "different";
}

function isUpstreamExact({ script, upstream }: ReplayedStream): boolean {
  return Buffer.from(upstream.octets).equals(script.clientOctets);
}

function isDownstreamExact({ script, downstream, wrongSegments }: ReplayedStream): boolean {
  const needed = Math.min(script.acknowledged, script.octets.length);
  return wrongSegments === 0 && downstream.prefix >= needed;
}

function reasons(stream: ReplayedStream): string[] {
  const { script, conversation, upstream, downstream } = stream;
  const found: string[] = [];
  const cut = (fromClient: boolean): number =>
    conversation.packets.filter((p) => p.fromClient === fromClient && p.packet.isCut).length;
  if (cut(true) > 0) found.push(`${cut(true)} packets of the client are cut: zeros for the rest`);
  if (cut(false) > 0) found.push(`${cut(false)} packets of the server are cut: zeros for the rest`);
  if (script.missing > 0) found.push(`${script.missing} octets of the server are not captured`);
  if (script.clientBehindGap > 0) {
    found.push(`octets of the client are missing from ${script.clientOctets.length} on`);
  }
  if (stream.isStalled) {
    found.push(stream.answer === null ? "the SYN was never answered" : "a packet waited too long");
  }
  if (stream.added > 0) {
    found.push(`${stream.added} acknowledgements of the client were added`);
  }
  if (script.answer !== "accepted" || !conversation.hasSyn) return found;
  if (!isUpstreamExact(stream)) {
    found.push(`upstream got ${upstream.prefix} of ${script.clientOctets.length} octets`);
  }
  if (downstream.prefix < script.octets.length) {
    found.push(`the client got ${downstream.prefix} of ${script.octets.length} octets`);
  }
  if (stream.wrongSegments > 0) found.push(`${stream.wrongSegments} segments with wrong octets`);
  return found;
}
