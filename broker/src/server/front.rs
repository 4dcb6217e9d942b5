//! The thread of the SQS-compatible endpoint.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::running::Report;
use super::threads::{Common, LastWords};
use crate::config::Config;
use crate::exit::Failure;
use crate::gateway::{self, Bell, Ending, GatewayPeer, Options, Setup};

/// What the endpoint is made of.
pub(super) struct FrontSetup {
    /// Where it listens; without one it only makes queues.
    pub(super) listener: Option<TcpListener>,
    pub(super) peer: GatewayPeer,
    /// What wakes it.
    pub(super) bell: Bell,
}

/// Starts its thread. It serves only once `go` says so.
pub(super) fn start(
    front: FrontSetup,
    common: Common,
    reports: Sender<Report>,
    go: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("tenpin-sqs".to_owned()).spawn(move || {
        let ending = Arc::clone(&common.ending);
        let mut last_words = LastWords { reports: reports.clone(), ending, result: None };
        // Whoever does not listen, and does not say go, has ended.
        let goes = reports.send(Report::Ready(None)).is_ok() && go.recv().is_ok();
        last_words.result = Some(if goes { run(front, &common) } else { Ok(()) });
    })
}

fn run(front: FrontSetup, common: &Common) -> Result<(), Failure> {
    let FrontSetup { listener, peer, bell } = front;
    let is_abandoned = {
        let ending = Arc::clone(&common.ending);
        Box::new(move || ending.is_abandoned())
    };
    let setup = Setup {
        listener,
        peer,
        bell,
        shards: common.identity.shards,
        options: options(&common.config),
        ending: Ending { stop: Arc::clone(&common.ending.stop), is_abandoned },
        say: Arc::clone(&common.say),
    };
    gateway::run(setup)
}

fn options(config: &Config) -> Options {
    Options {
        account: config.account.as_str().into(),
        region: config.region.as_str().into(),
        public_url: config.sqs_public_url.clone(),
        trusts_forwarded: config.sqs_trust_forwarded,
        body_bytes_max: config.sqs_body_bytes_max as usize,
        head_timeout: Duration::from_millis(config.sqs_head_timeout_ms.into()),
        body_timeout: Duration::from_millis(config.sqs_body_timeout_ms.into()),
        write_timeout: Duration::from_millis(config.sqs_write_timeout_ms.into()),
        makes_queues: config.sqs_create_queues,
        can_reset: config.sqs_reset,
        queues: config.queues.clone(),
    }
}
