/**
 * What the built-in server counts. Plain numbers that only grow, but for the ones called `active…`.
 */

export class ServerStats {
  /** Connections accepted. */
  accepted = 0;
  activeConnections = 0;
  /** Closed as soon as they were accepted: their address may not, or has too many already. */
  clientsNotAllowed = 0;
  clientsTooMany = 0;
  /** Times that accepting paused because the server was full, and because descriptors or memory ran out. */
  acceptFull = 0;
  acceptExhausted = 0;
  /** Ended before a whole request: by the client, by the deadline, by what is not SOCKS5. */
  negotiationClosed = 0;
  negotiationTimeouts = 0;
  negotiationMalformed = 0;
  /** No acceptable method; wrong user or password. */
  methodRefused = 0;
  passwordRefused = 0;
  /** Requests: granted, refused by the access rules, refused otherwise. */
  granted = 0;
  notAllowed = 0;
  failed = 0;
  /** Connections to targets not made: no local port was free, descriptors or memory ran out. */
  dialsExhausted = 0;
  /** The client left before its request was answered. */
  abandoned = 0;
  /** Octets received from clients and from targets. */
  clientOctets = 0;
  targetOctets = 0;
  /** Resets passed on. */
  resets = 0;
  /** Ended for silence: of both ends, and of the other once one had finished. */
  idleEnded = 0;
  halfClosedEnded = 0;
  /** BINDs that wait for their connection. */
  activeBinds = 0;
  /** BINDs refused because there were too many; those nobody connected to. */
  bindsFull = 0;
  bindTimeouts = 0;
  /** Connections to BINDs that were reset: from another than the expected address, refused by the access rules. */
  bindForeign = 0;
  bindNotAllowed = 0;
  activeAssociations = 0;
  /** Associations refused because there were too many. */
  associationsFull = 0;
  /** Datagrams passed on, to targets and to clients. */
  datagramsOut = 0;
  datagramsIn = 0;
  /** Datagrams dropped: from another source than the client, malformed, truncated on receipt. */
  datagramForeign = 0;
  datagramMalformed = 0;
  datagramTruncated = 0;
  /** Datagrams dropped: by the access rules, for a name without address or too many waiting, by the kernel. */
  datagramNotAllowed = 0;
  datagramUnresolved = 0;
  datagramUnsent = 0;
  /** From a target before the client had sent anything. */
  datagramEarly = 0;
}
