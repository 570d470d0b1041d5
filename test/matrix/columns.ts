/** What is tried with every proxy. */

export const COLUMNS = {
  v4: "CONNECT IPv4",
  v6: "CONNECT IPv6",
  name: "CONNECT name",
  refused: "refused is refused",
  transfer: "1 MiB each way",
  half: "half-close",
  password: "password",
  wrong: "wrong password",
  udp4: "UDP IPv4",
  udp6: "UDP IPv6",
  udpName: "UDP name",
  bind: "BIND",
  oneWrite: "handshake in one write",
} as const;
export type Column = keyof typeof COLUMNS;
export type Cells = Readonly<Record<Column, string>>;

/** What is seen where all is well. */
export const USUAL = {
  ...(Object.fromEntries(Object.keys(COLUMNS).map((column) => [column, "yes"])) as Cells),
  wrong: "ERR_PROXY_AUTH",
};
