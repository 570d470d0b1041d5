// @ts-check
// Where the targets of the bench listen, on all addresses of the server's namespace.
export const PORTS = {
  /** TCP: one octet for one octet, then it closes. The same on some ports more, see OCTET_PORTS. */
  octet: 7001,
  /** TCP: keep-alive HTTP. */
  http: 8080,
  /** TCP: iperf3, one for each lane: its number is added. */
  iperf3: 5200,
  /** UDP: echo. */
  echo: 7002,
  /** UDP: counts. */
  sink: 7003,
  /** UDP: sends. */
  source: 7004,
  /** TCP: the SOCKS5 server, and one that grants everything and connects nowhere. */
  socks: 1080,
  granting: 1081,
};

/** So many that thousands of connections do not come to a source port twice. */
export const OCTET_PORTS = [PORTS.octet, 7011, 7012, 7013, 7014, 7015, 7016, 7017];
