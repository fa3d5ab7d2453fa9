//! Files that are read again while a node runs: certificates, keys, CAs and tokens.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::tls::Tls,
    limits::{EXPIRY_WARNED_BEFORE, EXPIRY_WARNING_INTERVAL, RELOAD_INTERVAL},
    metrics::Metrics,
};

/// Files that belong together, and what is done when they have changed.
#[derive(Clone)]
pub struct Reload {
    paths: Vec<PathBuf>,
    /// What they held when that was last taken or refused.
    judged: ReadFiles,
    /// What they hold since the last look.
    seen: Option<ReadFiles>,
    take: Take,
}

/// What the files hold, or why they cannot be read.
type ReadFiles = Result<Vec<Vec<u8>>, String>;
/// What was taken, or why it was not.
type Taken = Result<String, String>;
type Take = Arc<dyn Fn(&[Vec<u8>]) -> Taken + Send + Sync>;

impl Reload {
    /// Of files that held this.
    pub fn new<E: ToString>(
        paths: Vec<PathBuf>,
        contents: Vec<Vec<u8>>,
        take: impl Fn(&[Vec<u8>]) -> Result<String, E> + Send + Sync + 'static,
    ) -> Self {
        let take = move |contents: &[Vec<u8>]| take(contents).map_err(|error| error.to_string());
        Self { paths, judged: Ok(contents), seen: None, take: Arc::new(take) }
    }

    /// Takes what the files hold, if it is new and was the same at the last look: files are written one after the other,
    /// and each in parts.
    fn look(&mut self, read: ReadFiles) -> Option<Taken> {
        if read == self.judged {
            self.seen = None;
            return None;
        }
        if self.seen.as_ref() != Some(&read) {
            self.seen = Some(read);
            return None;
        }
        self.seen = None;
        let taken = match &read {
            Ok(contents) => (self.take)(contents),
            Err(error) => Err(error.clone()),
        };
        self.judged = read;
        Some(taken)
    }
}

/// Reads files, all or none.
///
/// # Errors
/// Which of them cannot be read, and why.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    paths.iter().map(read).collect()
}

/// Looks at the files until `stop`, and warns of a certificate that expires.
pub async fn run(mut reloads: Vec<Reload>, tls: Option<Tls>, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut expiry = ExpiryWarning::default();
    let mut looks = interval(RELOAD_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut readings: Vec<Option<Reading>> = reloads.iter().map(|_| None).collect();
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        expiry.warn(tls.as_ref());
        for (reload, reading) in reloads.iter_mut().zip(&mut readings) {
            let Some(read) = stop.run_until_cancelled(read_in_time(&reload.paths, reading)).await else {
                return;
            };
            match reload.look(read) {
                None => {}
                Some(Ok(taken)) => {
                    metrics.reloads.inc();
                    tracing::info!("{taken}");
                }
                Some(Err(error)) => {
                    metrics.reloads_failed.inc();
                    tracing::error!(
                        "files have changed and cannot be taken; what they held before stays: {error}"
                    );
                }
            }
        }
    }
}

/// What a thread reads.
type Reading = JoinHandle<ReadFiles>;

/// Reads the files, which may be far away. A read cannot be given up: one that has not ended is waited for at the next look,
/// and by nobody when the process ends.
async fn read_in_time(paths: &[PathBuf], reading: &mut Option<Reading>) -> ReadFiles {
    let mut open = reading.take().unwrap_or_else(|| {
        let paths = paths.to_vec();
        spawn_blocking(move || read(&paths))
    });
    match timeout(RELOAD_INTERVAL, &mut open).await {
        Ok(read) => read.unwrap_or_else(|_| Err("the thread that reads files has died".to_owned())),
        Err(_) => {
            *reading = Some(open);
            Err(format!("reading {} takes too long", paths[0].display()))
        }
    }
}

/// Says now and then that the certificate will expire soon, or has.
#[derive(Default)]
struct ExpiryWarning(Option<Instant>);

impl ExpiryWarning {
    fn warn(&mut self, tls: Option<&Tls>) {
        let Some(left) = tls.map(|tls| tls.expires_in(SystemTime::now())) else { return };
        let is_due = self.0.is_none_or(|last| last.elapsed() >= EXPIRY_WARNING_INTERVAL);
        // Certificates that are good for a day are renewed every day.
        let warned_before =
            tls.map_or(EXPIRY_WARNED_BEFORE, |tls| EXPIRY_WARNED_BEFORE.min(tls.lifetime() / 3));
        if left > warned_before {
            self.0 = None;
        } else if is_due {
            self.0 = Some(Instant::now());
            let days = left.as_secs() / (24 * 3600);
            match left.is_zero() {
                true => {
                    tracing::error!("the certificate has expired, and nobody believes it; replace the files")
                }
                false => tracing::warn!("the certificate expires in {days} days; replace the files before"),
            }
        }
    }
}

impl std::fmt::Debug for Reload {
    /// Without what is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("paths", &self.paths).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(text: &str) -> ReadFiles {
        Ok(vec![text.into()])
    }

    #[test]
    fn a_change_is_taken_once_and_only_when_it_holds_still() {
        let take = |contents: &[Vec<u8>]| match &*contents[0] {
            b"bad" => Err("it is bad"),
            text => Ok(String::from_utf8_lossy(text).into_owned()),
        };
        let mut reload = Reload::new(Vec::new(), vec!["a".into()], take);
        let mut looks =
            |texts: &[&str]| texts.iter().map(|text| reload.look(holding(text))).collect::<Vec<_>>();
        assert_eq!(looks(&["a", "a"]), [None, None]);
        assert_eq!(looks(&["b", "b", "b"]), [None, Some(Ok("b".into())), None]);
        assert_eq!(looks(&["c", "d", "c", "b"]), [None, None, None, None], "half written, and put back");
        assert_eq!(looks(&["bad", "bad", "bad", "bad"]), [None, Some(Err("it is bad".into())), None, None]);
        assert_eq!(looks(&["b", "b"]), [None, Some(Ok("b".into()))], "as before, after a bad one");
    }

    #[test]
    fn files_that_are_gone_are_said_once_and_taken_when_they_are_back() {
        let mut reload = Reload::new(Vec::new(), vec!["a".into()], |_| Ok::<_, String>("taken".into()));
        let gone = || Err("cannot read x".to_owned());
        let looks: Vec<_> =
            [gone(), gone(), gone(), holding("a"), holding("a")].map(|read| reload.look(read)).into();
        let said = Some(Err("cannot read x".to_owned()));
        assert_eq!(looks, [None, said, None, None, Some(Ok("taken".to_owned()))]);
    }
}
