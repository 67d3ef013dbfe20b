package millpond.interop;

import static java.util.concurrent.TimeUnit.SECONDS;

import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.json.JsonObject;
import io.vertx.ext.stomp.Frame;
import io.vertx.ext.stomp.StompClient;
import io.vertx.ext.stomp.StompClientConnection;
import io.vertx.ext.stomp.StompClientOptions;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeoutException;

/**
 * One STOMP connection to Millpond through Vert.x, for programs that wait instead of being called back.
 *
 * <p>Every call of the Vert.x client asks for a receipt; its future completes when the RECEIPT is there.
 */
final class Session {
    /** How long a frame that must come may take. */
    static final int PATIENCE_S = 15;

    private static final Vertx VERTX = Vertx.vertx();

    final StompClientConnection connection;
    private final BlockingQueue<Frame> messages = new LinkedBlockingQueue<>();
    private final BlockingQueue<Frame> errors = new LinkedBlockingQueue<>();
    private final BlockingQueue<Frame> beats = new LinkedBlockingQueue<>();
    private final BlockingQueue<Frame> connected = new LinkedBlockingQueue<>();

    Session(String host, int port) throws Exception {
        this(host, port, 0);
    }

    Session(String host, int port, int heartBeatMs) throws Exception {
        var options = new StompClientOptions()
                .setHost(host)
                .setPort(port)
                .setVirtualHost("/")
                .setLogin("guest")
                .setPasscode("guest")
                .setHeartbeat(new JsonObject().put("x", heartBeatMs).put("y", heartBeatMs));
        // Frames are taken here rather than in subscribe's handler, so that replies over a temporary queue, for which
        // there is no subscription, arrive as well.
        var client = StompClient.create(VERTX, options).receivedFrameHandler(this::received);
        connection = await(client.connect());
    }

    private void received(Frame frame) {
        switch (frame.getCommand()) {
            case MESSAGE -> messages.add(frame);
            case ERROR -> errors.add(frame);
            case PING -> beats.add(frame);
            case CONNECTED -> connected.add(frame);
            default -> { }
        }
    }

    Frame connectedFrame() throws Exception {
        return next(connected, "CONNECTED");
    }

    Frame message() throws Exception {
        return next(messages, "a message");
    }

    Frame error() throws Exception {
        return next(errors, "an error");
    }

    Frame beat() throws Exception {
        return next(beats, "a heart-beat");
    }

    private static Frame next(BlockingQueue<Frame> frames, String what) throws Exception {
        Frame frame = frames.poll(PATIENCE_S, SECONDS);
        if (frame == null) {
            throw new TimeoutException(what + " did not come");
        }
        return frame;
    }

    static <T> T await(Future<T> future) throws Exception {
        return future.toCompletionStage().toCompletableFuture().get(PATIENCE_S, SECONDS);
    }

    /** Completes when Millpond has taken responsibility for the message. */
    Future<Frame> send(String destination, Map<String, String> headers, byte[] body) {
        return connection.send(destination, new HashMap<>(headers), Buffer.buffer(body));
    }

    Future<Frame> send(String destination, String body) {
        return send(destination, Map.of(), body.getBytes());
    }

    /** Returns when the subscription stands. */
    void subscribe(String destination, Map<String, String> headers) throws Exception {
        await(connection.subscribe(destination, new HashMap<>(headers), frame -> { }));
    }

    void unsubscribe(String destination, Map<String, String> headers) throws Exception {
        await(connection.unsubscribe(destination, new HashMap<>(headers)));
    }

    void ack(Frame message) throws Exception {
        await(connection.ack(message.getAck()));
    }

    void nack(Frame message) throws Exception {
        await(connection.nack(message.getAck()));
    }

    /** DISCONNECT with a receipt: everything before it has been read by the broker. */
    void close() throws Exception {
        await(connection.disconnect());
    }
}
