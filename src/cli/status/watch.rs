//! `primacy status --watch`: the view of one node at every change; when that node dies, the next one's.

use std::{
    env,
    io::{self, IsTerminal},
    pin::pin,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::{Stream, StreamExt, stream};
use rustix::termios::tcgetwinsize;
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::{ViewStream, now_ms, open, text::text};
use crate::{
    api::cluster::ClusterAnswer,
    cli::{
        OutputFormat, client::Client, colours, fail, fail_in_log, print_aside, told_to_stop, words::clock,
    },
    proto,
    text::line,
};

/// On a terminal the node is asked again when nothing has changed for this long, and if it does not answer then, the
/// ages are counted on at every second.
const REFRESH: Duration = Duration::from_millis(900);
const COUNT_ON: Duration = Duration::from_secs(1);
/// The pause before nodes that do not answer are asked again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(client: Client, output: OutputFormat) -> ExitCode {
    let stop = told_to_stop();
    let screen = Screen::new(output);
    tokio::select! {
        code = show(client, screen) => code,
        _ = stop => ExitCode::SUCCESS,
    }
}

async fn show(client: Client, mut screen: Screen) -> ExitCode {
    let mut news = pin!(news(client, screen.in_place));
    loop {
        let shown = tokio::select! {
            Some(news) = news.next() => match news {
                Ok(news) => screen.show(news),
                Err(status) => return fail(status.message()),
            },
            () = sleep(COUNT_ON), if screen.in_place => screen.draw(),
        };
        if let Some(shown) = shown
            && let Err(code) = print_aside(shown).await
        {
            return code;
        }
    }
}

// ── Watching ────────────────────────────────────────────────────────────────────────────────────────────────────

/// What there is to show.
enum WatchNews {
    View(Box<proto::ClusterView>),
    /// About the watching itself.
    Notice(String),
}

/// Views, and notices of where they come from, without end; an error if no node answers at the beginning.
fn news(client: Client, refreshed: bool) -> impl Stream<Item = Result<WatchNews, Status>> {
    let watch = Watch { client, refreshed, views: None, node: None, first: None, was_told: false };
    stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) })
}

struct Watch {
    client: Client,
    /// Whether it is asked again while nothing changes.
    refreshed: bool,
    /// The views of the node that is watched; none while one is to be found.
    views: Option<ViewStream>,
    /// The node that is watched, or that was: its name and its address.
    node: Option<String>,
    /// The first view of a node, which a notice goes before.
    first: Option<Box<proto::ClusterView>>,
    /// It was said that no node answers.
    was_told: bool,
}

impl Watch {
    async fn next(&mut self) -> Result<WatchNews, Status> {
        if let Some(view) = self.first.take() {
            return Ok(WatchNews::View(view));
        }
        match self.next_view().await {
            Some(view) => Ok(WatchNews::View(view)),
            None => self.find().await,
        }
    }

    /// The next view of the node that is watched, if there is one and it goes on.
    async fn next_view(&mut self) -> Option<Box<proto::ClusterView>> {
        let views = self.views.as_mut()?;
        let next = match self.refreshed {
            true => timeout(REFRESH, views.next()).await,
            false => Ok(views.next().await),
        };
        match next {
            Ok(Ok(Some(view))) => return Some(Box::new(view)),
            Ok(Ok(None) | Err(_)) => self.client.leave(),
            // The first view of a new watch has the ages of now.
            Err(_) => {}
        }
        self.views = None;
        None
    }

    /// Goes on with a node that answers: the same one if it does.
    async fn find(&mut self) -> Result<WatchNews, Status> {
        loop {
            match self.client.call(open).await {
                Ok((view, views)) => {
                    self.views = Some(views);
                    return Ok(self.found(view));
                }
                Err(status) if self.node.is_none() => return Err(status),
                Err(status) if !self.was_told => {
                    self.was_told = true;
                    return Ok(WatchNews::Notice(format!(
                        "{}; trying again until one does",
                        status.message()
                    )));
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn found(&mut self, view: proto::ClusterView) -> WatchNews {
        let view = Box::new(view);
        let node = format!("{} at {}", view.observed_by, self.client.current());
        let before = self.node.replace(node.clone()).filter(|before| self.was_told || *before != node);
        self.was_told = false;
        match before {
            None => WatchNews::View(view),
            Some(before) if before == node => {
                self.first = Some(view);
                WatchNews::Notice(format!("{node} answers again"))
            }
            Some(before) => {
                self.first = Some(view);
                WatchNews::Notice(format!("{before} does not answer any more; now watching {node}"))
            }
        }
    }
}

// ── Showing ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// A terminal, which is drawn in place, or a pipe, on which one view follows the other.
struct Screen {
    output: OutputFormat,
    in_place: bool,
    coloured: bool,
    /// The last view, and when it came.
    shown: Option<(Box<proto::ClusterView>, Instant)>,
    notice: String,
    /// How many lines are drawn.
    drawn: usize,
}

impl Screen {
    fn new(output: OutputFormat) -> Self {
        let stdout = io::stdout();
        let can_move = env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            output,
            in_place: output == OutputFormat::Text && stdout.is_terminal() && can_move,
            coloured: colours(&stdout),
            shown: None,
            notice: String::new(),
            drawn: 0,
        }
    }

    /// What is to be printed to show it.
    fn show(&mut self, news: WatchNews) -> Option<String> {
        match news {
            WatchNews::View(view) if self.in_place => self.shown = Some((view, Instant::now())),
            WatchNews::View(view) => return Some(self.next(*view)),
            WatchNews::Notice(notice) if self.in_place => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = u64::try_from(now.as_millis()).unwrap_or_default();
                self.notice = format!("{}  {}", clock(now, now), line(&notice));
            }
            WatchNews::Notice(notice) => {
                fail_in_log(notice);
                return None;
            }
        }
        self.draw()
    }

    fn next(&mut self, view: proto::ClusterView) -> String {
        if self.output == OutputFormat::Json {
            // A struct of strings and numbers always serialises.
            return serde_json::to_string(&ClusterAnswer::from(view)).unwrap_or_default() + "\n";
        }
        let gap = if self.drawn == 0 { "" } else { "\n" };
        self.drawn += 1;
        format!("{gap}{}\n", text(&view, view.observed_at_ms, self.coloured))
    }

    /// Draws over what was drawn before, in one piece. Lines that are too long are cut, not wrapped.
    fn draw(&mut self) -> Option<String> {
        let (view, at) = self.shown.as_ref()?;
        let mut text = text(view, now_ms(view, at.elapsed()), self.coloured);
        if !self.notice.is_empty() {
            text += &format!("\n\n{}", self.notice);
        }
        let lines: Vec<&str> = text.lines().take(rows().saturating_sub(1)).collect();
        let up = match self.drawn {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}A"),
        };
        self.drawn = lines.len();
        let lines: String = lines.into_iter().map(|line| format!("{line}\x1b[K\n")).collect();
        Some(format!("{up}\x1b[?7l{lines}\x1b[J\x1b[?7h"))
    }
}

/// The height of the terminal.
fn rows() -> usize {
    let size = tcgetwinsize(io::stdout()).ok();
    size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0).unwrap_or(usize::MAX)
}
