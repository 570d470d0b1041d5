#!/usr/bin/env node
// Keeps the code that V8 compiled of the bundle, for bin/tun2socks.js to start with: what the help of `exec` runs, which
// is most of what happens before a command does. Run where the bundle was made (scripts/bundle.js) and where a package
// was installed: the file is good for one version of V8. In a fresh clone there is no bundle yet, and nothing to do.

import { existsSync, renameSync, writeFileSync } from "node:fs";
import tun2socks from "../bin/tun2socks.js";

const { BUNDLE, CODE, load } = tun2socks;
if (existsSync(BUNDLE)) {
  const { script, exports } = load();
  process.stdout.write = () => true;
  await exports.main(["exec", "--help"]);
  // Whoever starts meanwhile finds the whole file or none.
  writeFileSync(`${CODE}.new`, script.createCachedData());
  renameSync(`${CODE}.new`, CODE);
}
