// A running fit: how far it is, its curves, and what it shall do.

const $ = (id) => document.getElementById(id);

/** Draws points [[x, y], ...] as a line over the whole canvas; `log`: y by its logarithm. */
export function curve(canvas, points, colour, log) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth * ratio, height = canvas.clientHeight * ratio;
  if (!width) return;
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d"), pad = 3 * ratio;
  pen.strokeStyle = "#262b32";
  pen.lineWidth = ratio;
  for (const y of [pad, height / 2, height - pad]) {
    pen.beginPath();
    pen.moveTo(0, Math.round(y) + 0.5);
    pen.lineTo(width, Math.round(y) + 0.5);
    pen.stroke();
  }
  if (!points.length) return;
  const value = (y) => (log ? Math.log(Math.max(y, 1e-9)) : y);
  const ys = points.map(([, y]) => value(y)), low = Math.min(...ys), high = Math.max(...ys);
  const first = points[0][0], last = points.at(-1)[0];
  const place = ([x], i) => [
    last > first ? ((x - first) / (last - first)) * (width - 2 * pad) + pad : width - pad,
    high > low ? height - pad - ((ys[i] - low) / (high - low)) * (height - 2 * pad) : height / 2,
  ];
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 1.6 * ratio;
  pen.lineJoin = "round";
  pen.beginPath();
  points.forEach((point, i) => pen.lineTo(...place(point, i)));
  pen.stroke();
  pen.beginPath();
  pen.arc(...place(points.at(-1), points.length - 1), 2.6 * ratio, 0, 7);
  pen.fill();
}

export class Fit {
  constructor(connection) {
    this.paused = false;
    const steer = (what) => connection.send({ type: "steer", do: what });
    $("fit-pause").onclick = () => steer(this.paused ? "resume" : "pause");
    $("fit-save").onclick = () => steer("save");
    $("fit-stop").onclick = () => steer("stop");
    connection.on("fit", (status) => this.show(status));
  }

  show({ step, progress, loss, psnr, paused, message, ended }) {
    this.paused = paused;
    $("fit").hidden = false;
    $("fit-step").textContent = step.toLocaleString("en");
    $("fit-psnr").textContent = psnr.length ? psnr.at(-1)[1].toFixed(2) : "–";
    $("fit-progress").value = progress;
    $("fit-pause").textContent = paused ? "Resume" : "Pause";
    $("fit-message").textContent = message;
    for (const id of ["fit-pause", "fit-save", "fit-stop"]) $(id).disabled = Boolean(ended);
    curve($("curve-psnr"), psnr, "#8fb8de", false);
    curve($("curve-loss"), loss, "#e0b15e", true);
    $("curve-psnr-now").textContent = psnr.length ? `${psnr.at(-1)[1].toFixed(2)} dB` : "after the first look";
    $("curve-loss-now").textContent = loss.length ? loss.at(-1)[1].toPrecision(3) : "";
  }
}
