//! The command line of `millpond bench`. Names are those of RabbitMQ PerfTest and lavinmqperf where they have one.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Failure;
use super::consumer::Acks;
use super::plan::{Length, Plan};
use super::producer::Window;
use super::stamp::STAMP_BYTES;
use super::stomp::{Broker, Client, Mode};
use crate::config::parse_duration;

/// How long a run produces unless it is told.
const TIME: Duration = Duration::from_secs(10);

/// Deliveries that one ACK answers for under `--ack client`, unless told or limited by the prefetch.
const ACK_EVERY: u64 = 100;

/// How long a run waits for deliveries that do not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long consumers without producers wait for another message before they take the queue for empty.
const EMPTY_AFTER: Duration = Duration::from_secs(2);

/// Connections, clients and queues of one run at most: what a producer's number has room for.
const CLIENTS_MAX: i64 = 60_000;

const EXAMPLES: &str = "\
Examples:
  millpond bench                       as fast as it goes: 16 bytes, not persistent, for 10 seconds
  millpond bench -p -s 1024 -c 1000 --ack client -P 2000
                                       persistent, confirmed by receipts, acknowledged
  millpond bench -r 2000               delays at 2,000 messages a second
  millpond bench --fanout 10           one topic, ten subscribers
  millpond bench -p -y 0 -C 1000000    fill a queue ...
  millpond bench -x 0                  ... and drain it
  millpond bench --idle-connections 10000 --pid $(pidof millpond)
                                       memory of the broker for each connection
  millpond bench --churn connections   how many logins a second

Every message carries its producer, its number and when it was meant to be sent. So loss, duplicates and
disorder are found, and with --rate a delay counts from when the message was due, not from when a sender
that the broker had stalled got round to it.

Exit code 1 if a message is missing that the broker had confirmed.";

/// Measure a broker: rates, delays, CPU, memory, and whether everything arrives
///
/// Works with any STOMP broker.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    broker: BrokerFlags,
    #[command(flatten)]
    load: LoadFlags,
    #[command(flatten)]
    clients: ClientFlags,
    #[command(flatten)]
    report: ReportFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Broker")]
struct BrokerFlags {
    /// The broker
    #[arg(
        long,
        alias = "to",
        alias = "url",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:61613"
    )]
    address: String,
    /// Log in as this user
    #[arg(long, visible_alias = "login", value_name = "NAME", default_value = "guest", value_parser = one_line)]
    user: String,
    /// Its password; the environment keeps it out of process listings
    #[arg(long, visible_alias = "passcode", value_name = "TEXT", default_value = "guest", env = "MILLPOND_PASSWORD",
          hide_env_values = true, hide_default_value = true, value_parser = one_line)]
    password: String,
    /// The virtual host
    #[arg(long, value_name = "NAME", default_value = "/", value_parser = one_line)]
    vhost: String,
    /// Whose habits to follow
    #[arg(long, value_name = "KIND", default_value = "auto")]
    broker: Broker,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
struct LoadFlags {
    /// Producers, a connection each; 0 only consumes
    #[arg(short = 'x', long, value_name = "N", default_value_t = 1, value_parser = clients(0))]
    producers: usize,
    /// Consumers, a connection each; 0 only publishes
    #[arg(short = 'y', long, value_name = "N", default_value_t = 1, value_parser = clients(0))]
    consumers: usize,
    /// The queue; with --queues the beginning of its name
    #[arg(long, value_name = "NAME", default_value = "bench")]
    queue: String,
    /// Queues, NAME-1 to NAME-N, dealt out to producers and consumers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clients(1))]
    queues: usize,
    /// A topic with N subscribers instead of queues
    #[arg(long, value_name = "N", value_parser = clients(1), conflicts_with_all = ["queues", "consumers"])]
    fanout: Option<usize>,
    /// Bytes of each message's body, at least 16
    #[arg(short, long, value_name = "BYTES", default_value_t = STAMP_BYTES, value_parser = body_size)]
    size: usize,
    /// Messages that survive a restart of the broker
    #[arg(short, long)]
    persistent: bool,
    /// Messages a second of each producer, on a schedule fixed in advance [default: as fast as possible]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// Deliveries a second that each consumer takes [default: as fast as possible]
    #[arg(short = 'R', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    consumer_rate: Option<u64>,
    /// Ask for receipts, with at most this many messages of a producer unanswered [default: no receipts]
    #[arg(short = 'c', long, visible_alias = "confirms", value_name = "WINDOW",
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    receipts: Option<u64>,
    /// Ask for a receipt for every N-th message only; it answers for those before it
    #[arg(long, value_name = "N", default_value_t = 1, requires = "receipts",
          value_parser = clap::value_parser!(u64).range(1..))]
    receipt_every: u64,
    /// How deliveries are acknowledged [default: auto, or client with --ack-every]
    #[arg(long, value_name = "MODE")]
    ack: Option<Mode>,
    /// With --ack client: one ACK for this many deliveries [default: 100, or half the prefetch]
    #[arg(short = 'a', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    ack_every: Option<u64>,
    /// Unacknowledged deliveries that the broker may send ahead [default: the broker's]
    #[arg(short = 'P', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    prefetch: Option<u32>,
    /// Stop producing after this time; without producers, stop consuming [default: 10s]
    #[arg(short = 'z', long, value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// Stop producing after this many messages of each producer
    #[arg(short = 'C', long = "messages", value_name = "N", conflicts_with = "time",
          value_parser = clap::value_parser!(u64).range(1..100_000_000_000))]
    producer_messages: Option<u64>,
    /// A consumer leaves after this many deliveries; loss is not checked then
    #[arg(short = 'D', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    consumer_messages: Option<u64>,
    /// Measure only what is sent after this time
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true, value_parser = time)]
    warm_up: Duration,
    /// Publish everything first, then consume it
    #[arg(long)]
    drain_later: bool,
    /// How long to wait for deliveries that do not come; without producers, when the queue counts as empty
    #[arg(long, value_name = "TIME", value_parser = time)]
    patience: Option<Duration>,
    /// Stop this long after producing at the latest; loss is not checked if something still waits
    #[arg(long, value_name = "TIME", value_parser = time)]
    drain_time: Option<Duration>,
    /// A header of every message; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// A header of every subscription, such as x-max-length=1000; may be repeated
    #[arg(long = "subscribe-header", value_name = "NAME=VALUE", value_parser = header)]
    subscribe_headers: Vec<(String, String)>,
}

/// What is made and ended in a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Churn {
    /// Connect, log in, disconnect
    Connections,
    /// Subscribe to a new queue that goes with its consumer, unsubscribe
    Queues,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Connections instead of messages")]
struct ClientFlags {
    /// Open this many connections, hold them for --time, and report the memory of each
    #[arg(long, value_name = "N", value_parser = clients(1), conflicts_with = "churn")]
    idle_connections: Option<usize>,
    /// Make and end connections or queues in a loop, --producers at a time, for --time or --messages each
    #[arg(long, value_name = "WHAT")]
    churn: Option<Churn>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Report")]
struct ReportFlags {
    /// Report CPU and memory of these processes of the broker, together
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Threads for producers, and as many for consumers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    threads: usize,
    /// Print the report as one JSON object
    #[arg(short, long)]
    json: bool,
    /// Say nothing on standard error while it runs
    #[arg(short, long)]
    quiet: bool,
}

fn clients(least: i64) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser;
    clap::value_parser!(u16)
        .range(least..=CLIENTS_MAX)
        .map(usize::from)
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=256) => Ok(threads),
        _ => Err("write a number from 1 to 256".to_owned()),
    }
}

fn body_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ STAMP_BYTES..=1_073_741_824) => Ok(bytes),
        _ => Err(format!(
            "write a number of bytes from {STAMP_BYTES} (the generator's stamp needs them) to 1073741824"
        )),
    }
}

/// A duration; a bare number is seconds.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds
        .or_else(|| parse_duration(text))
        .ok_or_else(|| "write seconds, or a number with a unit such as 500ms or 2m".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// CONNECT has no escapes, so a line break would be another header.
fn one_line(text: &str) -> Result<String, String> {
    if text.contains(['\n', '\r', '\0']) {
        return Err("it must be a single line".to_owned());
    }
    Ok(text.to_owned())
}

/// What the flags ask for.
#[derive(Debug)]
pub(super) enum Job {
    /// Messages.
    Load(Plan),
    /// Connections that do nothing, for this long.
    Idle {
        address: String,
        connections: usize,
        hold: Duration,
        pids: Vec<u32>,
    },
    /// A loop.
    Churn {
        address: String,
        churn: Churn,
        clients: usize,
        length: Length,
        pids: Vec<u32>,
        queue: String,
    },
}

impl BenchArguments {
    /// Whether the report is for machines.
    pub(super) fn json(&self) -> bool {
        self.report.json
    }

    /// The client that the flags describe.
    pub(super) fn client(&self) -> Client {
        let (broker, load) = (&self.broker, &self.load);
        let mut subscribe_headers = load.subscribe_headers.clone();
        if self.clients.churn.is_some() {
            // The queue goes with its consumer, and never touches the disk.
            for (name, value) in [("auto-delete", "true"), ("durable", "false")] {
                subscribe_headers.push((name.to_owned(), value.to_owned()));
            }
        }
        Client {
            broker: broker.broker,
            user: broker.user.clone(),
            password: broker.password.clone(),
            vhost: broker.vhost.clone(),
            persistent: load.persistent,
            size: load.size,
            ack: self.mode(),
            prefetch: load.prefetch,
            headers: load.headers.clone(),
            subscribe_headers,
        }
    }

    fn mode(&self) -> Mode {
        let cumulative = self.load.ack_every.is_some();
        let default = if cumulative { Mode::Client } else { Mode::Auto };
        self.load.ack.unwrap_or(default)
    }

    fn length(&self) -> Length {
        let load = &self.load;
        match (load.producer_messages, load.time) {
            (Some(count), _) => Length::Count(count),
            (None, Some(time)) => Length::Time(time),
            (None, None) if load.producers == 0 => Length::Open,
            (None, None) => Length::Time(TIME),
        }
    }

    fn acks(&self) -> Result<Option<Acks>, Failure> {
        let load = &self.load;
        let prefetch = load.prefetch.map_or(u64::MAX, u64::from);
        match (self.mode(), load.ack_every) {
            (Mode::Client, Some(every)) if every > prefetch => Err(Failure::usage(
                "--ack-every must not be larger than --prefetch: the broker would wait for the ACK",
            )),
            (Mode::Client, every) => {
                let every = every.unwrap_or_else(|| ACK_EVERY.min(prefetch.div_ceil(2)));
                Ok(Some(Acks::Cumulative(every)))
            }
            (Mode::ClientIndividual, None) => Ok(Some(Acks::Individual)),
            (Mode::Auto, None) => Ok(None),
            (Mode::Auto | Mode::ClientIndividual, Some(_)) => {
                Err(Failure::usage("--ack-every goes with --ack client"))
            }
        }
    }

    /// What is to be done.
    ///
    /// # Errors
    /// A sentence for the user if the flags do not go together.
    pub(super) fn job(&self) -> Result<Job, Failure> {
        let (load, clients) = (&self.load, &self.clients);
        let (address, pids) = (self.broker.address.clone(), self.report.pid.clone());
        if let Some(connections) = clients.idle_connections {
            let hold = load.time.unwrap_or(Duration::from_secs(1));
            return Ok(Job::Idle {
                address,
                connections,
                hold,
                pids,
            });
        }
        if let Some(churn) = clients.churn {
            return Ok(Job::Churn {
                address,
                churn,
                clients: load.producers.max(1),
                length: self.length(),
                pids,
                queue: load.queue.clone(),
            });
        }
        let mut run = [0; 2];
        getrandom::fill(&mut run).map_err(Failure::running)?;
        let names = match (load.fanout, load.queues) {
            (Some(_), _) => vec![format!("/topic/{}", load.queue)],
            (None, 1) => vec![format!("/queue/{}", load.queue)],
            (None, queues) => (1..=queues)
                .map(|number| format!("/queue/{}-{number}", load.queue))
                .collect(),
        };
        let patience = load.patience.unwrap_or(if load.producers == 0 {
            EMPTY_AFTER
        } else {
            PATIENCE
        });
        let plan = Plan {
            address,
            run: (load.producers > 0).then_some(u16::from_le_bytes(run)),
            destinations: names,
            fanout: load.fanout.is_some(),
            producers: load.producers,
            consumers: load.fanout.unwrap_or(load.consumers),
            size: load.size,
            persistent: load.persistent,
            length: self.length(),
            consumer_limit: load.consumer_messages,
            rate: load.rate,
            consumer_rate: load.consumer_rate,
            window: load.receipts.map(|messages| Window {
                messages,
                every: load.receipt_every,
            }),
            acks: self.acks()?,
            drain_later: load.drain_later,
            warm_up: load.warm_up,
            patience,
            drain_time: load.drain_time,
            threads: self.report.threads,
            pids,
            progress: !self.report.quiet,
        };
        plan.validate()?;
        Ok(Job::Load(plan))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        bench: BenchArguments,
    }

    fn job(flags: &str) -> Result<Job, String> {
        let arguments = std::iter::once("bench").chain(flags.split_whitespace());
        let parsed = Program::try_parse_from(arguments).map_err(|error| error.to_string())?;
        parsed.bench.job().map_err(|failure| failure.sentence)
    }

    fn plan(flags: &str) -> Plan {
        match job(flags) {
            Ok(Job::Load(plan)) => plan,
            other => panic!("{flags}: {other:?}"),
        }
    }

    #[test]
    fn without_flags_one_producer_and_one_consumer_share_a_queue_for_ten_seconds() {
        let plan = plan("");
        assert_eq!((plan.producers, plan.consumers, plan.size), (1, 1, 16));
        assert_eq!(plan.destinations, ["/queue/bench"]);
        assert_eq!(plan.length, Length::Time(TIME));
        assert!(plan.acks.is_none() && plan.window.is_none() && plan.run.is_some());
    }

    #[test]
    fn short_flags_are_those_of_the_generators_people_know() {
        let plan = plan("-x 2 -y 3 -s 1024 -p -r 5 -R 6 -c 100 -a 50 -P 200 -z 3 -D 9");
        assert_eq!((plan.producers, plan.consumers, plan.size), (2, 3, 1024));
        assert_eq!((plan.rate, plan.consumer_rate), (Some(5), Some(6)));
        let window = plan.window.expect("receipts");
        assert_eq!((window.messages, window.every), (100, 1));
        assert_eq!(plan.acks, Some(Acks::Cumulative(50)));
        assert_eq!(plan.length, Length::Time(Duration::from_secs(3)));
        assert_eq!(plan.consumer_limit, Some(9));
    }

    #[test]
    fn a_fan_out_is_a_topic_whose_subscribers_are_each_checked() {
        let plan = plan("--fanout 10");
        assert_eq!(plan.destinations, ["/topic/bench"]);
        assert_eq!((plan.consumers, plan.streams()), (10, 10));
        assert_eq!(plan.deliveries(7), 70);
    }

    #[test]
    fn without_producers_any_run_is_accepted() {
        assert_eq!(plan("-x 0 --queues 3").run, None);
    }

    #[test]
    fn an_ack_for_many_is_at_most_half_the_prefetch_unless_told() {
        assert_eq!(plan("--ack client").acks, Some(Acks::Cumulative(100)));
        assert_eq!(plan("--ack client -P 1").acks, Some(Acks::Cumulative(1)));
        assert_eq!(plan("--ack client -P 50").acks, Some(Acks::Cumulative(25)));
        let individual = plan("--ack client-individual --queues 3");
        assert_eq!(individual.acks, Some(Acks::Individual));
    }

    #[test]
    fn flags_that_cannot_work_are_refused_with_a_sentence() {
        for (flags, part) in [
            ("-x 0 -y 0", "nothing to do"),
            ("-c 10 --receipt-every 20", "--receipt-every"),
            ("-a 20 -P 10", "--ack-every"),
            ("-a 20 --ack auto", "--ack client"),
            ("--ack client --queues 3", "--consumers"),
            ("--drain-later -y 0", "--drain-later"),
            ("--warm-up 5s -z 5s", "--warm-up"),
            ("-s 15", "16"),
            ("--user a\u{0}b", "single line"),
            ("-y 70000", "60000"),
            ("--fanout 2 --queues 2", "cannot be used"),
        ] {
            let refused = job(flags).expect_err(flags);
            assert!(refused.contains(part), "{flags}: {refused}");
        }
    }
}
