import { networkInterfaces } from "node:os";
import { afterEach, expect, test } from "vitest";
import { addon } from "../../src/native/binding.ts";
import { AccessPolicy, ownAddresses } from "../../src/socks/access.ts";
import { type Endpoint, formatAddress, parseAddress } from "../../src/stack/wire/address.ts";
import { Client, closeAll, GREETING, openServer, request } from "./server-harness.ts";

afterEach(closeAll);

const address = (text: string): Endpoint => {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`no address: ${text}`);
  return parsed;
};

const LOCAL = address("127.0.0.1");
const LOCAL6 = address("::1");
const REMOTE = address("203.0.113.9");
const NEIGHBOUR = address("192.168.1.5");

function judge(client: Endpoint, destination: string, allowPrivate = false): string {
  const policy = new AccessPolicy(allowPrivate);
  policy.setOwn([address("198.51.100.7"), address("2001:db8::7"), address("192.168.1.7")]);
  return policy.judge(client, address(destination));
}

const ALWAYS: ReadonlyArray<readonly [string, string]> = [
  ["127.0.0.1", "own-host"],
  ["127.255.255.254", "own-host"],
  ["0.0.0.0", "own-host"],
  ["0.1.2.3", "own-host"],
  ["::", "own-host"],
  ["::1", "own-host"],
  ["::ffff:127.0.0.1", "own-host"],
  ["198.51.100.7", "own-host"],
  ["192.168.1.7", "own-host"],
  ["2001:db8::7", "own-host"],
  ["169.254.169.254", "link-local"],
  ["169.254.0.1", "link-local"],
  ["fe80::1", "link-local"],
  ["febf::1", "link-local"],
  ["fd00:ec2::254", "link-local"],
  ["::ffff:169.254.169.254", "link-local"],
  ["64:ff9b::169.254.169.254", "link-local"],
  ["64:ff9b::127.0.0.1", "own-host"],
  ["2002:7f00:1::1", "own-host"],
  ["2002:a9fe:a9fe::1", "link-local"],
];

const GROUPS = ["224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1", "::ffff:224.0.0.1"];

const PRIVATE = [
  "10.0.0.1",
  "172.16.0.1",
  "172.31.255.255",
  "192.168.0.1",
  "100.64.0.1",
  "100.127.255.255",
  "198.18.0.1",
  "198.19.255.255",
  "192.0.0.8",
  "fc00::1",
  "fd12:3456::1",
  "fec0::1",
  "64:ff9b::10.0.0.1",
  "2002:c0a8:101::1",
];

const PUBLIC = [
  "1.1.1.1",
  "172.15.255.255",
  "172.32.0.0",
  "100.63.255.255",
  "100.128.0.0",
  "192.0.1.1",
  "192.167.255.255",
  "198.17.255.255",
  "198.20.0.0",
  "169.253.0.1",
  "128.0.0.1",
  "223.255.255.255",
  "2606:4700::1111",
  "fbff::1",
  "fe00::1",
  "64:ff9b::1.1.1.1",
  "2002:101:101::1",
  "::2",
];

test("this host, link-local and metadata addresses are refused to everyone", () => {
  for (const [destination, verdict] of ALWAYS) {
    for (const client of [LOCAL, LOCAL6, REMOTE]) {
      expect([destination, judge(client, destination)]).toEqual([destination, verdict]);
    }
  }
});

test("private networks are refused to clients of other hosts, and only to them", () => {
  for (const destination of PRIVATE) {
    expect([destination, judge(REMOTE, destination)]).toEqual([destination, "private"]);
    expect([destination, judge(NEIGHBOUR, destination)]).toEqual([destination, "private"]);
    expect([destination, judge(LOCAL, destination)]).toEqual([destination, "allowed"]);
    expect([destination, judge(LOCAL6, destination)]).toEqual([destination, "allowed"]);
  }
});

test("everything else is allowed", () => {
  for (const destination of PUBLIC) {
    expect([destination, judge(REMOTE, destination)]).toEqual([destination, "allowed"]);
  }
});

test("allowPrivate opens all but groups", () => {
  for (const destination of [...ALWAYS.map(([text]) => text), ...PRIVATE, ...PUBLIC]) {
    expect([destination, judge(REMOTE, destination, true)]).toEqual([destination, "allowed"]);
  }
  for (const destination of GROUPS) {
    expect(judge(LOCAL, destination)).toBe("group");
    expect(judge(LOCAL, destination, true)).toBe("group");
  }
});

test("this host's own addresses are those of its interfaces", () => {
  const own = ownAddresses(addon()).map(formatAddress);
  expect(own).toContain("127.0.0.1");
  for (const list of Object.values(networkInterfaces())) {
    for (const { address: text } of list ?? []) expect(own).toContain(formatAddress(address(text)));
  }
});

test("a refused destination gets 02, by address and by name", async () => {
  const { server, port } = openServer(
    { allowPrivate: false },
    { lookup: (_name, done) => setImmediate(done, ["127.0.0.1", "169.254.169.254", "::1"]) },
  );
  for (const message of [
    request(80),
    [5, 1, 0, 1, 169, 254, 169, 254, 0, 80],
    [5, 1, 0, 4, ...new Array<number>(15).fill(0), 1, 0, 80],
    [5, 1, 0, 3, 5, ...Buffer.from("a.com"), 0, 80],
  ]) {
    const client = new Client(port);
    client.write(...GREETING, ...message);
    expect((await client.take(12))?.slice(2, 4)).toEqual([5, 2]);
  }
  expect(server.stats.notAllowed).toBe(4);
});
