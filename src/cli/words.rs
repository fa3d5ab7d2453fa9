//! Times as people read them.

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
    let (day, today) = (epoch_ms / SECOND / DAY_S, now_ms / SECOND / DAY_S);
    let second = epoch_ms / SECOND % DAY_S;
    let time = format!("{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
    if day == today { time } else { format!("{} {time}", date(day)) }
}

/// The date of a day since the Unix epoch: 400 years have 146,097 days, and a year that begins in March ends with its
/// leap day.
fn date(day: u64) -> String {
    const DAYS_TO_MARCH_OF_YEAR_0: u64 = 719_468;
    let day = day + DAYS_TO_MARCH_OF_YEAR_0;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
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
        ];
        for (second, date) in days {
            assert!(clock(second * 1000, now).starts_with(&format!("{date} ")), "{date}");
        }
    }
}
