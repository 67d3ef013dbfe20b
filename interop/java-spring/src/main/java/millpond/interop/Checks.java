package millpond.interop;

import static millpond.interop.Session.confirmed;

import java.util.Arrays;
import java.util.Map;
import java.util.Objects;
import millpond.interop.Session.Received;
import org.springframework.core.SpringVersion;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSession.Subscription;

/** The interop checks through Spring's ReactorNettyTcpStompClient: {@code Checks HOST PORT PREFIX}. */
public final class Checks {
    private interface Check {
        void run() throws Exception;
    }

    private final String host;
    private final int port;
    private final String prefix;

    private Checks(String host, int port, String prefix) {
        this.host = host;
        this.port = port;
        this.prefix = prefix;
    }

    public static void main(String[] args) throws Exception {
        new Checks(args[0], Integer.parseInt(args[1]), args[2]).runAll();
        // Reactor's threads would keep the program alive.
        System.exit(0);
    }

    private void runAll() throws Exception {
        System.out.println("LIBRARY spring-messaging " + SpringVersion.getVersion());
        Session session = connect();
        System.out.println("PROTOCOL " + session.connectedHeaders().getFirst("version"));
        session.close();
        run("send_receive", this::sendReceive);
        run("receipt", this::receipt);
        System.out.println("N/A commit: Spring's client sends no BEGIN");
        System.out.println("N/A abort: Spring's client sends no BEGIN");
        run("ack_nack_individual", this::ackNackIndividual);
        run("durable_subscription", this::durableSubscription);
        run("heart_beats", this::heartBeats);
        run("binary_body", () -> echo("binary_body", everyByte(1024)));
        run("body_8mib", () -> echo("body_8mib", everyByte(8 * 1024 * 1024)));
        run("utf8_headers", this::utf8Headers);
        run("bad_destination", this::badDestination);
        run("request_reply", this::requestReply);
    }

    private static void run(String name, Check check) {
        try {
            check.run();
            System.out.println("PASS " + name);
        } catch (Exception failure) {
            System.out.println("FAIL " + name + ": " + failure.toString().replace('\n', ' '));
        }
    }

    private Session connect() throws Exception {
        return new Session(host, port);
    }

    private String queue(String check) {
        return "/queue/" + prefix + "." + check;
    }

    private Session subscribed(String check, Map<String, String> headers) throws Exception {
        Session session = connect();
        session.subscribe(queue(check), headers);
        return session;
    }

    private static void equal(Object actual, Object expected, String what) {
        if (!Objects.equals(actual, expected)) {
            throw new IllegalStateException(what + ": expected " + expected + ", got " + actual);
        }
    }

    private static Received expect(Session session, String body) throws Exception {
        Received message = session.message();
        equal(message.text(), body, "body");
        return message;
    }

    private void sendReceive() throws Exception {
        Session session = subscribed("send_receive", Map.of());
        session.send(queue("send_receive"), Map.of("kind", "greeting"), "hello".getBytes());
        equal(expect(session, "hello").headers().getFirst("kind"), "greeting", "header kind");
        session.close();
    }

    private void receipt() throws Exception {
        Session session = connect();
        confirmed(session.send(queue("receipt"), "important"));
        session.close();
    }

    private void ackNackIndividual() throws Exception {
        String destination = queue("ack_nack_individual");
        Session session = subscribed("ack_nack_individual", Map.of("ack", "client-individual"));
        session.send(destination, "nacked");
        session.send(destination, "acked");
        Received nacked = expect(session, "nacked");
        Received acked = expect(session, "acked");
        session.ack(acked);
        session.nack(nacked);
        Received again = expect(session, "nacked");
        equal(again.headers().getFirst("redelivered"), "true", "redelivered");
        session.ack(again);
        session.close();
        // Nothing may be left: a new consumer sees only what is sent from now on.
        session = subscribed("ack_nack_individual", Map.of());
        session.send(destination, "end");
        expect(session, "end");
        session.close();
    }

    private void durableSubscription() throws Exception {
        String topic = "/topic/" + prefix + ".news";
        var durable = Map.of("id", prefix + "-reader", "durable", "true");
        Session reader = connect();
        confirmed(reader.subscribe(topic, durable));
        reader.close();
        Session publisher = connect();
        confirmed(publisher.send(topic, "while away"));
        reader = connect();
        Subscription subscription = reader.subscribe(topic, durable);
        expect(reader, "while away");
        end(reader, subscription);
        confirmed(publisher.send(topic, "after the end"));
        reader = connect();
        subscription = reader.subscribe(topic, durable);
        confirmed(subscription);
        confirmed(publisher.send(topic, "new"));
        expect(reader, "new");
        end(reader, subscription);
        publisher.close();
    }

    // Spring asks for no receipt of UNSUBSCRIBE; frames are handled in order, so a later frame's receipt says as much.
    private void end(Session reader, Subscription subscription) throws Exception {
        var durable = new StompHeaders();
        durable.set("durable", "true");
        subscription.unsubscribe(durable);
        confirmed(reader.send(queue("unsubscribed"), "done"));
        reader.close();
    }

    private void heartBeats() throws Exception {
        Session session = new Session(host, port, 1000);
        long[] agreed = session.connectedHeaders().getHeartbeat();
        if (agreed == null || agreed[0] == 0 || agreed[1] == 0) {
            throw new IllegalStateException("no heart-beats agreed: " + Arrays.toString(agreed));
        }
        // Spring gives up the connection after three silent intervals.
        Thread.sleep(4000);
        session.subscribe(queue("heart_beats"), Map.of());
        session.send(queue("heart_beats"), "still here");
        expect(session, "still here");
        session.close();
    }

    private static byte[] everyByte(int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) i;
        }
        return bytes;
    }

    private void echo(String check, byte[] body) throws Exception {
        Session session = subscribed(check, Map.of());
        session.send(queue(check), Map.of("content-type", "application/octet-stream"), body);
        if (!Arrays.equals(session.message().body(), body)) {
            throw new IllegalStateException("the body came back changed");
        }
        session.close();
    }

    private void utf8Headers() throws Exception {
        String note = "Grüße: 漢字\nback\\slash";
        Session session = subscribed("utf8_headers", Map.of());
        session.send(queue("utf8_headers"), Map.of("note", note), "see header".getBytes());
        equal(session.message().headers().getFirst("note"), note, "header note");
        session.close();
    }

    private void badDestination() throws Exception {
        Session session = connect();
        session.send("/nowhere/at-all", Map.of("receipt", "lost-1"), "lost".getBytes());
        Received error = session.error();
        String text = error.headers().getFirst("message") + "\n" + error.text();
        if (!text.contains("/queue") || !text.contains("/topic")) {
            throw new IllegalStateException("the error does not say which destinations there are: " + text);
        }
        equal(error.headers().getReceiptId(), "lost-1", "receipt-id of the error");
        session.close();
    }

    private void requestReply() throws Exception {
        Session server = subscribed("request_reply", Map.of());
        Session client = connect();
        // A session drops messages under an id it did not subscribe with, so the id of the coming replies is subscribed
        // with first. Millpond answers with an ERROR, since such ids are its own, and goes on; Spring remembers the id.
        client.subscribe("/temp-queue/answers", Map.of("id", "/temp-queue/answers"));
        client.send(queue("request_reply"), Map.of("reply-to", "/temp-queue/answers", "correlation-id", "q1"),
                "question".getBytes());
        Received question = expect(server, "question");
        server.send(question.headers().getFirst("reply-to"),
                Map.of("correlation-id", question.headers().getFirst("correlation-id")), "answer".getBytes());
        Received answer = expect(client, "answer");
        equal(answer.headers().getFirst("correlation-id"), "q1", "correlation-id");
        server.close();
        client.close();
    }
}
