/**
 * The test kit, `tun2socks/testing`: drive the stack without root, kernel, sockets or a clock.
 *
 * {@link drill} runs packet scripts, {@link StackDriver} gives packets to a stack in virtual time,
 * {@link MemoryDevice} stands for a TUN, {@link Pair} joins the stack to a reference client over a bad link,
 * {@link replay} feeds it a capture.
 */

export {
  type DrillOptions,
  type DrillPacket,
  type DrillResult,
  drill,
  type EstablishedOptions,
  established,
} from "./drill.ts";
export { type LinkOptions, type LinkPacket, LossyLink, seededRandom } from "./lossy-link.ts";
export {
  FULL_OFFLOAD,
  MemoryDevice,
  type MemoryDeviceOptions,
  NO_OFFLOAD,
  offloadedTcp,
  type PacketMeta,
  splitSuperSegment,
  type TakenPacket,
} from "./memory-device.ts";
export {
  addressOctets,
  addressText,
  buildIcmp,
  buildIp,
  buildTcp,
  buildUdp,
  checksum,
  type DecodedPacket,
  decodePacket,
  type IcmpFields,
  type IcmpPacket,
  type IpFields,
  type OtherPacket,
  type TcpFields,
  TcpFlag,
  type TcpOption,
  type TcpPacket,
  transportChecksum,
  type UdpFields,
  type UdpPacket,
} from "./packet-builder.ts";
export { Pair, type PairOptions, Upstream } from "./pair.ts";
export { fillPattern, pattern, patternFault, patternOctet, type Stream } from "./pattern.ts";
export { PatternedFlow } from "./patterned-flow.ts";
export { ReferenceClient, type ReferenceClientOptions } from "./reference-client.ts";
export type { DatagramCounts } from "./replay/replayed-datagrams.ts";
export type { StreamReport, StreamVerdict } from "./replay/stream-report.ts";
export { type ReplayOptions, type ReplayReport, replay } from "./replay.ts";
export { type DriverListener, StackDriver, type StackDriverOptions } from "./stack-driver.ts";
export { VirtualTime } from "./virtual-time.ts";
