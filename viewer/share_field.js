// Hash fields in a shared page.

import { FieldLayer } from "./field.js";
import { decodeFieldAside } from "./field_decoder.js";
import { KINDS } from "./kinds.js";

KINDS.field = { layer: FieldLayer, decode: (text, { field }, tell) => decodeFieldAside(text, field, tell) };
