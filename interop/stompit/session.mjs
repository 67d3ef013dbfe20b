// One STOMP connection through stompit, with promises in the place of callbacks.

import stompit from 'stompit';

/** How long a frame that must come may take. */
export const PATIENCE_MS = 15000;

/** Fails if `promise` takes too long. */
export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Messages in order of arrival, for whoever asks next. */
class Inbox {
  #waiting = [];
  #arrived = [];

  put(message) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(message);
    else this.#arrived.push(message);
  }

  next() {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), 'a message');
  }
}

export class Session {
  #inbox = new Inbox();

  static async connect(host, port, heartBeat = '0,0') {
    const session = new Session();
    session.client = await within(
      new Promise((resolve, reject) => {
        const connectHeaders = { host: '/', login: 'guest', passcode: 'guest', 'heart-beat': heartBeat };
        // A margin for a busy machine: by default stompit gives up when a beat is a tenth of a second late.
        const options = { host, port, connectHeaders, heartbeatDelayMargin: 500 };
        stompit.connect(options, (error, client) => (error ? reject(error) : resolve(client)));
      }),
      'CONNECTED',
    );
    // An ERROR frame, or the end of the connection: stompit gives up the connection in both cases.
    session.failed = new Promise((resolve) => session.client.on('error', resolve));
    return session;
  }

  // Given an onReceipt option, stompit adds the receipt header itself and calls back when the RECEIPT is there.
  #receipted(send) {
    const receipt = new Promise((resolve) => send({ onReceipt: resolve }));
    const refused = this.failed.then((error) => Promise.reject(error));
    return within(Promise.race([receipt, refused]), 'a receipt');
  }

  send(destination, body, headers = {}, via = this.client) {
    const frame = via.send({ destination, 'content-length': Buffer.byteLength(body), ...headers });
    frame.end(body);
  }

  /** Resolves when the broker has taken responsibility for the message. */
  sendConfirmed(destination, body, headers = {}) {
    return this.#receipted((options) => {
      this.client.send({ destination, 'content-length': Buffer.byteLength(body), ...headers }, options).end(body);
    });
  }

  subscribe(destination, headers = {}) {
    return this.client.subscribe({ destination, ack: 'auto', ...headers }, (error, frame) => this.#take(error, frame));
  }

  /** Hands over messages of a subscription that the broker made by itself. */
  expectSubscription(id) {
    this.client.setImplicitSubscription(id, 'auto', (error, frame) => this.#take(error, frame));
  }

  // stompit reads the next frame only when this one's body has been read to its end.
  #take(error, frame) {
    if (error) return;
    const chunks = [];
    frame.on('data', (chunk) => chunks.push(chunk));
    frame.on('end', () => this.#inbox.put({ headers: frame.headers, body: Buffer.concat(chunks), frame }));
  }

  message() {
    return this.#inbox.next();
  }

  ack(message) {
    this.client.ack(message.frame);
  }

  nack(message) {
    this.client.nack(message.frame);
  }

  commit(transaction) {
    return this.#receipted((options) => transaction.commit(options));
  }

  abort(transaction) {
    return this.#receipted((options) => transaction.abort(options));
  }

  /** DISCONNECT with a receipt: everything before it has been read by the broker. */
  close() {
    return within(
      new Promise((resolve, reject) => this.client.disconnect((error) => (error ? reject(error) : resolve()))),
      'the receipt of DISCONNECT',
    );
  }
}
