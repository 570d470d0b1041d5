/** What the relay counted. Plain numbers, read by whoever wants a snapshot. */

export class RelayStats {
  /** Flows whose CONNECT was granted. */
  tcpOpened = 0;
  /** Pending opens answered by RST or ICMP. */
  tcpRefused = 0;
  /** Pending opens left unanswered because the dial timed out. */
  tcpForgotten = 0;
  /** Pending opens that went away before the upstream answered. */
  tcpCancelled = 0;
  /** Flows ended by an RST because their upstream broke. */
  tcpUpstreamResets = 0;
  /** Flows that their upstream granted and ended without an octet, before the client had finished. */
  tcpUnheard = 0;
  /** Those of them that were ended by an RST because their upstream says yes before it knows. */
  tcpRefusedLate = 0;
  /** Flows that were sockets of ours come back through the device. */
  loops = 0;
  /** TCP flows, and datagrams, to an address of `--dns fake` that stands for no name. */
  namelessFlows = 0;
  /** Flows that were accepted before it was known where they go (`--sniff`); of these: that told a name, refused later. */
  sniffed = 0;
  sniffedNames = 0;
  sniffedRefused = 0;
  /** SYNs and datagrams that a rule rejected, and that one dropped. */
  rulesRejected = 0;
  rulesDropped = 0;
  /** TCP flows alive, pending ones included. */
  tcpFlows = 0;
  /** Octets from clients that upstreams took. */
  octetsUp = 0;
  /** Octets from upstreams that the stack took. */
  octetsDown = 0;

  /** Client endpoints with a UDP flow. */
  udpFlows = 0;
  /** Associations open or in the making, those of lookups not included. */
  associations = 0;
  /** Associations that gave way to another. */
  associationsEvicted = 0;
  /** Associations whose control connection ended. */
  associationsLost = 0;
  datagramsUp = 0;
  datagramsDown = 0;
  /** Datagrams answered by an ICMP error. */
  datagramsRefused = 0;
  /** Datagrams that did not fit among those waiting for an association. */
  datagramsNotWaited = 0;
  /** Datagrams too big for the way to the proxy with the SOCKS header before them (RFC 1928 §7). */
  datagramsTooBig = 0;
  /** Datagrams a full queue or arena had no room for. */
  datagramsDropped = 0;

  /** Datagrams of `--udp shared` from where no endpoint of the association sends to. */
  datagramsUnsolicited = 0;
  /** Targets of `--udp shared` that gave way to newer ones. */
  targetsEvicted = 0;

  dnsQueries = 0;
  dnsAnswers = 0;
  /** Answered here: the name of the host. */
  dnsLocal = 0;
  /** Answered with an address of ours (`--dns fake`). */
  dnsFaked = 0;
  /** Answered by SERVFAIL because every such address was in use. */
  dnsExhausted = 0;
  /** Answered by SERVFAIL because the path failed or the deadline passed. */
  dnsFailed = 0;
  /** Queries that gave way to a newer one. */
  dnsEvicted = 0;
  /** Answers nobody waits for: late, or with another id, question or server. */
  dnsUnmatched = 0;
  /** Messages to our resolver that are no query, or none that can be read to its end. */
  dnsMalformed = 0;
  /** Times lookups went from UDP to TCP. */
  dnsFallbacks = 0;
}
