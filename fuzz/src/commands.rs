//! What the commands read from whatever answers.

use primacy::{
    decoders::{ClusterAnswer, harmless, node, status_text},
    is_harmless,
    limits::{CHANGES_KEPT, MEMBERS_MAX},
    proto::ClusterView,
};
use prost::Message;

use crate::check;

/// What answers HTTP where gRPC was expected: a node, or something else.
pub fn identify(bytes: &[u8]) {
    let answer = String::from_utf8_lossy(bytes);
    if let Some((name, address)) = node(&answer) {
        check::plain(&name);
        check::plain(&address);
        assert!(answer.contains("\r\n\r\n"));
    }
}

/// A view of the cluster: what is printed of it has no control character but newlines, and what is printed as JSON is JSON.
pub fn status(bytes: &[u8]) {
    let Ok(view) = ClusterView::decode(bytes) else { return };
    let view = harmless(view);
    assert!(view.members.len() <= MEMBERS_MAX && view.recent.len() <= CHANGES_KEPT);
    assert_eq!(harmless(view.clone()), view, "it may be applied again");
    let text = status_text(&view, view.observed_at_ms, false);
    let strange = text.chars().find(|character| !is_harmless(*character) && *character != '\n');
    assert_eq!(strange, None, "{text}");
    let json = serde_json::to_string_pretty(&ClusterAnswer::from(view)).expect("it is JSON");
    serde_json::from_str::<serde_json::Value>(&json).expect("it is JSON");
}
