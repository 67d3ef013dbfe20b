//! Telling a client that it cannot stay, so that it can read why.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time spent on one refusal.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes read from a client that is being refused.
const READ_BYTES: usize = 64 << 10;

/// Writes `reply`, then closes so that the client receives it.
///
/// Closing a socket with unread bytes in it resets the connection, and a reset overtakes the reply; so what the
/// client sends meanwhile is read and dropped, at most 64 KiB and two seconds of it.
pub async fn refuse(mut stream: TcpStream, reply: &[u8]) {
    let farewell = async {
        stream.write_all(reply).await?;
        stream.shutdown().await?;
        let mut scratch = [0_u8; 1024];
        let mut left = READ_BYTES;
        while left > 0 {
            let read = stream.read(&mut scratch).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        Ok::<_, std::io::Error>(())
    };
    // The client may be gone or mute; either way the connection is over.
    let _ = timeout(PATIENCE, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_client_that_already_wrote_still_reads_the_whole_reply() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound"))
            .await
            .expect("connected");
        client.write_all(&[b'x'; 8000]).await.expect("written");
        let (server, _) = listener.accept().await.expect("accepted");
        let refusing = tokio::spawn(async move { refuse(server, b"no room").await });
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.expect("no reset");
        assert_eq!(reply, b"no room");
        drop(client);
        refusing.await.expect("finished");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_closes_is_left_after_two_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let _client = TcpStream::connect(listener.local_addr().expect("bound"))
            .await
            .expect("connected");
        let (server, _) = listener.accept().await.expect("accepted");
        refuse(server, b"no room").await;
    }
}
