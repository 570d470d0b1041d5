/** YAML and JSON Schema, loaded when there is a configuration file: most runs have none, and loading takes its time. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Ajv, ValidateFunction } from "ajv";

type Yaml = typeof import("yaml");

const load = createRequire(import.meta.url);

export function yaml(): Yaml {
  return load("yaml") as Yaml;
}

let validator: ValidateFunction | undefined;

/** What the file has to be: the schema that the package has for editors too. */
export function schemaValidator(): ValidateFunction {
  validator ??= compileSchema();
  return validator;
}

function compileSchema(): ValidateFunction {
  const { Ajv: Validator } = load("ajv") as { Ajv: typeof Ajv };
  const url = new URL("../../schema/config.schema.json", import.meta.url);
  const schema = JSON.parse(readFileSync(url, "utf8"));
  return new Validator({ allErrors: true, allowUnionTypes: true, verbose: true }).compile(schema);
}
