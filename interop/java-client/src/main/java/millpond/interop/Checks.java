package millpond.interop;

import static millpond.interop.Session.await;

import io.vertx.ext.stomp.Frame;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;

/** The interop checks through Vert.x's STOMP client: {@code Checks HOST PORT PREFIX}. */
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
        // Vert.x's threads would keep the program alive.
        System.exit(0);
    }

    private void runAll() throws Exception {
        System.out.println("LIBRARY vertx-stomp " + libraryVersion());
        Session session = connect();
        System.out.println("PROTOCOL " + session.connection.version());
        session.close();
        run("send_receive", this::sendReceive);
        run("receipt", this::receipt);
        run("commit", this::commit);
        run("abort", this::abort);
        run("ack_nack_individual", this::ackNackIndividual);
        run("durable_subscription", this::durableSubscription);
        run("heart_beats", this::heartBeats);
        run("binary_body", () -> echo("binary_body", everyByte(1024)));
        run("body_8mib", () -> echo("body_8mib", everyByte(8 * 1024 * 1024)));
        run("utf8_headers", this::utf8Headers);
        run("bad_destination", this::badDestination);
        run("request_reply", this::requestReply);
    }

    private static String libraryVersion() throws Exception {
        var properties = new Properties();
        try (var file = Checks.class.getResourceAsStream("/META-INF/maven/io.vertx/vertx-stomp/pom.properties")) {
            properties.load(file);
        }
        return properties.getProperty("version");
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

    private static Frame expect(Session session, String body) throws Exception {
        Frame message = session.message();
        equal(message.getBodyAsString(), body, "body");
        return message;
    }

    private void sendReceive() throws Exception {
        Session session = subscribed("send_receive", Map.of());
        session.send(queue("send_receive"), Map.of("kind", "greeting"), "hello".getBytes());
        equal(expect(session, "hello").getHeader("kind"), "greeting", "header kind");
        session.close();
    }

    private void receipt() throws Exception {
        Session session = connect();
        await(session.send(queue("receipt"), "important"));
        session.close();
    }

    private void commit() throws Exception {
        Session session = subscribed("commit", Map.of());
        await(session.connection.beginTX("t1"));
        // Their receipts are due when the transaction is committed, so nothing waits for them here.
        session.send(queue("commit"), Map.of("transaction", "t1"), "first".getBytes());
        session.send(queue("commit"), Map.of("transaction", "t1"), "second".getBytes());
        session.send(queue("commit"), "outside");
        expect(session, "outside");
        await(session.connection.commit("t1"));
        expect(session, "first");
        expect(session, "second");
        session.close();
    }

    private void abort() throws Exception {
        Session session = subscribed("abort", Map.of());
        await(session.connection.beginTX("t1"));
        session.send(queue("abort"), Map.of("transaction", "t1"), "never seen".getBytes());
        await(session.connection.abort("t1"));
        session.send(queue("abort"), "after");
        expect(session, "after");
        session.close();
    }

    private void ackNackIndividual() throws Exception {
        String destination = queue("ack_nack_individual");
        Session session = subscribed("ack_nack_individual", Map.of("ack", "client-individual"));
        session.send(destination, "nacked");
        session.send(destination, "acked");
        Frame nacked = expect(session, "nacked");
        Frame acked = expect(session, "acked");
        session.ack(acked);
        session.nack(nacked);
        Frame again = expect(session, "nacked");
        equal(again.getHeader("redelivered"), "true", "redelivered");
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
        reader.subscribe(topic, durable);
        reader.close();
        Session publisher = connect();
        await(publisher.send(topic, "while away"));
        reader = connect();
        reader.subscribe(topic, durable);
        expect(reader, "while away");
        reader.unsubscribe(topic, durable);
        reader.close();
        await(publisher.send(topic, "after the end"));
        reader = connect();
        reader.subscribe(topic, durable);
        await(publisher.send(topic, "new"));
        expect(reader, "new");
        reader.unsubscribe(topic, durable);
        reader.close();
        publisher.close();
    }

    private void heartBeats() throws Exception {
        Session session = new Session(host, port, 1000);
        String agreed = session.connectedFrame().getHeader("heart-beat");
        if (agreed == null || List.of(agreed.split(",")).contains("0")) {
            throw new IllegalStateException("no heart-beats agreed: " + agreed);
        }
        // The library beats by itself meanwhile. The first beats may be the frame end and line end after CONNECTED.
        for (int i = 0; i < 6; i++) {
            session.beat();
        }
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
        if (!Arrays.equals(session.message().getBodyAsByteArray(), body)) {
            throw new IllegalStateException("the body came back changed");
        }
        session.close();
    }

    private void utf8Headers() throws Exception {
        String note = "Grüße: 漢字\nback\\slash";
        Session session = subscribed("utf8_headers", Map.of());
        session.send(queue("utf8_headers"), Map.of("note", note), "see header".getBytes());
        equal(session.message().getHeader("note"), note, "header note");
        session.close();
    }

    private void badDestination() throws Exception {
        Session session = connect();
        session.send("/nowhere/at-all", "lost");
        Frame error = session.error();
        String text = error.getHeader("message") + "\n" + error.getBodyAsString();
        if (!text.contains("/queue") || !text.contains("/topic")) {
            throw new IllegalStateException("the error does not say which destinations there are: " + text);
        }
        if (error.getHeader("receipt-id") == null) {
            throw new IllegalStateException("the error carries no receipt-id");
        }
        session.connection.close();
    }

    private void requestReply() throws Exception {
        Session server = subscribed("request_reply", Map.of());
        Session client = connect();
        client.send(queue("request_reply"), Map.of("reply-to", "/temp-queue/answers", "correlation-id", "q1"),
                "question".getBytes());
        Frame question = expect(server, "question");
        server.send(question.getHeader("reply-to"), Map.of("correlation-id", question.getHeader("correlation-id")),
                "answer".getBytes());
        Frame answer = expect(client, "answer");
        equal(answer.getHeader("correlation-id"), "q1", "correlation-id");
        equal(answer.getHeader("subscription"), "/temp-queue/answers", "subscription");
        server.close();
        client.close();
    }
}
