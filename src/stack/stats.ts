/**
 * Counters of one stack, one per reason. Plain numbers: a snapshot is a shallow copy.
 */
export class StackStats {
  packetsIn = 0;
  /** Given to another stack of the device, which has their flow and counts them too; lost because it lags behind. */
  handedOver = 0;
  handOverFull = 0;

  // IP: packets that could not be used
  ipTruncated = 0;
  ipBadVersion = 0;
  ipBadHeaderLength = 0;
  ipBadChecksum = 0;
  ipBadOptions = 0;
  ipBadExtension = 0;
  ipJumbogram = 0;
  ipBadSource = 0;
  ipBadDestination = 0;
  /** IPv6 parameter problems (RFC 4443 §3.4), answered. */
  ipParameterProblem = 0;
  /** IPv6 on a device whose MTU is below 1,280. */
  ipNotServed = 0;
  ipUnknownProtocol = 0;
  /** A destination on our own host or nowhere, or a source that cannot be answered. */
  ipMartian = 0;
  /** Source and destination address are one (land attack). */
  ipLand = 0;

  // Fragments
  fragmentsIn = 0;
  fragmentsReassembled = 0;
  fragmentsDuplicate = 0;
  /** Datagrams discarded because fragments overlapped or contradicted each other (RFC 5722). */
  fragmentsOverlap = 0;
  /** Fragments of a datagram discarded before. */
  fragmentsOfDiscarded = 0;
  /** Bad length, beyond 65,535 octets, or a first one that ends before the upper layer begins. */
  fragmentsMalformed = 0;
  fragmentsTimeout = 0;
  fragmentsEvicted = 0;
  fragmentsNoMemory = 0;

  // ICMP
  icmpIn = 0;
  icmpTruncated = 0;
  icmpBadChecksum = 0;
  icmpErrorsIn = 0;
  icmpEchoIn = 0;
  icmpIgnored = 0;
  icmpErrorsOut = 0;
  icmpEchoOut = 0;
  /** Errors that must not be sent: about multicast, broadcast, later fragments, ICMP errors. */
  icmpForbidden = 0;
  icmpRateLimited = 0;
  icmpQueueFull = 0;
  icmpNoMemory = 0;

  // UDP
  udpDatagramsIn = 0;
  udpDatagramsOut = 0;
  udpTruncated = 0;
  udpBadLength = 0;
  udpBadChecksum = 0;
  /** Checksum 0 over IPv6 (RFC 8200 §8.1), port 0, or a destination no datagram may have. */
  udpMalformed = 0;
  udpFlows = 0;
  udpFlowsOpened = 0;
  udpFlowsIdle = 0;
  udpFlowsEvicted = 0;
  udpNotAccepted = 0;
  udpQueueFull = 0;
  udpTooLong = 0;
  udpFragmented = 0;
  /** The source of an answer is not of the family of the client. */
  udpWrongFamily = 0;

  // TCP: segments that could not be used
  tcpSegmentsIn = 0;
  tcpTruncated = 0;
  tcpBadOffset = 0;
  tcpBadChecksum = 0;
  /** Of no connection, answered by RST; resets of no connection. */
  tcpStray = 0;
  tcpStrayResets = 0;
  /** Outside the window, answered by an ACK; octets cut off at its right edge. */
  tcpOutOfWindow = 0;
  tcpBeyondWindow = 0;
  tcpWithoutAck = 0;
  /** Acknowledges what was never sent, or long ago (RFC 5961 §5). */
  tcpBadAck = 0;
  /** Older than what came before (RFC 7323 §5). */
  tcpPaws = 0;
  tcpWithoutTimestamps = 0;
  /** Octets of a flow that takes none any more, segments of an open without an answer. */
  tcpUnwanted = 0;
  tcpIcmpIgnored = 0;
  /** Flows whose segments became shorter by "too big" (RFC 1191, RFC 8201). */
  tcpPathMtuLowered = 0;

  /** Super-segments count once. */
  tcpSegmentsOut = 0;

  // TCP: connections
  /** In the table now. */
  tcpFlows = 0;
  tcpOpens = 0;
  tcpEstablished = 0;
  tcpDuplicateSyns = 0;
  tcpForgotten = 0;
  tcpPendingEvicted = 0;
  /** Unanswered SYN-ACKs that gave way to another open. */
  tcpHalfOpenEvicted = 0;
  /** Opens ended by an ICMP error. */
  tcpCancelled = 0;
  tcpTableFull = 0;
  tcpTimeWaitEvicted = 0;
  tcpTimedOut = 0;
  /** Ended because the client was silent for too long (lifetimes.ts). */
  tcpIdle = 0;
  tcpResetsIn = 0;
  tcpResetsOut = 0;
  /** Resets that found their queue full. */
  tcpResetsDropped = 0;
  /** Challenge ACKs sent, and not sent (RFC 5961 §7). */
  tcpChallenges = 0;
  tcpChallengesSuppressed = 0;

  // TCP: octets
  tcpOutOfOrder = 0;
  /** Received octets that no page could hold: not acknowledged, they will come again. */
  tcpReceiveNoMemory = 0;
  tcpReassemblyNoMemory = 0;
  /** Arrivals out of order, or second ones, beyond what the ACKs of a batch tell. */
  tcpSackReportsForgotten = 0;
  /** Times a flow found no page to send from. */
  tcpStarved = 0;
  tcpRetransmissions = 0;
  tcpFastRecoveries = 0;
  tcpTimeouts = 0;
  /** Probes of a tail (RFC 8985 §7), and of closed windows. */
  tcpLossProbes = 0;
  tcpProbes = 0;
  /** Segments that came with congestion experienced, and times an echo shrank our window (RFC 3168). */
  tcpCongestionMarks = 0;
  tcpCongestionEchoes = 0;
  /** D-SACKs of clients, and reductions of the window that were taken back. */
  tcpDuplicatesReported = 0;
  tcpReductionsUndone = 0;
  /** Keep-alives sent. */
  tcpKeepAlives = 0;
}
