//! Many queues, a message for each in turn: the layout's worst case.

use std::time::Instant;

use tempfile::TempDir;

use crate::client::{Client, number_of, numbered};
use crate::support::process::Process;
use crate::usage::{Peak, disk_bytes, mib};
use crate::{Context, Outcome};

const BODY_LEN: usize = 256;
/// Messages for each queue.
const ROUNDS: u64 = 10;

pub(crate) async fn run(context: Context) -> Outcome {
    let queues = context.settings.queues;
    let data = TempDir::new_in(&context.settings.directory).expect("a directory");
    let set = context.set(&[]);
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let broker = Process::start(data.path(), &set).await;
    let peak = Peak::watch(broker.pid());
    let mut figures = vec![format!("{queues} queues")];
    let mut note = |what: &str, messages: u64, start: Instant| {
        let rate = messages as f64 / start.elapsed().as_secs_f64();
        figures.push(format!("{what} {rate:.0}/s, {}", mib(peak.take())));
    };

    // One receipt a round: a round is a message for every queue, and as few commits as the broker makes of it.
    let mut client = Client::connect(broker.stomp()).await;
    let mut octets = Vec::new();
    let mut start = Instant::now();
    for round in 0..=ROUNDS {
        for queue in 0..queues {
            octets.clear();
            numbered(round, BODY_LEN, &mut octets);
            let receipt = match queue + 1 == queues {
                true => "receipt:round\n",
                false => "",
            };
            let head = format!(
                "SEND\ndestination:/queue/many-{queue}\n{receipt}content-length:{BODY_LEN}\n\n"
            );
            client.put(&head, &octets);
            client.write_much().await;
        }
        client.receipt().await;
        if round == 0 {
            note("declared with a message", queues, start);
            start = Instant::now();
        }
    }
    note("published", ROUNDS * queues, start);

    start = Instant::now();
    for queue in 0..queues {
        let name = format!("many-{queue}");
        client.subscribe(&name);
        let mut next = 0;
        client
            .take(ROUNDS + 1, |frame| {
                assert_eq!(number_of(frame), next, "lost, doubled or out of order");
                next += 1;
            })
            .await;
        client.put(&format!("UNSUBSCRIBE\nid:{name}\n\n"), b"");
    }
    note("taken, a queue at a time", (ROUNDS + 1) * queues, start);
    figures.push(format!("disk {}", mib(disk_bytes(data.path()))));
    broker.kill().await;
    Outcome::Passed(figures)
}
