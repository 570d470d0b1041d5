/** `tun2socks explain`: which rule a flow would meet, where it would go, and why the rules before are not for it. */

import { Command } from "commander";
import { parseNamePattern } from "../relay/name-patterns.ts";
import { checkUpstreams } from "../relay/router.ts";
import { type FlowQuestion, whyNot } from "../rules/explanation.ts";
import { formatAction, formatRule, type Protocol, type Rule } from "../rules/rule.ts";
import { redacted } from "../socks/proxy-url.ts";
import { Endpoint, parseAddress } from "../stack/wire/address.ts";
import { parseUpstream } from "../upstreams/upstream-url.ts";
import { addConfigFlags, applyConfig, type RuleFlags } from "./config-flags.ts";
import { standardOutput } from "./error-line.ts";
import { addTunnelFlags, DNS_MODES, repeated, value } from "./flags.ts";
import { hasNames } from "./names.ts";
import { parseChoice, parseInteger, usage } from "./values.ts";

interface ExplainFlags extends RuleFlags {
  readonly proto: Protocol;
  readonly proxy: readonly string[];
  readonly dns?: string;
}

export function explainCommand(): Command {
  const command = new Command("explain")
    .summary("say which rule is for a flow, and why")
    .description("Says which rule is for a flow to HOST:PORT, where it goes, and why.")
    .usage("[options] <host:port>")
    .argument("<host:port>")
    .option(
      "--proto <name>",
      "tcp (default) or udp",
      value("--proto", parseChoice<Protocol>(["tcp", "udp"])),
      "tcp",
    )
    .option(
      "-p, --proxy <url>",
      "where flows go that no rule is for",
      repeated(value("-p", String)),
      [],
    )
    .option("--dns <mode>", "as for run and exec", value("--dns", parseChoice(DNS_MODES)));
  addConfigFlags(command);
  for (const option of command.options) option.hideHelp(false);
  return (
    command
      .addHelpText(
        "after",
        `
Nothing is looked up and nothing sent. A flow goes to a name under --dns fake,
else to an address: ask about what it goes to.`,
      )
      // The file's flags are those of run and exec.
      .hook("preAction", () => applyConfig(command, addTunnelFlags(new Command()).options))
      .action(explain)
  );
}

function explain(target: string, flags: ExplainFlags): void {
  const question = parseQuestion(target, flags.proto);
  checkUpstreams(flags.rule, flags.upstreams?.keys() ?? []);
  const byName = question.name !== null;
  standardOutput(`${flags.proto} to ${target}, by ${byName ? "name" : "address"}\n`);
  const tells = flags.proto === "tcp" && flags.sniff?.includes(question.target.port) === true;
  if (byName && !tells && !hasNames(flags.dns, proxies(flags))) {
    standardOutput(
      "  note: a flow has a name only under --dns fake (or with a socks5h:// proxy), or by --sniff\n",
    );
  }
  for (const [index, rule] of flags.rule.entries()) {
    const why = whyNot(rule, question);
    const line = `${index + 1} ${formatRule(rule)}`;
    standardOutput(why === null ? `  ${line}: yes\n` : `  ${line}: no, ${why}\n`);
    if (why !== null) continue;
    standardOutput(`${destination(rule, flags)}\n`);
    return;
  }
  standardOutput(`no rule is for it: goes to ${defaultProxy(flags)}\n`);
}

function destination(rule: Rule, flags: ExplainFlags): string {
  const { action } = rule;
  switch (action.kind) {
    case "proxy": {
      if (action.name === null) return `goes to ${defaultProxy(flags)}`;
      const url = flags.upstreams?.get(action.name) as string;
      return `goes to ${action.name}, ${withoutCredentials(url)}`;
    }
    case "direct":
      return "goes directly, from this machine";
    case "drop":
      return "is dropped: no answer";
    default:
      return `is rejected (${formatAction(action)}): ${REJECTIONS[flags.proto][action.by]}`;
  }
}

const REJECTIONS = {
  tcp: { rst: "a reset", icmp: "ICMP, administratively prohibited" },
  udp: { rst: "ICMP, port unreachable", icmp: "ICMP, administratively prohibited" },
} as const;

/** As `run` and `exec` would have them. */
function proxies({ proxy }: ExplainFlags): readonly string[] {
  const everywhere = process.env["ALL_PROXY"] || process.env["all_proxy"];
  return proxy.length > 0 || !everywhere ? proxy : [everywhere];
}

function defaultProxy(flags: ExplainFlags): string {
  const urls = proxies(flags);
  if (urls.length === 0) return "the built-in proxy, which goes out directly";
  return `the proxy, ${urls.map(withoutCredentials).join(" or ")}`;
}

function withoutCredentials(url: string): string {
  return parseUpstream(url).hops.map(redacted).join(",");
}

function parseQuestion(text: string, protocol: Protocol): FlowQuestion {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d+)$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined) {
    throw usage(
      `"${text}" is no host and port`,
      "write example.com:443, 192.0.2.1:443 or [2001:db8::1]:443",
    );
  }
  const target = new Endpoint();
  target.port = parseInteger(port as string, 1, 65535);
  const address = parseAddress(host);
  if (address !== null) {
    const { w0, w1, w2, w3 } = address;
    return { protocol, target: target.set(w0, w1, w2, w3, target.port), name: null };
  }
  const name = bracketed === undefined ? parseNamePattern(host) : null;
  if (name === null || name.isGlob) {
    throw usage(`"${host}" is no name and no address`, "write one as a program would");
  }
  return { protocol, target, name: name.text };
}
