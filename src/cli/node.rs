//! `primacy node`: one node.

use std::process::ExitCode;

use tokio::io::{AsyncReadExt, stdin};

use super::{USAGE, fail_in_log, told_to_stop};
use crate::{
    config::{NodeArgs, NodeConfig},
    node::Node,
};

pub(super) async fn run(args: NodeArgs) -> ExitCode {
    let first_signal = told_to_stop();
    let config = match NodeConfig::new(args) {
        Ok(config) => config,
        Err(error) => {
            fail_in_log(error);
            return ExitCode::from(USAGE);
        }
    };
    let with_stdin = config.exit_with_stdin;
    let stop = async move {
        tokio::select! {
            _ = first_signal => {}
            () = stdin_ended(), if with_stdin => tracing::info!("whoever started this node is gone"),
        }
    };
    let ended = match Node::bind(config).await {
        // A second signal, counted from when it is first awaited, ends the draining.
        Ok(node) => {
            node.run(stop, async {
                let _ = told_to_stop().await;
            })
            .await
        }
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail_in_log(error),
    }
}

/// The end of an inherited pipe is the sound sign that the parent is gone, however it went.
async fn stdin_ended() {
    let mut stdin = stdin();
    let mut ignored = [0; 64];
    while stdin.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}
