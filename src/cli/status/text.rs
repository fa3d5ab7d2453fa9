//! A view of the cluster as people read it.

use crate::{
    cli::{
        table,
        words::{clock, duration},
    },
    proto,
};

/// Elections that are shown.
const ELECTIONS_SHOWN: usize = 5;

const COLUMNS: [&str; 9] =
    ["NAME", "ID", "ADDRESS", "STATUS", "ROLE", "COUNTER", "IN-FLIGHT", "LAST-SEEN", "VERSION"];

/// The members as a table, then who leads, who is missing, and the last elections. `now_ms` is by the observer's clock.
pub fn text(view: &proto::ClusterView, now_ms: u64, coloured: bool) -> String {
    let mut lines = vec![members(view, now_ms, coloured), String::new(), leader(view, now_ms)];
    let missing = view.members.iter().filter(|member| member.status() != proto::MemberStatus::Alive);
    lines.extend(missing.map(|member| colour(away(view, member, now_ms), member.status(), coloured)));
    let elections: Vec<String> = view
        .recent
        .iter()
        .filter(|change| leads(change))
        .take(ELECTIONS_SHOWN)
        .map(|change| line(change, now_ms))
        .collect();
    if !elections.is_empty() {
        lines.extend([String::new(), "last elections".to_owned()]);
        lines.extend(elections);
    }
    lines.join("\n")
}

fn members(view: &proto::ClusterView, now_ms: u64, coloured: bool) -> String {
    let rows = view.members.iter().map(|member| row(view, member, now_ms));
    let table = table(COLUMNS, rows, &[1, 5, 6, 7]);
    let statuses = view.members.iter().map(proto::Member::status);
    // The header has no status, and no colour.
    let statuses = std::iter::once(proto::MemberStatus::Alive).chain(statuses);
    let lines = table.lines().zip(statuses).map(|(line, status)| colour(line.to_owned(), status, coloured));
    lines.collect::<Vec<_>>().join("\n")
}

fn row(view: &proto::ClusterView, member: &proto::Member, now_ms: u64) -> [String; 9] {
    let leader = view.leader.as_ref().filter(|leader| Some(leader.id) == member.id);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let since_then = now_ms.saturating_sub(view.observed_at_ms);
    [
        member.name.clone(),
        or_dash(member.id.map(|id| id.to_string())),
        member.grpc_addr.clone(),
        status_word(member),
        member.role().as_str_name().to_lowercase(),
        or_dash(leader.map(|leader| leader.counter.to_string())),
        member.in_flight.to_string(),
        or_dash(member.last_seen_ms.map(|ms| duration(ms.saturating_add(since_then)))),
        if member.version.is_empty() { "-".to_owned() } else { member.version.clone() },
    ]
}

fn leader(view: &proto::ClusterView, now_ms: u64) -> String {
    let observer = &view.observed_by;
    if let Some(leader) = &view.leader {
        let lasted = duration(now_ms.saturating_sub(leader.since_ms));
        return format!(
            "{} has led for {lasted}, ballot {}; observed by {observer}",
            leader.name, leader.counter
        );
    }
    match view.recent.iter().find(|change| change.change.starts_with("leader")) {
        Some(lost) => {
            let lasted = duration(now_ms.saturating_sub(lost.at_ms));
            let proto::Change { name, reason, .. } = lost;
            format!(
                "no leader has been reached for {lasted}: {name} was lost, {reason}; observed by {observer}"
            )
        }
        None => format!("no leader is reached; observed by {observer}"),
    }
}

/// Since when a member is not alive, and why, if that is remembered.
fn away(view: &proto::ClusterView, member: &proto::Member, now_ms: u64) -> String {
    let (name, status) = (&member.name, status_word(member));
    let became = |change: &&proto::Change| change.name == member.name && change.change == status;
    match view.recent.iter().find(became) {
        Some(change) => {
            let lasted = duration(now_ms.saturating_sub(change.at_ms));
            format!("{name} has been {status} for {lasted}: {}", change.reason)
        }
        None => format!("{name} is {status}"),
    }
}

fn leads(change: &proto::Change) -> bool {
    change.change == "leader"
}

/// Such as `11:29:49Z  worker3 took over from leader: connection refused, 41 ms`. A hand-over takes no time.
fn line(change: &proto::Change, now_ms: u64) -> String {
    let verb = if change.reason.starts_with("took over") { "" } else { "leads: " };
    let took =
        if change.duration_ms == 0 { String::new() } else { format!(", {}", duration(change.duration_ms)) };
    let (at, name, reason) = (clock(change.at_ms, now_ms), &change.name, &change.reason);
    format!("{at}  {name} {verb}{reason}{took}")
}

fn status_word(member: &proto::Member) -> String {
    member.status().as_str_name().to_lowercase()
}

/// Yellow for a suspect, red for the dead, faint for who stopped.
fn colour(line: String, status: proto::MemberStatus, coloured: bool) -> String {
    let code = match status {
        proto::MemberStatus::Suspect => 33,
        proto::MemberStatus::Dead => 31,
        proto::MemberStatus::Stopped => 2,
        proto::MemberStatus::Alive | proto::MemberStatus::Unspecified => 0,
    };
    if coloured && code != 0 { format!("\x1b[{code}m{line}\x1b[0m") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Leader;

    fn change(at_ms: u64, name: &str, change: &str, reason: &str, duration_ms: u64) -> proto::Change {
        let [name, change, reason] = [name, change, reason].map(str::to_owned);
        proto::Change { at_ms, name, change, reason, duration_ms }
    }

    fn below_the_table(view: &proto::ClusterView) -> String {
        let text = text(view, view.observed_at_ms, false);
        text.split_once("\n\n").unwrap().1.to_owned()
    }

    #[test]
    fn the_last_elections_are_told_in_words() {
        let leader = Leader { id: 3, name: "worker3".to_owned(), counter: 7, since_ms: 60_000 };
        let recent = vec![
            change(60_000, "worker3", "leader", "took over from leader: connection refused", 41),
            change(59_959, "leader", "leader lost", "connection refused", 57_000),
            change(59_958, "leader", "dead", "connection refused", 2),
            change(2_000, "leader", "leader", "took over from worker1, as an operator asked", 0),
            change(1_000, "worker1", "leader", "the first election", 25),
        ];
        let mut dead = proto::Member { name: "leader".to_owned(), ..proto::Member::default() };
        dead.set_status(proto::MemberStatus::Dead);
        let mut unmet = proto::Member { name: "worker2".to_owned(), ..proto::Member::default() };
        unmet.set_status(proto::MemberStatus::Suspect);
        let view = proto::ClusterView {
            leader: Some(leader),
            members: vec![dead, unmet],
            observed_by: "worker1".to_owned(),
            observed_at_ms: 252_000,
            recent,
        };
        let told = "worker3 has led for 3 min 12 s, ballot 7; observed by worker1\n\
                    leader has been dead for 3 min 12 s: connection refused\n\
                    worker2 is suspect\n\n\
                    last elections\n\
                    00:01:00Z  worker3 took over from leader: connection refused, 41 ms\n\
                    00:00:02Z  leader took over from worker1, as an operator asked\n\
                    00:00:01Z  worker1 leads: the first election, 25 ms";
        assert_eq!(below_the_table(&view), told);
    }

    #[test]
    fn without_a_leader_it_says_since_when_and_why() {
        let mut view = proto::ClusterView {
            observed_by: "worker1".to_owned(),
            observed_at_ms: 252_000,
            recent: vec![change(250_800, "leader", "leader lost", "it missed three heartbeats", 57_000)],
            ..proto::ClusterView::default()
        };
        let told = "no leader has been reached for 1.2 s: leader was lost, it missed three heartbeats; observed by worker1";
        assert_eq!(below_the_table(&view), told);
        view.recent.clear();
        assert_eq!(below_the_table(&view), "no leader is reached; observed by worker1");
    }
}
