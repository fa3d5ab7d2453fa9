//! Times as people read them.

use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;

const SECOND: u64 = 1000;
const DAY_S: u64 = 86_400;

/// How long: `41 ms`, `1.5 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / SECOND;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % SECOND / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..DAY_S => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / DAY_S, seconds % DAY_S / 3600),
    }
}

/// When, in UTC: `11:29:49Z`, on another day than now `2026-11-23 11:29:49Z`.
pub(super) fn clock(epoch_ms: u64, now_ms: u64) -> String {
    let (at, now) = (date_and_time(epoch_ms), date_and_time(now_ms));
    match (at.split_once('T'), now.split_once('T')) {
        (Some((day, time)), Some((today, _))) if day == today => time.to_owned(),
        _ => at.replace('T', " "),
    }
}

fn date_and_time(epoch_ms: u64) -> String {
    // Beyond the year 9999, which no clock says, it would not be printed.
    let seconds = (epoch_ms / SECOND).min(253_402_300_799);
    format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let printed = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 0 s"),
            (192_000, "3 min 12 s"),
            (3_600_000, "1 h 0 min"),
            (86_400_000 * 3 + 3_600_000 * 4, "3 d 4 h"),
        ];
        for (ms, text) in printed {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let now = 1_795_519_789_000;
        assert_eq!(clock(now, now), "11:29:49Z");
        let days = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_433_389, "2026-11-23"),
            (1_798_675_200, "2026-12-31"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
            (u64::MAX / 1000, "9999-12-31"),
        ];
        for (second, date) in days {
            assert!(clock(second * 1000, now).starts_with(&format!("{date} ")), "{date}");
        }
    }
}
