//! Heart-beats: what two sides agree on, and the deadlines that follow (STOMP 1.2, "Heart-beating").

use std::time::{Duration, Instant};

use super::grammar;

/// The shortest interval agreed on.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The longest interval agreed on, 30 days: longer than any connection waits, and safe to add to an instant.
const INTERVAL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The intervals of one connection as its server sees them; `None` means that side sends no heart-beats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartBeat {
    /// The server sends something at least this often.
    pub send: Option<Duration>,
    /// The client sends something at least this often.
    pub receive: Option<Duration>,
}

impl HeartBeat {
    /// The server's answer to a client's `heart-beat` header; no header means no heart-beats.
    ///
    /// The server grants what the client offers and wants, in whole seconds and at least one second. A
    /// negative number counts as 0.
    ///
    /// # Errors
    /// [`BadHeartBeat`] when the header is not two whole numbers with a comma between.
    pub fn answer(header: Option<&[u8]>) -> Result<Self, BadHeartBeat> {
        let Some(header) = header else {
            return Ok(Self::default());
        };
        let (offered, wanted) = grammar::heart_beat(header).ok_or(BadHeartBeat)?;
        Ok(Self {
            send: interval(wanted),
            receive: interval(offered),
        })
    }

    /// The value of the `heart-beat` header of CONNECTED: what the server sends and wants, in milliseconds.
    #[must_use]
    pub fn header(&self) -> String {
        let millis = |interval: Option<Duration>| interval.map_or(0, |i| i.as_millis());
        format!("{},{}", millis(self.send), millis(self.receive))
    }
}

/// A `heart-beat` header that is not two whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHeartBeat;

fn interval(millis: u64) -> Option<Duration> {
    match millis {
        0 => None,
        _ => {
            let whole = Duration::from_secs(millis / 1000);
            Some(whole.clamp(INTERVAL_MIN, INTERVAL_MAX))
        }
    }
}

/// The deadlines of an agreed [`HeartBeat`]. Reads no clock: instants are passed in.
#[derive(Clone, Copy, Debug)]
pub struct HeartBeats {
    agreed: HeartBeat,
    sent: Instant,
    received: Instant,
    paused: bool,
}

impl HeartBeats {
    /// Starts both sides' intervals now.
    #[must_use]
    pub fn new(now: Instant, agreed: HeartBeat) -> Self {
        Self {
            agreed,
            sent: now,
            received: now,
            paused: false,
        }
    }

    /// Bytes were sent: the next beat can wait.
    pub fn bytes_sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Bytes were received: the peer lives.
    pub fn bytes_received(&mut self, now: Instant) {
        self.received = now;
    }

    /// Nothing will be read for a while on purpose, so silence says nothing about the peer. A silence that
    /// is too long already stays so.
    pub fn pause(&mut self, now: Instant) {
        self.paused = self.dead_at().is_none_or(|dead| now < dead);
    }

    /// Reading goes on; the peer has two whole intervals from now.
    pub fn resume(&mut self, now: Instant) {
        self.paused = false;
        self.received = now;
    }

    /// When a beat has to be sent, if nothing else is: after half of the interval.
    #[must_use]
    pub fn beat_at(&self) -> Option<Instant> {
        self.agreed.send.map(|interval| self.sent + interval / 2)
    }

    /// When the peer counts as dead, if nothing comes: after two silent intervals.
    #[must_use]
    pub fn dead_at(&self) -> Option<Instant> {
        match self.agreed.receive {
            Some(interval) if !self.paused => Some(self.received + interval * 2),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(header: &str) -> Result<String, BadHeartBeat> {
        HeartBeat::answer(Some(header.as_bytes())).map(|agreed| agreed.header())
    }

    #[test]
    fn the_answer_swaps_sides_and_rounds_to_whole_seconds() {
        for (asked, answer) in [
            ("0,0", "0,0"),
            ("4000,7000", "7000,4000"),
            ("1,999", "1000,1000"),
            ("1999,2500", "2000,1000"),
            ("-5,10000", "10000,0"),
            ("5000 , 6000", "6000,5000"),
        ] {
            assert_eq!(answered(asked), Ok(answer.to_owned()), "{asked}");
        }
        assert_eq!(HeartBeat::answer(None), Ok(HeartBeat::default()));
    }

    #[test]
    fn what_is_not_two_numbers_is_refused() {
        for bad in [
            "", "1000", "1000,", ",1000", "a,b", "1,2,3", "1.5,2", "--1,1",
        ] {
            assert_eq!(answered(bad), Err(BadHeartBeat), "{bad}");
        }
    }

    #[test]
    fn a_huge_interval_is_cut_and_still_gives_a_deadline() {
        let agreed = HeartBeat::answer(Some(b"99999999999999999999999,18446744073709551615"))
            .expect("numbers of any size are numbers");
        assert_eq!(agreed.send, Some(INTERVAL_MAX));
        let beats = HeartBeats::new(Instant::now(), agreed);
        assert!(beats.dead_at() > beats.beat_at());
    }

    #[test]
    fn beats_come_at_half_the_interval_and_death_after_two() {
        let start = Instant::now();
        let agreed = HeartBeat::answer(Some(b"4000,6000")).expect("valid");
        let mut beats = HeartBeats::new(start, agreed);
        let second = Duration::from_secs(1);
        assert_eq!(beats.beat_at(), Some(start + 3 * second));
        assert_eq!(beats.dead_at(), Some(start + 8 * second));

        beats.bytes_sent(start + second);
        beats.bytes_received(start + 2 * second);
        assert_eq!(beats.beat_at(), Some(start + 4 * second));
        assert_eq!(beats.dead_at(), Some(start + 10 * second));
    }

    #[test]
    fn nobody_dies_while_reading_is_paused() {
        let start = Instant::now();
        let agreed = HeartBeat::answer(Some(b"4000,0")).expect("valid");
        let mut beats = HeartBeats::new(start, agreed);
        beats.pause(start);
        assert_eq!(beats.dead_at(), None);
        let later = start + Duration::from_secs(60);
        beats.resume(later);
        assert_eq!(beats.dead_at(), Some(later + Duration::from_secs(8)));
    }
}
