//! The two text formats of metrics: Prometheus's classic one, and OpenMetrics.

use std::fmt::Write;

/// How the metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Classic,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// How HTTP calls it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of one answer. Names come without `primacy_`; helps have neither backslashes nor line feeds.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
}

impl Exposition {
    /// Without metrics yet.
    pub fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(8 * 1024) }
    }

    /// A number that only grows. OpenMetrics describes it without the suffix that its sample has.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        let suffix = match self.format {
            Format::Classic => "_total",
            Format::OpenMetrics => "",
        };
        self.describe(&format!("{name}{suffix}"), "counter", help);
        self.sample(format_args!("{name}_total"), value);
    }

    /// A number that comes and goes.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.describe(name, "gauge", help);
        self.sample(format_args!("{name}"), value);
    }

    /// Times in seconds: how many were within each upper bound but not within the one before, and their sum.
    pub fn histogram_seconds(&mut self, name: &str, help: &str, buckets: &[(f64, u64)], sum: f64) {
        self.describe(name, "histogram", help);
        if self.format == Format::OpenMetrics {
            self.line(format_args!("# UNIT primacy_{name} seconds"));
        }
        let mut count = 0;
        for (bound, counted) in buckets {
            count += counted;
            let bound = if bound.is_infinite() { "+Inf".to_owned() } else { format!("{bound:?}") };
            self.sample(format_args!("{name}_bucket{{le=\"{bound}\"}}"), count);
        }
        self.line(format_args!("primacy_{name}_sum {sum:?}"));
        self.sample(format_args!("{name}_count"), count);
    }

    /// The whole text.
    pub fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.line(format_args!("# EOF"));
        }
        self.text
    }

    fn describe(&mut self, family: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP primacy_{family} {help}"));
        self.line(format_args!("# TYPE primacy_{family} {kind}"));
    }

    fn sample(&mut self, name: std::fmt::Arguments<'_>, value: u64) {
        self.line(format_args!("primacy_{name} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format) -> String {
        let mut exposition = Exposition::new(format);
        exposition.counter("retries", "Numbers tried again", 3);
        exposition.gauge("in_flight", "Requests in flight", 2);
        let buckets = [(0.000_25, 1), (1.0, 0), (f64::INFINITY, 2)];
        exposition.histogram_seconds("request_seconds", "How long requests took", &buckets, 2.5);
        exposition.end()
    }

    #[test]
    fn the_classic_format_describes_the_samples_themselves() {
        let expected = "\
# HELP primacy_retries_total Numbers tried again
# TYPE primacy_retries_total counter
primacy_retries_total 3
# HELP primacy_in_flight Requests in flight
# TYPE primacy_in_flight gauge
primacy_in_flight 2
# HELP primacy_request_seconds How long requests took
# TYPE primacy_request_seconds histogram
primacy_request_seconds_bucket{le=\"0.00025\"} 1
primacy_request_seconds_bucket{le=\"1.0\"} 1
primacy_request_seconds_bucket{le=\"+Inf\"} 3
primacy_request_seconds_sum 2.5
primacy_request_seconds_count 3
";
        assert_eq!(written(Format::Classic), expected);
    }

    #[test]
    fn openmetrics_describes_families_and_has_units_and_an_end() {
        let expected = "\
# HELP primacy_retries Numbers tried again
# TYPE primacy_retries counter
primacy_retries_total 3
# HELP primacy_in_flight Requests in flight
# TYPE primacy_in_flight gauge
primacy_in_flight 2
# HELP primacy_request_seconds How long requests took
# TYPE primacy_request_seconds histogram
# UNIT primacy_request_seconds seconds
primacy_request_seconds_bucket{le=\"0.00025\"} 1
primacy_request_seconds_bucket{le=\"1.0\"} 1
primacy_request_seconds_bucket{le=\"+Inf\"} 3
primacy_request_seconds_sum 2.5
primacy_request_seconds_count 3
# EOF
";
        assert_eq!(written(Format::OpenMetrics), expected);
    }
}
