// The one script of a shared file that is not packed: it unpacks the page's own code, which the policy names by its hash
// too, and runs it. A plain script, no module.

(async () => {
  const $ = (id) => document.getElementById(id), packed = $("code");
  try {
    const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    packed.replaceWith(Object.assign(document.createElement("script"), { textContent: await new Response(unpacked).text() }));
  } catch {
    $("loading").hidden = true;
    Object.assign($("message"), { textContent: "this browser is too old to unpack the page: a picture is all that it shows", hidden: false });
  }
})();
