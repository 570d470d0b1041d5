/** `tun2socks check`: what is wrong with a configuration file, each with its place, and what is understood but odd. */

import { Command } from "commander";
import { type Config, readConfig } from "../config/config.ts";
import { type NamesKnown, ruleWarnings } from "../rules/coverage.ts";
import { settingCheck } from "./config-flags.ts";
import { standardOutput } from "./error-line.ts";
import { addTunnelFlags } from "./flags.ts";
import { hasNames } from "./names.ts";

/** Exit status for a file that cannot be used, as of a command line that cannot. */
const UNUSABLE = 2;

export function checkCommand(setStatus: (status: number) => void): Command {
  return new Command("check")
    .summary("say what is wrong with a configuration file")
    .description("Says what is wrong with a configuration file, one line each.")
    .argument("<file>")
    .addHelpText(
      "after",
      `
Exit status: 0 if the file can be used, 2 if not. Warnings are for rules that
can never match. docs/rules.md says what a file holds.`,
    )
    .action((file: string) => setStatus(check(file)));
}

function check(file: string): number {
  const { options } = addTunnelFlags(new Command());
  const { config, problems } = readConfig(file, settingCheck(options));
  for (const { line, column, text } of problems) {
    standardOutput(`${file}:${line}:${column}: ${text}\n`);
  }
  if (problems.length > 0) return UNUSABLE;
  const rules = config.rules.map(({ rule }) => rule);
  for (const { rule, text } of ruleWarnings(rules, namesIn(config))) {
    standardOutput(`${file}:${config.rules[rule]?.line}: warning: ${text}\n`);
  }
  const upstreams = count(config.upstreams.size, "upstream");
  standardOutput(`ok: ${upstreams}, ${count(rules.length, "rule")}\n`);
  return 0;
}

function namesIn({ settings }: Config): NamesKnown {
  return {
    fake: hasNames(texts(settings.get("dns"))[0], texts(settings.get("proxy"))),
    sniffed: settings.has("sniff"),
  };
}

function texts(value: readonly string[] | boolean = []): readonly string[] {
  return typeof value === "boolean" ? [] : value;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
