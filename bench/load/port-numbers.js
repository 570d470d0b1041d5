// @ts-check
// Where the targets of the bench listen, on all addresses of the server's namespace.
export const PORTS = {
  /** TCP: one octet for one octet, then it closes. */
  octet: 7001,
  /** TCP: keep-alive HTTP. */
  http: 8080,
  /** TCP: iperf3. */
  iperf3: 5201,
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
