// Gaussians in a shared page.

import { decodeAside } from "./decoder.js";
import { KINDS } from "./kinds.js";
import { SplatLayer } from "./splats.js";

KINDS.splats = { layer: SplatLayer, decode: (text, { near }, tell) => decodeAside(text, near, tell) };
