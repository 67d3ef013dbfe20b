// The interop checks through stompit: checks.mjs HOST PORT PREFIX

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { setTimeout as idle } from 'node:timers/promises';

import { Session, within } from './session.mjs';

const [host, port, prefix] = process.argv.slice(2);
const everyByte = Buffer.from(Array.from({ length: 1024 }, (_, i) => i % 256));

const connect = (heartBeat) => Session.connect(host, Number(port), heartBeat);
const queue = (check) => `/queue/${prefix}.${check}`;

async function subscribed(check, headers) {
  const session = await connect();
  session.subscribe(queue(check), headers);
  return session;
}

async function expectMessage(session, body) {
  const message = await session.message();
  assert.equal(message.body.toString(), body);
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
    session.send(queue('commit'), 'first', {}, transaction);
    session.send(queue('commit'), 'second', {}, transaction);
    session.send(queue('commit'), 'outside');
    await expectMessage(session, 'outside');
    await session.commit(transaction);
    await expectMessage(session, 'first');
    await expectMessage(session, 'second');
    await session.close();
  },

  async abort() {
    const session = await subscribed('abort');
    const transaction = session.client.begin();
    session.send(queue('abort'), 'never seen', {}, transaction);
    await session.abort(transaction);
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
    session.ack(acked);
    session.nack(nacked);
    const again = await expectMessage(session, 'nacked');
    assert.equal(again.headers.redelivered, 'true');
    session.ack(again);
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
    const session = await connect('1000,1000');
    const agreed = session.client.headers['heart-beat'];
    assert.ok(agreed && !agreed.split(',').includes('0'), `no heart-beats agreed: ${agreed}`);
    // stompit looks at every interval whether bytes have come, and gives up the connection if none have.
    await idle(3500);
    session.subscribe(queue('heart_beats'));
    session.send(queue('heart_beats'), 'still here');
    await expectMessage(session, 'still here');
    await session.close();
  },

  async binary_body() {
    await echo('binary_body', everyByte);
  },

  async body_8mib() {
    await echo('body_8mib', Buffer.alloc(8 * 1024 * 1024, everyByte));
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
    session.send('/nowhere/at-all', 'lost');
    // stompit 1.0.0 reads an ERROR's body if it is text/plain, but then destroys the frame in the place of the client:
    // the error surfaces as an uncaught one, which a program must expect. Otherwise it keeps the message header only.
    const uncaught = new Promise((resolve) => process.once('uncaughtException', resolve));
    const error = await within(Promise.race([session.failed, uncaught]), 'an error');
    assert.ok(error.isApplicationError?.(), `not an ERROR frame: ${error.message}`);
    if (error.longMessage) assert.match(error.longMessage, /\/queue[^]*\/topic|\/topic[^]*\/queue/);
    else assert.match(error.message, /destination/i);
    session.client.destroy();
  },

  async request_reply() {
    const server = await subscribed('request_reply');
    const client = await connect();
    client.expectSubscription('/temp-queue/answers');
    client.send(queue('request_reply'), 'question', { 'reply-to': '/temp-queue/answers', 'correlation-id': 'q1' });
    const question = await expectMessage(server, 'question');
    server.send(question.headers['reply-to'], 'answer', { 'correlation-id': question.headers['correlation-id'] });
    const answer = await expectMessage(client, 'answer');
    assert.equal(answer.headers['correlation-id'], 'q1');
    await server.close();
    await client.close();
  },
};

async function echo(check, body) {
  const session = await subscribed(check);
  session.send(queue(check), body, { 'content-type': 'application/octet-stream' });
  assert.ok((await session.message()).body.equals(body), 'the body came back changed');
  await session.close();
}

const { version } = JSON.parse(await readFile(createRequire(import.meta.url).resolve('stompit/package.json')));
console.log('LIBRARY stompit', version);
const first = await connect();
console.log('PROTOCOL', first.client.headers.version);
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
