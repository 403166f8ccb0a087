// Packages of npm that are not installed beside the script.

import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

// The package `name` from the directory in which `npm install` ran.
export const load = (directory, name) =>
  import(pathToFileURL(createRequire(resolve(directory, "package.json")).resolve(name)));
