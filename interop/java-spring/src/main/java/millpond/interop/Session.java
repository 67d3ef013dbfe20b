package millpond.interop;

import static java.util.concurrent.TimeUnit.SECONDS;

import java.lang.reflect.Type;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeoutException;
import org.springframework.messaging.simp.stomp.ReactorNettyTcpStompClient;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSession;
import org.springframework.messaging.simp.stomp.StompSession.Receiptable;
import org.springframework.messaging.simp.stomp.StompSession.Subscription;
import org.springframework.messaging.simp.stomp.StompSessionHandlerAdapter;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;

/** One STOMP connection to Millpond through Spring's messaging client, for programs that wait. */
final class Session extends StompSessionHandlerAdapter {
    /** How long a frame that must come may take. */
    static final int PATIENCE_S = 15;

    /** A MESSAGE or an ERROR: what Spring hands to a frame handler. */
    record Received(StompHeaders headers, byte[] body) {
        String text() {
            return new String(body);
        }
    }

    private final BlockingQueue<Received> messages = new LinkedBlockingQueue<>();
    private final BlockingQueue<Received> errors = new LinkedBlockingQueue<>();
    private final CompletableFuture<StompHeaders> connected = new CompletableFuture<>();
    private final StompSession session;

    Session(String host, int port) throws Exception {
        this(host, port, 0);
    }

    Session(String host, int port, long heartBeatMs) throws Exception {
        var client = new ReactorNettyTcpStompClient(host, port);
        var scheduler = new ThreadPoolTaskScheduler();
        scheduler.setDaemon(true);
        scheduler.initialize();
        client.setTaskScheduler(scheduler);
        var headers = new StompHeaders();
        headers.setHost("/");
        headers.setLogin("guest");
        headers.setPasscode("guest");
        headers.setHeartbeat(new long[] {heartBeatMs, heartBeatMs});
        session = client.connectAsync(headers, this).get(PATIENCE_S, SECONDS);
        session.setAutoReceipt(true);
    }

    @Override
    public void afterConnected(StompSession session, StompHeaders headers) {
        connected.complete(headers);
    }

    // Without this Spring would decode bodies itself, by their content-type.
    @Override
    public Type getPayloadType(StompHeaders headers) {
        return byte[].class;
    }

    // As the session's own handler this object is given ERROR frames; as a subscription's, MESSAGE frames.
    @Override
    public void handleFrame(StompHeaders headers, Object payload) {
        var received = new Received(headers, payload == null ? new byte[0] : (byte[]) payload);
        (headers.getSubscription() == null ? errors : messages).add(received);
    }

    StompHeaders connectedHeaders() throws Exception {
        return connected.get(PATIENCE_S, SECONDS);
    }

    Received message() throws Exception {
        return next(messages, "a message");
    }

    Received error() throws Exception {
        return next(errors, "an error");
    }

    private static Received next(BlockingQueue<Received> frames, String what) throws Exception {
        Received frame = frames.poll(PATIENCE_S, SECONDS);
        if (frame == null) {
            throw new TimeoutException(what + " did not come");
        }
        return frame;
    }

    /** Waits for the RECEIPT of what was just sent. */
    static void confirmed(Receiptable sent) throws Exception {
        var receipt = new CompletableFuture<Void>();
        sent.addReceiptTask(() -> receipt.complete(null));
        receipt.get(PATIENCE_S, SECONDS);
    }

    Receiptable send(String destination, Map<String, String> more, byte[] body) {
        return session.send(headers(destination, more), body);
    }

    Receiptable send(String destination, String body) {
        return send(destination, Map.of(), body.getBytes());
    }

    Subscription subscribe(String destination, Map<String, String> more) {
        return session.subscribe(headers(destination, more), this);
    }

    static StompHeaders headers(String destination, Map<String, String> more) {
        var headers = new StompHeaders();
        headers.setDestination(destination);
        more.forEach(headers::set);
        return headers;
    }

    void ack(Received message) throws Exception {
        confirmed(session.acknowledge(message.headers().getAck(), true));
    }

    void nack(Received message) throws Exception {
        confirmed(session.acknowledge(message.headers().getAck(), false));
    }

    /** Spring closes the connection at once, without waiting for a receipt of DISCONNECT. */
    void close() {
        session.disconnect();
    }
}
