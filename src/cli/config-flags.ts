/** `--config FILE`, `--rule RULE` and `--sniff`, and how a file's values become those of flags. */

import { type Command, Option } from "commander";
import { type CheckSetting, readConfig } from "../config/config.ts";
import { TunnelError } from "../errors.ts";
import type { Rule } from "../rules/rule.ts";
import { parseRule } from "../rules/rule-text.ts";
import { parseInteger, parsePath, usage } from "./values.ts";

/** What the flags come to. */
export interface RuleFlags {
  /** Those of the command line, then those of the file. */
  readonly rule: readonly Rule[];
  /** Ports whose flows tell names; undefined: none. */
  readonly sniff?: readonly number[];
  /** Proxy URLs by name; undefined: no file. */
  readonly upstreams?: ReadonlyMap<string, string>;
}

/** All, hidden from the help of `run` and `exec`, which is one screen: README.md has them. */
export function addConfigFlags(command: Command): Command {
  return command
    .addOption(
      new Option("--config <file>", "upstreams, rules and flags, YAML or JSON")
        .argParser((text) => named("--config", () => parsePath(text)))
        .hideHelp(),
    )
    .addOption(
      new Option("--rule <rule>", '"cidr=10.0.0.0/8,port=22 -> direct"; repeatable')
        .argParser((text, earlier: readonly Rule[]) => [
          ...earlier,
          named("--rule", () => parseRule(text)),
        ])
        .default([])
        .hideHelp(),
    )
    .addOption(
      new Option("--sniff [ports]", "accept first, then go by the name the flow tells (80,443)")
        .preset("80,443")
        .argParser((text, earlier: readonly number[] = []) => [
          ...earlier,
          ...named("--sniff", () => parsePorts(text)),
        ])
        .hideHelp(),
    );
}

/** PORT[,PORT…] */
function parsePorts(text: string): number[] {
  return text.split(",").map((port) => parseInteger(port, 1, 65535));
}

/** Tries a value as the flag of that name among `options` would. */
export function settingCheck(options: readonly Option[]): CheckSetting {
  return (flag, text) => {
    const option = options.find(({ long }) => long === `--${flag}`);
    if (option === undefined) throw usage(`there is no flag --${flag}`, "leave it out");
    option.parseArg?.(text, option.defaultValue);
  };
}

/**
 * Reads the file of `--config`, if there is one, into the values of `command`. What the command line has stays, and a key
 * that is no flag of this command has no effect; its value is tried all the same, by the flag of `options`.
 *
 * @throws TunnelError ERR_USAGE with the first thing that is wrong in the file.
 */
export function applyConfig(command: Command, options: readonly Option[] = command.options): void {
  const path: string | undefined = command.getOptionValue("config");
  if (path === undefined) return;
  const { config, problems } = readConfig(path, settingCheck(options));
  const [first, ...others] = problems;
  if (first !== undefined) {
    const more = others.length === 0 ? "" : ` (and ${others.length} more: see tun2socks check)`;
    throw new TunnelError(
      "ERR_USAGE",
      `cannot use --config ${path}: line ${first.line}, column ${first.column}: ${first.text}${more}`,
    );
  }
  for (const [flag, value] of config.settings) {
    const option = command.options.find(({ long }) => long === `--${flag}`);
    if (option === undefined) continue;
    const name = option.attributeName();
    if (!["default", undefined].includes(command.getOptionValueSource(name))) continue;
    command.setOptionValueWithSource(name, parsedValue(option, value), "config");
  }
  const written: readonly Rule[] = command.getOptionValue("rule");
  command.setOptionValue("rule", [...written, ...config.rules.map(({ rule }) => rule)]);
  command.setOptionValue("upstreams", config.upstreams);
}

/** As if each had been written on the command line, one after the other. */
function parsedValue(option: Option, value: readonly string[] | boolean): unknown {
  if (typeof value === "boolean") return value;
  let result: unknown = option.defaultValue;
  for (const text of value) result = option.parseArg?.(text, result) ?? text;
  return result;
}

function named<T>(flag: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error;
    throw new TunnelError(error.code, `cannot use ${flag}: ${error.message}`);
  }
}
