// The one WebSocket to the viewer. Text is JSON; a binary message is a packet: 4 bytes length, a JSON header, a payload.

export class Connection extends EventTarget {
  constructor() {
    super();
    this.tries = 0;
    this.open();
  }

  open() {
    const address = new URL("socket", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.search = address.hash = "";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.tries = 0; this.tell("open", {}); };
    this.socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.tell(JSON.parse(data).type, JSON.parse(data));
      else this.packet(data);
    };
    this.socket.onclose = ({ reason }) => {
      this.tell("closed", { reason });
      setTimeout(() => this.open(), Math.min(8000, 500 * 2 ** this.tries++));
    };
  }

  packet(data) {
    const size = new DataView(data).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
    this.tell(header.type, { ...header, payload: data.slice(4 + size) });
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  on(type, heard) {
    this.addEventListener(type, ({ detail }) => heard(detail));
  }

  /** Sends a message; false where there is no connection. */
  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}
