//! The page: the files of `web/`, and what it may load.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use primacy_election::{Member, Scheme, Status};

use super::{
    Gateway,
    files::{File, PAGE},
    listener::{arrival::Arrival, entrance::Transport},
};
use crate::limits::POLICY_MEMBERS_BYTES_MAX;

/// The page and what it is made of.
pub fn routes() -> Router<Arc<Gateway>> {
    PAGE.iter().fold(Router::new(), |router, file| match file.name {
        "index.html" => {
            router.route("/", get(move |gateway, request| async move { index(file, gateway, &request) }))
        }
        name => router.route(&format!("/{name}"), file.route()),
    })
}

fn index(file: &File, State(gateway): State<Arc<Gateway>>, request: &Request) -> Response {
    let snapshot = Arc::clone(&gateway.cluster.snapshot());
    let view = &snapshot.view;
    let (alive, others): (Vec<_>, Vec<_>) =
        view.members.iter().partition(|member| member.status == Status::Alive);
    let is_encrypted = matches!(Arrival::of(request.extensions()).transport, Transport::Tls { .. });
    let members =
        alive.into_iter().chain(others).map(|member| (scheme(member, is_encrypted), &*member.http_addr));
    ([(header::CONTENT_SECURITY_POLICY, policy(members))], file.answer(request)).into_response()
}

/// How a page reaches a member: one that came over TLS reaches nothing else.
fn scheme(member: &Member, is_encrypted: bool) -> Scheme {
    if is_encrypted { Scheme::Https } else { member.scheme }
}

/// Nothing but the page's own files, and the members that it may have to go on with: the first of these, as many as fit.
fn policy<'a>(addresses: impl Iterator<Item = (Scheme, &'a str)>) -> String {
    let mut members = String::new();
    for source in addresses.filter_map(|(scheme, address)| source(scheme, address)) {
        if members.len() + source.len() > POLICY_MEMBERS_BYTES_MAX {
            break;
        }
        if !members.split(' ').any(|named| named == source) {
            members = members + " " + &source;
        }
    }
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{members}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// A member as a source of a policy. Its grammar has no IPv6 addresses and no underscores, and a browser skips what it
/// cannot read; of those members it is told the port alone.
fn source(scheme: Scheme, address: &str) -> Option<String> {
    let scheme = scheme.as_str();
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let is_name = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    Some(match host.split('.').all(is_name) {
        true => format!("{scheme}://{host}:{port}"),
        false => format!("{scheme}://*:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(addresses: &[&str]) -> String {
        sources_over(Scheme::Http, addresses)
    }

    fn sources_over(scheme: Scheme, addresses: &[&str]) -> String {
        let policy = policy(addresses.iter().map(|address| (scheme, *address)));
        let (_, rest) = policy.split_once("connect-src 'self'").unwrap();
        rest.split_once(';').unwrap().0.trim_start().to_owned()
    }

    #[test]
    fn members_are_named_as_the_grammar_of_policies_allows() {
        assert_eq!(
            sources(&["127.0.0.1:8080", "worker-1.example:8081"]),
            "http://127.0.0.1:8080 http://worker-1.example:8081"
        );
        assert_eq!(
            sources(&["[::1]:8080", "[fe80::1%eth0]:8081", "my_host:8082"]),
            "http://*:8080 http://*:8081 http://*:8082"
        );
        assert_eq!(sources(&["[::1]:8080", "my_host:8080"]), "http://*:8080");
        assert_eq!(
            sources_over(Scheme::Https, &["127.0.0.1:8080", "[::1]:8081"]),
            "https://127.0.0.1:8080 https://*:8081"
        );
        assert_eq!(sources(&["", "worker1", "worker1:", "worker1:http", "worker1:70000"]), "");
    }

    #[test]
    fn no_address_says_anything_else_in_a_policy() {
        for address in
            ["x; script-src *:80", "x 'unsafe-inline':80", "*:80", "a,b:80", "x\ny:80", "ä:80", "a..b:80"]
        {
            assert_eq!(sources(&[address]), "http://*:80", "{address}");
        }
    }

    #[test]
    fn a_large_cluster_leaves_room_for_the_other_headers() {
        let names: Vec<String> =
            (0..1024).map(|id| format!("worker{id}.primacy.svc.cluster.local:8080")).collect();
        let named = sources(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(named.starts_with("http://worker0.") && named.ends_with(".local:8080"), "{named}");
        assert!(
            (POLICY_MEMBERS_BYTES_MAX - 100..=POLICY_MEMBERS_BYTES_MAX).contains(&named.len()),
            "{}",
            named.len()
        );
    }
}
