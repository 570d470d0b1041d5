import { networkInterfaces } from "node:os";
import { afterEach, expect, test } from "vitest";
import { addon } from "../../src/native/binding.ts";
import { AccessPolicy, ownAddresses } from "../../src/socks/access.ts";
import { type AccessRule, parseAccessRule } from "../../src/socks/access-rules.ts";
import { type Endpoint, formatAddress, parseAddress } from "../../src/stack/wire/address.ts";
import {
  Client,
  closeAll,
  connected,
  GREETING,
  listen,
  openServer,
  request,
  until,
} from "./server-harness.ts";

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

/** "+" allows, "-" denies. */
function rules(...texts: readonly string[]): AccessRule[] {
  return texts.map((text) => {
    const rule = parseAccessRule(text.startsWith("+"), text.slice(1));
    if (rule === null) throw new Error(`no rule: ${text}`);
    return rule;
  });
}

function judgeBy(texts: readonly string[], destination: string, port: number): string {
  const policy = new AccessPolicy(false, rules(...texts));
  const endpoint = address(destination);
  endpoint.port = port;
  return policy.judge(REMOTE, endpoint);
}

test("the first rule that matches decides, by prefix and port", () => {
  const list = ["+203.0.113.7:25", "-all:25,465-587", "-203.0.113.0/24", "-2001:db8::/32:80"];
  for (const [destination, port, verdict] of [
    ["203.0.113.7", 25, "allowed"],
    ["203.0.113.7", 26, "rule"],
    ["1.1.1.1", 25, "rule"],
    ["1.1.1.1", 464, "allowed"],
    ["1.1.1.1", 465, "rule"],
    ["1.1.1.1", 587, "rule"],
    ["1.1.1.1", 588, "allowed"],
    ["2606:4700::1111", 25, "rule"],
    ["2001:db8::1", 80, "rule"],
    ["2001:db8::1", 81, "allowed"],
    ["64:ff9b::203.0.113.9", 80, "rule"],
  ] as const) {
    expect([destination, port, judgeBy(list, destination, port)]).toEqual([
      destination,
      port,
      verdict,
    ]);
  }
});

test("an allowed prefix opens what the default closes; all of a family does not, and groups stay closed", () => {
  for (const [rule, destination, verdict] of [
    ["+10.1.0.0/16", "10.1.2.3", "allowed"],
    ["+10.1.0.0/16", "10.2.2.3", "private"],
    ["+127.0.0.1", "127.0.0.1", "allowed"],
    ["+169.254.169.254:80", "169.254.169.254", "allowed"],
    ["+169.254.169.254:81", "169.254.169.254", "link-local"],
    ["+fd00::/8", "fd12::1", "allowed"],
    ["+fd00:1::/96", "fd00:1::2", "allowed"],
    ["+all", "10.1.2.3", "private"],
    ["+0.0.0.0/0", "127.0.0.1", "own-host"],
    ["+::/0", "fd12::1", "private"],
    ["+::ffff:0:0/96", "10.1.2.3", "private"],
    ["+224.0.0.0/4", "224.0.0.1", "group"],
  ] as const) {
    expect([rule, judgeBy([rule], destination, 80)]).toEqual([rule, verdict]);
  }
});

test("only what is allowed: the last rule denies all", () => {
  const list = ["+203.0.113.0/24:443", "+all:53", "-all"];
  expect(judgeBy(list, "203.0.113.9", 443)).toBe("allowed");
  expect(judgeBy(list, "203.0.113.9", 80)).toBe("rule");
  expect(judgeBy(list, "1.1.1.1", 53)).toBe("allowed");
  expect(judgeBy(list, "10.0.0.1", 53)).toBe("private");
  expect(judgeBy(list, "2606:4700::1111", 443)).toBe("rule");
});

test("rules are read as they are written, and nothing else is", () => {
  const parsed = (text: string): unknown => {
    const rule = parseAccessRule(true, text);
    return rule === null ? null : [rule.cidr?.bits ?? "all", rule.ports];
  };
  for (const [text, expected] of [
    ["all", ["all", []]],
    ["all:0-65535", ["all", [0, 65535]]],
    ["192.0.2.1", [128, []]],
    ["192.0.2.1:80", [128, [80, 80]]],
    ["192.0.2.0/24:80,90-99", [120, [80, 80, 90, 99]]],
    ["2001:db8::1", [128, []]],
    ["2001:db8::/32", [32, []]],
    ["2001:db8::/32:443", [32, [443, 443]]],
    ["[2001:db8::1]:443", [128, [443, 443]]],
    ["[2001:db8::/32]:443", [32, [443, 443]]],
  ] as const) {
    expect([text, parsed(text)]).toEqual([text, expected]);
  }
  for (const text of [
    ...["", "any", "all:", "all:x", "all:80-", "all:9-8", "all:65536", "all:1,,2", "all:80:90"],
    ...["192.0.2.1:", "192.0.2.0/33", "192.0.2:80", "[2001:db8::1]443", "2001:db8::/129:1"],
    ...["example.com", "example.com:80", " 192.0.2.1", "192.0.2.1/24/8"],
  ]) {
    expect([text, parsed(text)]).toEqual([text, null]);
  }
});

test("rules hold for CONNECT by address and by name, and the next address of a name is tried", async () => {
  const target = await listen((socket) => socket.end("hello"));
  const { server, port } = openServer(
    { rules: rules("-127.0.0.2", "-127.0.0.1:1") },
    { lookup: (_name, done) => setImmediate(done, ["127.0.0.2", "127.0.0.1"]) },
  );
  const refused = new Client(port);
  refused.write(...GREETING, ...request(1));
  expect((await refused.take(12))?.slice(2, 4)).toEqual([5, 2]);
  const client = new Client(port);
  client.write(...GREETING, 5, 1, 0, 3, 1, 65, target >> 8, target & 255);
  expect((await client.take(12))?.[3]).toBe(0);
  expect(server.stats).toMatchObject({ notAllowed: 1, granted: 1 });
});

test("who is no allowed client is closed without an answer, and counted", async () => {
  const cidr = { address: address("127.0.0.0"), bits: 96 + 31 };
  const { server, port } = openServer({ allowClients: [cidr] });
  const client = new Client(port);
  client.write(...GREETING);
  expect(await client.take(2)).toEqual([5, 0]);
  const other = new Client(port, "127.0.0.1", "127.0.0.2");
  await until(() => other.ended || other.closed);
  expect(other.received.length).toBe(0);
  expect(server.stats).toMatchObject({ accepted: 1, clientsNotAllowed: 1, activeConnections: 1 });
});

test("one address has no more connections than its limit, others still have theirs", async () => {
  const { server, port } = openServer({ maxPerClient: 2 });
  const target = await listen((socket) => socket.pipe(socket));
  const clients = [await connected(port, target), await connected(port, target)];
  const third = new Client(port);
  await until(() => third.ended || third.closed);
  const other = new Client(port, "127.0.0.1", "127.0.0.2");
  other.write(...GREETING);
  expect(await other.take(2)).toEqual([5, 0]);
  expect(server.stats).toMatchObject({ accepted: 3, clientsTooMany: 1 });
  clients[0]?.socket.destroy();
  await until(() => server.stats.activeConnections === 2);
  await connected(port, target);
});
