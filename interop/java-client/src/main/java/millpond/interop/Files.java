package millpond.interop;

import static millpond.interop.Session.await;

import io.vertx.ext.stomp.Frame;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;

/**
 * Files as messages, for the exchange between languages: {@code Files send HOST PORT DESTINATION FILE...} or
 * {@code Files receive HOST PORT DESTINATION DIRECTORY COUNT}.
 */
public final class Files {
    private Files() { }

    public static void main(String[] args) throws Exception {
        var session = new Session(args[1], Integer.parseInt(args[2]));
        if (args[0].equals("send")) {
            send(session, args[3], Arrays.copyOfRange(args, 4, args.length));
        } else {
            receive(session, args[3], Path.of(args[4]), Integer.parseInt(args[5]));
        }
        session.close();
        // Vert.x's threads would keep the program alive.
        System.exit(0);
    }

    private static void send(Session session, String destination, String[] files) throws Exception {
        for (String file : files) {
            var path = Path.of(file);
            var name = Map.of("name", path.getFileName().toString());
            await(session.send(destination, name, java.nio.file.Files.readAllBytes(path)));
        }
    }

    private static void receive(Session session, String destination, Path directory, int count) throws Exception {
        session.subscribe(destination, Map.of("ack", "client-individual"));
        for (int i = 0; i < count; i++) {
            Frame message = session.message();
            Path name = Path.of(message.getHeader("name")).getFileName();
            java.nio.file.Files.write(directory.resolve(name), message.getBodyAsByteArray());
            // Acknowledged only now: had the write failed, the message would still be in the queue.
            session.ack(message);
        }
    }
}
