// One STOMP connection through @stomp/stompjs. The library speaks WebSocket by itself; its TCP wrapper gives it a plain
// TCP socket to speak through.

import { Client } from '@stomp/stompjs';
import { TCPWrapper } from '@stomp/tcp-wrapper';

/** How long a frame that must come may take. */
export const PATIENCE_MS = 15000;

/** Values in order of arrival, for whoever asks next. */
class Inbox {
  #waiting = [];
  #arrived = [];

  put(value) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(value);
    else this.#arrived.push(value);
  }

  next(what) {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), what);
  }
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Session {
  #messages = new Inbox();
  #errors = new Inbox();
  #beats = new Inbox();
  #receipts = 0;

  static async connect(host, port, heartBeatMs = 0) {
    const session = new Session();
    session.connected = await within(
      new Promise((resolve, reject) => {
        session.client = new Client({
          webSocketFactory: () => new TCPWrapper(host, port),
          connectHeaders: { host: '/', login: 'guest', passcode: 'guest' },
          heartbeatIncoming: heartBeatMs,
          heartbeatOutgoing: heartBeatMs,
          // A lost connection is an error here, not something to repair quietly.
          reconnectDelay: 0,
          onConnect: resolve,
          onStompError: (frame) => {
            session.#errors.put(frame);
            reject(new Error(frame.headers.message));
          },
          onWebSocketError: ({ message }) => reject(message),
          // What no subscription asked for: replies that arrive over a temporary queue.
          onUnhandledMessage: (message) => session.#messages.put(message),
          onHeartbeatReceived: () => session.#beats.put(true),
        });
        session.client.activate();
      }),
      'CONNECTED',
    );
    return session;
  }

  send(destination, body, headers = {}) {
    const content = typeof body === 'string' ? { body } : { binaryBody: body };
    this.client.publish({ destination, headers, ...content });
  }

  /** Resolves when the broker has taken responsibility for the message. */
  sendConfirmed(destination, body, headers = {}) {
    return this.receipted((receipt) => this.send(destination, body, { ...headers, receipt }));
  }

  /** Sends what `send` sends under a receipt header, and resolves when the RECEIPT is there. */
  receipted(send) {
    const receipt = `r-${++this.#receipts}`;
    const arrived = new Promise((resolve) => this.client.watchForReceipt(receipt, resolve));
    send(receipt);
    return within(arrived, `the receipt ${receipt}`);
  }

  subscribe(destination, headers = {}) {
    return this.client.subscribe(destination, (message) => this.#messages.put(message), headers);
  }

  message() {
    return this.#messages.next('a message');
  }

  error() {
    return this.#errors.next('an error');
  }

  beat() {
    return this.#beats.next('a heart-beat');
  }

  /** DISCONNECT with a receipt: everything before it has been read by the broker. */
  close() {
    return within(this.client.deactivate(), 'the receipt of DISCONNECT');
  }
}
