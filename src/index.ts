/**
 * tun2socks as a library: the same parts as the program's.
 *
 * `Stack` alone is a pure function of packets and time. `Tunnel` joins a device, a stack and a `Relay`; `Session` adds
 * what the commands share (a loop, an upstream, the built-in server). `tun2socks/testing` has an in-memory device,
 * virtual time and the drill.
 */

export { type ErrorCode, TunnelError } from "./errors.ts";
export { createLog, type Log, type LogLevel, SILENT } from "./log.ts";
export { Loop, type LoopParticipant } from "./loop.ts";
export { type MemoryLayout, mapMemory, plainMemory, splitPages } from "./memory.ts";
export { addon, type TunInfo } from "./native/binding.ts";
export { type DnsMode, Relay, type RelayOptions } from "./relay/relay.ts";
export { type Route, Router, type RouterUpstreams } from "./relay/router.ts";
export type { Rule } from "./rules/rule.ts";
export { parseRule } from "./rules/rule-text.ts";
export { Session, type SessionOptions } from "./session.ts";
export type { PipelineMode } from "./socks/pipelining.ts";
export type {
  Association,
  AssociationHandler,
  Destination,
  DirectStream,
  LayeredStream,
  ProxyUpstream,
  Refusal,
  Stream,
  StreamHandler,
  Upstream,
} from "./socks/ports.ts";
export { type ProxyUrl, parseProxyUrl } from "./socks/proxy-url.ts";
export { SocksServer, type SocksServerOptions } from "./socks/server.ts";
export { SocksUpstream } from "./socks/upstream.ts";
export * from "./stack/index.ts";
export type { TunDevice, TunDeviceHandler } from "./tun/device.ts";
export { LinuxTun, openQueues, openTun } from "./tun/linux-tun.ts";
export {
  MTU_WITH_TSO,
  MTU_WITHOUT_TSO,
  type OffloadName,
  offloadBounds,
  ownMtu,
} from "./tun/offload.ts";
export { Tunnel, type TunnelOptions } from "./tunnel.ts";
export { type OpenUpstreamsOptions, openUpstreams } from "./upstreams/open-upstreams.ts";
export { type MemberStatus, Pool, type PoolPolicy } from "./upstreams/pool.ts";
export { parseUpstream, type UpstreamUrl } from "./upstreams/upstream-url.ts";
export type { WorkerStats } from "./workers/messages.ts";
export { Workers } from "./workers/workers.ts";
