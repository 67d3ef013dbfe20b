// The interop checks through @stomp/stompjs over TCP: checks.mjs HOST PORT PREFIX

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

import { Session } from './session.mjs';

const [host, port, prefix] = process.argv.slice(2);
const everyByte = Uint8Array.from({ length: 1024 }, (_, i) => i % 256);

const connect = (heartBeatMs) => Session.connect(host, Number(port), heartBeatMs);
const queue = (check) => `/queue/${prefix}.${check}`;

async function subscribed(check, headers) {
  const session = await connect();
  session.subscribe(queue(check), headers);
  return session;
}

async function expectMessage(session, body) {
  const message = await session.message();
  assert.equal(message.body, body);
  return message;
}

const checks = {
  async send_receive() {
    const session = await subscribed('send_receive');
    session.send(queue('send_receive'), 'hello', { kind: 'greeting' });
    const message = await expectMessage(session, 'hello');
    assert.equal(message.headers.kind, 'greeting');
    await session.close();
  },

  async receipt() {
    const session = await connect();
    await session.sendConfirmed(queue('receipt'), 'important');
    await session.close();
  },

  async commit() {
    const session = await subscribed('commit');
    const transaction = session.client.begin();
    session.send(queue('commit'), 'first', { transaction: transaction.id });
    session.send(queue('commit'), 'second', { transaction: transaction.id });
    session.send(queue('commit'), 'outside');
    await expectMessage(session, 'outside');
    transaction.commit();
    await expectMessage(session, 'first');
    await expectMessage(session, 'second');
    await session.close();
  },

  async abort() {
    const session = await subscribed('abort');
    const transaction = session.client.begin();
    session.send(queue('abort'), 'never seen', { transaction: transaction.id });
    transaction.abort();
    session.send(queue('abort'), 'after');
    await expectMessage(session, 'after');
    await session.close();
  },

  async ack_nack_individual() {
    const destination = queue('ack_nack_individual');
    let session = await subscribed('ack_nack_individual', { ack: 'client-individual' });
    session.send(destination, 'nacked');
    session.send(destination, 'acked');
    const nacked = await expectMessage(session, 'nacked');
    const acked = await expectMessage(session, 'acked');
    acked.ack();
    nacked.nack();
    const again = await expectMessage(session, 'nacked');
    assert.equal(again.headers.redelivered, 'true');
    again.ack();
    await session.close();
    // Nothing may be left: a new consumer sees only what is sent from now on.
    session = await subscribed('ack_nack_individual');
    session.send(destination, 'end');
    await expectMessage(session, 'end');
    await session.close();
  },

  async durable_subscription() {
    const topic = `/topic/${prefix}.news`;
    const attach = async () => {
      const session = await connect();
      return [session, session.subscribe(topic, { id: `${prefix}-reader`, durable: 'true' })];
    };
    let [reader, subscription] = await attach();
    await reader.close();
    const publisher = await connect();
    await publisher.sendConfirmed(topic, 'while away');
    [reader, subscription] = await attach();
    await expectMessage(reader, 'while away');
    subscription.unsubscribe({ durable: 'true' });
    await reader.close();
    await publisher.sendConfirmed(topic, 'after the end');
    [reader, subscription] = await attach();
    reader.send(topic, 'new');
    await expectMessage(reader, 'new');
    subscription.unsubscribe({ durable: 'true' });
    await reader.close();
    await publisher.close();
  },

  async heart_beats() {
    const session = await connect(1000);
    const agreed = session.connected.headers['heart-beat'];
    assert.ok(agreed && !agreed.split(',').includes('0'), `no heart-beats agreed: ${agreed}`);
    // The library beats by itself meanwhile. The first beat may be the line end after CONNECTED.
    for (let i = 0; i < 4; i++) await session.beat();
    session.subscribe(queue('heart_beats'));
    session.send(queue('heart_beats'), 'still here');
    await expectMessage(session, 'still here');
    await session.close();
  },

  async binary_body() {
    await echo('binary_body', everyByte);
  },

  async body_8mib() {
    const body = new Uint8Array(8 * 1024 * 1024);
    for (let i = 0; i < body.length; i += everyByte.length) body.set(everyByte, i);
    await echo('body_8mib', body);
  },

  async utf8_headers() {
    const note = 'Grüße: 漢字\nback\\slash';
    const session = await subscribed('utf8_headers');
    session.send(queue('utf8_headers'), 'see header', { note });
    assert.equal((await session.message()).headers.note, note);
    await session.close();
  },

  async bad_destination() {
    const session = await connect();
    session.send('/nowhere/at-all', 'lost', { receipt: 'lost-1' });
    const error = await session.error();
    assert.match(`${error.headers.message}\n${error.body}`, /\/queue[^]*\/topic|\/topic[^]*\/queue/);
    assert.equal(error.headers['receipt-id'], 'lost-1');
    session.client.forceDisconnect();
  },

  async request_reply() {
    const server = await subscribed('request_reply');
    const client = await connect();
    client.send(queue('request_reply'), 'question', { 'reply-to': '/temp-queue/answers', 'correlation-id': 'q1' });
    const question = await expectMessage(server, 'question');
    server.send(question.headers['reply-to'], 'answer', { 'correlation-id': question.headers['correlation-id'] });
    const answer = await expectMessage(client, 'answer');
    assert.equal(answer.headers['correlation-id'], 'q1');
    assert.equal(answer.headers.subscription, '/temp-queue/answers');
    await server.close();
    await client.close();
  },
};

async function echo(check, body) {
  const session = await subscribed(check);
  session.send(queue(check), body, { 'content-type': 'application/octet-stream' });
  const message = await session.message();
  assert.ok(Buffer.from(message.binaryBody).equals(body), 'the body came back changed');
  await session.close();
}

// The package does not export its package.json, so it is read beside the module's own file.
const manifest = new URL('../package.json', import.meta.resolve('@stomp/stompjs'));
console.log('LIBRARY @stomp/stompjs', JSON.parse(await readFile(manifest)).version);
const first = await connect();
console.log('PROTOCOL', first.client.connectedVersion);
await first.close();
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log('PASS', name);
  } catch (error) {
    console.log(`FAIL ${name}: ${error.message.replaceAll('\n', ' ')}`);
  }
}
process.exit();
