// Hands a file to the visitor.

const KEPT = 60000; // milliseconds until its memory is given up

/** Saves bytes (a Blob) under a name. */
export function download(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT);
}
