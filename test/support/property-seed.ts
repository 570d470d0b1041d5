// Property tests draw the same cases in every run, so that what fails was broken by the change at hand.
// SEED=n draws others, SEED=random ones that nobody has seen.

import fc from "fast-check";

const seed = process.env["SEED"] ?? "1";

if (seed !== "random") fc.configureGlobal({ seed: Number(seed) });
