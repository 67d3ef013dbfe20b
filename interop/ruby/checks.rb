# encoding: utf-8
# The interop checks through the stomp gem: checks.rb HOST PORT PREFIX

require 'stomp'

HOST = ARGV[0]
PORT = ARGV[1].to_i
PREFIX = ARGV[2]
# How long a frame that must come may take.
PATIENCE_S = 15
EVERY_BYTE = ((0..255).to_a * 4).pack('C*')

class Failed < StandardError; end

def connect(heart_beat: '0,0')
  Stomp::Connection.new(
    hosts: [{ login: 'guest', passcode: 'guest', host: HOST, port: PORT }],
    # Without these two headers the gem speaks STOMP 1.0.
    connect_headers: { 'accept-version' => '1.2', 'host' => '/', 'heart-beat' => heart_beat },
    # A lost connection is an error here, not something to repair quietly.
    reliable: false,
    connread_timeout: PATIENCE_S,
  )
end

# Connection#receive returns every frame in the order of the wire: MESSAGE, RECEIPT and ERROR alike.
def receive(connection, command)
  frame = Timeout.timeout(PATIENCE_S) { connection.receive }
  raise Failed, "the broker closed the connection, expected #{command}" if frame.nil?
  raise Failed, "expected #{command}, got #{frame.command} #{frame.headers} #{frame.body}" if frame.command != command
  frame
end

def expect(connection, body)
  message = receive(connection, 'MESSAGE')
  equal(message.body, body, 'body')
  message
end

def equal(actual, expected, what)
  raise Failed, "#{what}: expected #{expected.inspect[0, 80]}, got #{actual.inspect[0, 80]}" if actual != expected
end

def queue(check)
  "/queue/#{PREFIX}.#{check}"
end

def subscribed(check, headers = {})
  connection = connect
  connection.subscribe(queue(check), { id: 's' }.merge(headers))
  connection
end

# DISCONNECT with a receipt: everything before it has been read by the broker.
def close(connection)
  connection.disconnect(receipt: 'bye')
  equal(connection.disconnect_receipt.headers['receipt-id'], 'bye', 'receipt of DISCONNECT')
end

def send_receive
  connection = subscribed('send_receive')
  connection.publish(queue('send_receive'), 'hello', kind: 'greeting')
  equal(expect(connection, 'hello').headers['kind'], 'greeting', 'header kind')
  close(connection)
end

def receipt
  connection = connect
  connection.publish(queue('receipt'), 'important', receipt: 'order-4711')
  equal(receive(connection, 'RECEIPT').headers['receipt-id'], 'order-4711', 'receipt-id')
  close(connection)
end

def commit
  connection = subscribed('commit')
  connection.begin('t1')
  connection.publish(queue('commit'), 'first', transaction: 't1')
  connection.publish(queue('commit'), 'second', transaction: 't1')
  connection.publish(queue('commit'), 'outside')
  expect(connection, 'outside')
  connection.commit('t1')
  expect(connection, 'first')
  expect(connection, 'second')
  close(connection)
end

def abort_transaction
  connection = subscribed('abort')
  connection.begin('t1')
  connection.publish(queue('abort'), 'never seen', transaction: 't1')
  connection.abort('t1')
  connection.publish(queue('abort'), 'after')
  expect(connection, 'after')
  close(connection)
end

def ack_nack_individual
  destination = queue('ack_nack_individual')
  connection = subscribed('ack_nack_individual', ack: 'client-individual')
  connection.publish(destination, 'nacked')
  connection.publish(destination, 'acked')
  nacked = expect(connection, 'nacked')
  acked = expect(connection, 'acked')
  connection.ack(acked.headers['ack'])
  connection.nack(nacked.headers['ack'])
  again = expect(connection, 'nacked')
  equal(again.headers['redelivered'], 'true', 'redelivered')
  connection.ack(again.headers['ack'])
  close(connection)
  # Nothing may be left: a new consumer sees only what is sent from now on.
  connection = subscribed('ack_nack_individual')
  connection.publish(destination, 'end')
  expect(connection, 'end')
  close(connection)
end

def durable_subscription
  topic = "/topic/#{PREFIX}.news"
  durable = { id: "#{PREFIX}-reader", durable: 'true' }
  publish = lambda do |body|
    publisher = connect
    publisher.publish(topic, body)
    close(publisher)
  end
  reader = connect
  reader.subscribe(topic, durable)
  close(reader)
  publish.call('while away')
  reader = connect
  reader.subscribe(topic, durable)
  expect(reader, 'while away')
  reader.unsubscribe(topic, durable)
  close(reader)
  publish.call('after the end')
  reader = connect
  reader.subscribe(topic, durable)
  reader.publish(topic, 'new')
  expect(reader, 'new')
  reader.unsubscribe(topic, durable)
  close(reader)
end

def heart_beats
  connection = connect(heart_beat: '1000,1000')
  agreed = connection.connection_frame.headers['heart-beat']
  raise Failed, "no heart-beats agreed: #{agreed}" if agreed.nil? || agreed.split(',').include?('0')
  sleep 4.5
  raise Failed, 'the gem could not send its heart-beats' unless connection.hb_sent && connection.hbsend_count >= 2
  raise Failed, 'the broker was silent' unless connection.hb_received && connection.hbrecv_count >= 2
  connection.subscribe(queue('heart_beats'), id: 's')
  connection.publish(queue('heart_beats'), 'still here')
  expect(connection, 'still here')
  close(connection)
end

def echo(check, body)
  connection = subscribed(check)
  connection.publish(queue(check), body, 'content-type' => 'application/octet-stream')
  raise Failed, 'the body came back changed' if receive(connection, 'MESSAGE').body != body
  close(connection)
end

def binary_body
  echo('binary_body', EVERY_BYTE)
end

def body_8mib
  echo('body_8mib', EVERY_BYTE * 8192)
end

def utf8_headers
  note = "Grüße: 漢字\nback\\slash"
  connection = subscribed('utf8_headers')
  connection.publish(queue('utf8_headers'), 'see header', note: note)
  equal(receive(connection, 'MESSAGE').headers['note'], note, 'header note')
  close(connection)
end

def bad_destination
  connection = connect
  connection.publish('/nowhere/at-all', 'lost', receipt: 'lost-1')
  error = receive(connection, 'ERROR')
  text = "#{error.headers['message']}\n#{error.body}"
  helpful = text.include?('/queue') && text.include?('/topic')
  raise Failed, "the error does not say which destinations there are: #{text}" unless helpful
  equal(error.headers['receipt-id'], 'lost-1', 'receipt-id of the error')
  connection.disconnect
end

def request_reply
  server = subscribed('request_reply')
  client = connect
  client.publish(queue('request_reply'), 'question', 'reply-to' => '/temp-queue/answers', 'correlation-id' => 'q1')
  question = expect(server, 'question')
  server.publish(question.headers['reply-to'], 'answer', 'correlation-id' => question.headers['correlation-id'])
  answer = expect(client, 'answer')
  equal(answer.headers['correlation-id'], 'q1', 'correlation-id')
  equal(answer.headers['subscription'], '/temp-queue/answers', 'subscription')
  close(server)
  close(client)
end

$stdout.sync = true
puts "LIBRARY stomp (gem) #{Stomp::Version::STRING}"
first = connect
puts "PROTOCOL #{first.protocol}"
close(first)

{ send_receive: :send_receive, receipt: :receipt, commit: :commit, abort: :abort_transaction,
  ack_nack_individual: :ack_nack_individual, durable_subscription: :durable_subscription, heart_beats: :heart_beats,
  binary_body: :binary_body, body_8mib: :body_8mib, utf8_headers: :utf8_headers, bad_destination: :bad_destination,
  request_reply: :request_reply }.each do |name, check|
  send(check)
  puts "PASS #{name}"
rescue StandardError => e
  puts "FAIL #{name}: #{e.class}: #{e.message.gsub("\n", ' ')}"
end
