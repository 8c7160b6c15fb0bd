// What a shared page can draw, by kind: {layer, decode}; `editor` where what is in it can be edited. A page holds the code of the kinds that are in it alone
// (share_splats.js, share_field.js, share_editor.js), which enter themselves here.

export const KINDS = {};
