/** What a user reads: help that fits a screen, and one line for every mistake on the command line. */

import { describe, expect, test, vi } from "vitest";
import { main } from "../../src/cli/main.ts";
import { forgetOutput, stderr, stdout } from "../support/command-output.ts";

describe("help", () => {
  const pages = [
    ["--help"],
    ...["exec", "run", "proxy", "probe", "listen", "demo", "check", "explain"].map((name) => [
      name,
      "--help",
    ]),
  ];

  test.each(pages)("%s %s fits a screen of 24 lines and 80 columns", async (...argv) => {
    expect(await main(argv)).toBe(0);
    expect(stderr).toBe("");
    const lines = stdout.split("\n");
    expect(lines[0]).toMatch(/^Usage: tun2socks /);
    expect(lines.length).toBeLessThanOrEqual(25);
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
  });

  test.each(pages)("%s %s shows defaults as a user would write them", async (...argv) => {
    await main(argv);
    expect(stdout).not.toMatch(/default: (false|0|"|\{|\d{6})/);
    expect(stdout).not.toMatch(/\(default.*\(default/);
  });

  test("help COMMAND is COMMAND --help", async () => {
    await main(["exec", "--help"]);
    const expected = stdout;
    forgetOutput();
    expect(await main(["help", "exec"])).toBe(0);
    expect(stdout).toBe(expected);
  });
});

test("--version prints the version alone", async () => {
  expect(await main(["--version"])).toBe(0);
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

describe("mistakes", () => {
  test.each([
    ["", 2, "no command given; see tun2socks --help (ERR_USAGE)"],
    ["exex", 2, "unknown command 'exex' (Did you mean exec?); see tun2socks --help (ERR_USAGE)"],
    ["help nosuch", 2, "no such command; see tun2socks --help (ERR_USAGE)"],
    ["--log-level debug exec true", 2, "unknown option '--log-level'; see tun2socks --help"],
    ["exec", 125, "missing required argument 'command'; see tun2socks exec --help (ERR_USAGE)"],
    ["exec --", 125, "missing required argument 'command'; see tun2socks exec --help (ERR_USAGE)"],
    [
      "exec --bogus -- true",
      125,
      "unknown option '--bogus'; see tun2socks exec --help (ERR_USAGE)",
    ],
    ["exec -p", 125, "option '-p, --proxy <url>' argument missing; see tun2socks exec --help"],
    ["exec -p -- true", 125, 'cannot use -p: "--" stands where its value should; write -p VALUE'],
    ["exec -p ssh://192.0.2.1 true", 125, "cannot use the proxy URL of -p: the scheme ssh is not"],
    [
      "exec -p socks4://me:SECRET@192.0.2.1 true",
      125,
      "cannot use the proxy URL of -p: SOCKS4 has no password; give the user alone, or use socks5",
    ],
    ["exec -p 192.0.2.1:x true", 125, "cannot use the proxy URL of -p: the port is not a number"],
    ["exec --mtu 12 true", 125, 'cannot use --mtu: "12" is not a number in range; write one from'],
    ["exec --dns x true", 125, 'cannot use --dns: "x" is not known; write one of auto, tcp, udp'],
    [
      "exec --dns-real a..b true",
      125,
      'cannot use --dns-real: "a..b" is no domain and no glob; write',
    ],
    [
      "exec -p socks5://127.0.0.1:9 --dns-real a.example true",
      125,
      "cannot use --dns-real: no name is anything else than real; add --dns fake, or leave it out",
    ],
    ["exec --dns-server x true", 125, 'cannot use --dns-server: "x" is not an address; write'],
    ["exec --dns-server 1.1.1.1:0 true", 125, 'cannot use --dns-server: "0" is not a number in'],
    [
      "exec --tcp-idle 2d true",
      125,
      'cannot use --tcp-idle: "2d" is not a duration; write seconds',
    ],
    ["exec --tcp-half-closed 0 true", 125, 'cannot use --tcp-half-closed: "0" is out of range; w'],
    ["exec --congestion bbr true", 125, 'cannot use --congestion: "bbr"'],
    [
      "exec --pool any true",
      125,
      'cannot use --pool: "any" is not known; write one of failover, round-robin, least-loaded, random',
    ],
    [
      "exec -p 192.0.2.1 --pool random true",
      125,
      "cannot use --pool: it is for several proxies; give more of them, each with a -p of its own",
    ],
    [
      "exec -p 192.0.2.1 --pool-probe 5 true",
      125,
      "cannot use --pool-probe: it is for several proxies; give more of them, each with a -p",
    ],
    ["exec --pool-probe 0 true", 125, 'cannot use --pool-probe: "0" is not a number in range; w'],
    ["exec --proxy-max x true", 125, 'cannot use --proxy-max: "x" is not a number in range; w'],
    ["exec -p 192.0.2.1?max=0 true", 125, "cannot use the proxy URL of -p: max is not a number fr"],
    [
      "exec -p 192.0.2.1,u:se,cret@h true",
      125,
      "cannot use the proxy URL of -p: the port is not a number from 1 to 65535",
    ],
    ["exec --pipeline yes true", 125, 'cannot use --pipeline: "yes" is not known; write one of au'],
    ["exec --source 192.0.2.1,x true", 125, 'cannot use --source: "x" is not an address of a host'],
    ["exec --source 0.0.0.0 true", 125, 'cannot use --source: "0.0.0.0" is not an address of a ho'],
    ["exec --udp both true", 125, 'cannot use --udp: "both" is not known; write one of per-source'],
    ["exec --udp-timeout 3x true", 125, 'cannot use --udp-timeout: "3x" is not a duration; write'],
    ["exec --log-level x true", 125, 'cannot use --log-level: "x" is not a log level; write one'],
    ["exec --offload tso true", 125, 'cannot use --offload: "tso" is not known; write one of on'],
    ["run", 2, "required option '-d, --device <name>' not specified; see tun2socks run --help"],
    ["run -d a/b", 2, 'cannot use -d: "a/b" is not an interface name; write at most 15 octets'],
    ["run -d tun0 extra", 2, "too many arguments for 'run'; see tun2socks run --help (ERR_USAGE)"],
    ["run -d tun0 --binding x", 2, 'cannot use --binding: "x" is not known; write one of native'],
    ["run -d tun0 -p ftp://192.0.2.1", 2, "cannot use the proxy URL of -p: the scheme ftp is not"],
    [
      "run -d tun0 --binding tuntap2 --host-loopback -p 192.0.2.1",
      2,
      "cannot use --host-loopback: --binding tuntap2 has no way to the host's loopback; leave it",
    ],
    [
      "run -d tun0 --workers 17",
      2,
      'cannot use --workers: "17" is not a number in range; write one',
    ],
    [
      "run -d tun0 --binding tuntap2 --workers 2",
      2,
      "cannot use --workers: the devices of --binding tuntap2 have one queue; leave it out, or use",
    ],
    ["proxy --listen x", 2, 'cannot use --listen: "x" is not an address; write 192.0.2.1, 192.0'],
    ["proxy --allow x", 2, 'cannot use --allow: "x" is not a rule; write all:25, 10.0.0.0/8, ['],
    ["proxy --deny all:x", 2, 'cannot use --deny: "all:x" is not a rule; write all:25, 10.0.0.'],
    [
      "proxy --allow 10.0.0.5/8:80",
      2,
      'cannot use --allow: "10.0.0.5/8:80" has bits behind its prefix; write 10.0.0.0/8 (ERR_USAGE)',
    ],
    [
      "proxy --allow-client fd00::1/8",
      2,
      'cannot use --allow-client: "fd00::1/8" has bits behind its prefix; write fd00::/8 (ERR_USAGE)',
    ],
    ["proxy --allow-client x", 2, 'cannot use --allow-client: "x" is not a prefix; write 192.0'],
    ["proxy --max-clients 0", 2, 'cannot use --max-clients: "0" is not a number in range; write'],
    ["proxy --bind-address ::", 2, 'cannot use --bind-address: "::" is not an address of a host'],
    ["proxy --user x", 2, "cannot use --user: it has no name or no password; write --user NAME"],
    ["proxy --user-file /no/such", 2, "cannot read /no/such: no such file; check the path"],
    ["proxy --user-file /", 2, "cannot read /: it is a directory; check the path"],
    ["proxy --user-file", 2, "option '--user-file <file>' argument missing; see tun2socks proxy"],
    ["proxy --user-file --open", 2, 'cannot use --user-file: "--open" stands where its value sh'],
    ["demo extra", 2, "too many arguments for 'demo'; see tun2socks demo --help (ERR_USAGE)"],
  ])("tun2socks %s ends with %d and one line", async (words, status, line) => {
    expect(await main(words.split(" ").filter((word) => word !== ""))).toBe(status);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^tun2socks: [^\n]+; [^\n]+ \(ERR_[A-Z_]+\)\n$/);
    expect(stderr).toContain(`tun2socks: ${line}`);
  });

  test("an argument cannot break the line or steer the terminal", async () => {
    expect(await main(["exec", "--a\nb\u001b[31m"])).toBe(125);
    expect(stderr).toBe(
      "tun2socks: unknown option '--a b [31m'; see tun2socks exec --help (ERR_USAGE)\n",
    );
  });

  test.each([
    ["run -d tun0 --prxy=socks5://user:se'cret@192.0.2.1", "unknown option '--prxy'; see"],
    ["exec --prxy=user:se'cret@192.0.2.1 true", "unknown option '--prxy'; see"],
    ["socks5://user:se'cret@192.0.2.1", "unknown command '…@192.0.2.1'; see tun2socks --help"],
  ])("tun2socks %s does not repeat the password", async (words, line) => {
    await main(words.split(" "));
    expect(stderr).toContain(`tun2socks: ${line}`);
    expect(stderr).not.toContain("cret");
  });

  test.each(["ALL_PROXY", "all_proxy"])("a scheme we lack in %s is named", async (name) => {
    vi.stubEnv(name, "ssh://user:secret@192.0.2.1:8080");
    expect(await main(["exec", "true"])).toBe(125);
    expect(stderr).toMatch(/^tun2socks: cannot use the proxy URL of ALL_PROXY: the scheme ssh /);
    expect(stderr).not.toContain("secret");
  });
});
