//! Whether the peer of a lane is silent while it holds something of ours. This rule holds for every lane,
//! independently of what the election makes of the peer: what it holds is given back within the suspicion time.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use primacy_election::{
    Time,
    timing::{GRACE, LOOKS_PER_HEARTBEAT, silence_max},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Lane, LaneEnd};
use crate::{
    limits::PEER_MESSAGE_BYTES_MAX,
    proto::{self, worker_client::WorkerClient},
};

/// A silence as it grows: pure, the time is an argument.
#[derive(Debug)]
struct Silence {
    heartbeat: Duration,
    heard: Time,
    /// When it is too long.
    until: Time,
    looked: Time,
    /// It was given the grace already.
    has_grace: bool,
}

impl Silence {
    fn begin(now: Time, heartbeat: Duration) -> Self {
        let until = now + silence_max(heartbeat);
        Self { heartbeat, heard: now, until, looked: now, has_grace: false }
    }

    /// Looks at when the peer was last heard; returns whether it is silent for too long.
    fn look(&mut self, now: Time, heard: Time) -> bool {
        let is_late = now.since(self.looked) > self.heartbeat;
        self.looked = now;
        if heard > self.heard {
            (self.heard, self.until, self.has_grace) = (heard, heard + silence_max(self.heartbeat), false);
        }
        let grace = now + self.heartbeat * GRACE;
        if is_late && !self.has_grace && grace > self.until {
            (self.until, self.has_grace) = (grace, true);
        }
        now >= self.until
    }

    /// Whether the peer is to be asked for a sign of life.
    fn wants_sign(&self, now: Time) -> bool {
        now.since(self.heard) >= self.heartbeat / LOOKS_PER_HEARTBEAT
    }

    fn next_look(&self) -> Time {
        (self.looked + self.heartbeat / LOOKS_PER_HEARTBEAT).min(self.until)
    }
}

impl Lane {
    /// Watches a lane for as long as it runs; returns only when it is retired, and its peer was silent for too long. A
    /// lane that is wanted stays open: whether its peer is lost is for the members or the election to judge.
    pub async fn watch(&self, heartbeat: Duration) -> LaneEnd {
        loop {
            self.holds_something().await;
            if !self.falls_silent(heartbeat).await {
                continue;
            }
            self.give_back();
            tokio::select! {
                () = self.0.retired.cancelled() => return LaneEnd::Silent,
                () = self.is_heard_again(heartbeat) => {}
            }
        }
    }

    /// Asks for signs of life until one comes, or something comes over the lane.
    async fn is_heard_again(&self, heartbeat: Duration) {
        while self.is_silent() {
            if self.ask_for_sign(silence_max(heartbeat)).await {
                self.hear();
            } else {
                sleep(heartbeat / LOOKS_PER_HEARTBEAT).await;
            }
        }
    }

    /// Watches until the lane holds nothing any more, or the peer is silent for too long. What comes over the lane is a
    /// sign of life; where nothing comes, heartbeats ask for one, which change nothing over there.
    async fn falls_silent(&self, heartbeat: Duration) -> bool {
        let mut silence = Silence::begin(self.time(), heartbeat);
        let mut signs = FuturesUnordered::new();
        while self.is_holding() {
            tokio::select! {
                biased;
                Some(has_come) = signs.next() => if has_come { self.hear() },
                () = sleep_until(self.instant(silence.next_look())) => {
                    let now = self.time();
                    if silence.look(now, self.heard()) {
                        return true;
                    }
                    if silence.wants_sign(now) {
                        signs.push(self.ask_for_sign(silence_max(heartbeat)));
                    }
                }
            }
        }
        false
    }

    /// Any answer is a sign, an error of the other side too.
    async fn ask_for_sign(&self, time: Duration) -> bool {
        let mut client =
            WorkerClient::new(self.connection()).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        match timeout(time, client.heartbeat(proto::HeartbeatRequest::default())).await {
            Ok(Ok(_)) => true,
            Ok(Err(status)) => std::error::Error::source(&status).is_none(),
            Err(_) => false,
        }
    }

    fn instant(&self, time: Time) -> Instant {
        Instant::from_std(self.0.opened) + time.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: Duration = Duration::from_millis(100);

    fn ms(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    /// Looks every 50 ms from `from` on, and hears nothing; returns when that was too long.
    fn end_of_silence(silence: &mut Silence, from: u64, heard: u64) -> u64 {
        (from..).step_by(50).find(|now| silence.look(ms(*now), ms(heard))).unwrap()
    }

    #[test]
    fn a_silence_of_three_heartbeats_and_a_half_is_too_long() {
        let mut silence = Silence::begin(ms(1000), H);
        assert_eq!(end_of_silence(&mut silence, 1050, 0), 1350);
        let mut silence = Silence::begin(ms(1000), H);
        assert_eq!(
            end_of_silence(&mut silence, 1050, 1000),
            1350,
            "what was heard before counts for nothing more"
        );
        let mut silence = Silence::begin(ms(1000), H);
        assert!((1050..5000).step_by(50).all(|now| !silence.look(ms(now), ms(now - 300))), "it is heard");
        assert_eq!(end_of_silence(&mut silence, 5000, 4700), 5050);
    }

    #[test]
    fn whose_own_timers_were_late_waits_two_heartbeats_more_and_only_once() {
        // Late in the middle of the silence, at its end, and after a long sleep.
        for (late, end) in [(1200, 1400), (1340, 1540), (9000, 9200)] {
            let mut silence = Silence::begin(ms(1000), H);
            assert!(!silence.look(ms(late), ms(1000)), "{late}");
            assert_eq!(end_of_silence(&mut silence, late + 50, 1000).next_multiple_of(10), end, "{late}");
        }
        let mut silence = Silence::begin(ms(1000), H);
        assert!((1120..1480).step_by(120).all(|now| !silence.look(ms(now), ms(1000))), "late at each look");
        assert!(silence.until <= ms(1000 + 350 + 200), "{:?}", silence.until);
        // A peer that is heard again has the same time anew.
        let mut silence = Silence::begin(ms(1000), H);
        assert!(!silence.look(ms(1340), ms(1000)) && !silence.look(ms(1500), ms(1490)));
        assert!(!silence.look(ms(1850), ms(1490)), "late once more, in the next silence");
        assert_eq!(end_of_silence(&mut silence, 1900, 1490), 2050);
    }

    #[test]
    fn a_sign_is_asked_for_when_nothing_came_for_half_a_heartbeat() {
        let mut silence = Silence::begin(ms(1000), H);
        assert_eq!(silence.next_look(), ms(1050));
        assert!(!silence.look(ms(1050), ms(1040)) && !silence.wants_sign(ms(1050)));
        assert!(!silence.look(ms(1100), ms(1040)) && silence.wants_sign(ms(1100)));
        silence.look(ms(1380), ms(1040));
        assert_eq!(silence.next_look(), ms(1390).max(silence.until.min(ms(1430))), "no later than its end");
    }
}
