// What a shared page can draw, by kind: {layer, decode}. A page holds the code of the kinds that are in it alone
// (share_splats.js, share_field.js), which enter themselves here.

export const KINDS = {};
