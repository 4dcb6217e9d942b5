//! What is answered to those who ask how the broker is: whether all shards answer, as clients would find them, and
//! what an operator should look at though they do.

use std::rc::Rc;
use std::time::Duration;

use hyper::StatusCode;
use tenpin_protocol::{NO_QUEUE, Request, Response, StatisticCode, StatsRequest};

use super::call::unexpected_answer;
use super::link::{Line, Link};
use crate::sqs::ServiceError;

/// Shards that have not answered for so long are not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is not as it should be while everything is served that can be.
const REASONS: [(StatisticCode, &str); 2] = [
    (
        StatisticCode::LogFull,
        "the log is full: nothing is taken until messages are deleted, or log_bytes_max is raised",
    ),
    (
        StatisticCode::RetentionHeldBack,
        "the wall clock is far ahead of the log's time: until it comes back, or for an hour, retention periods \
         are judged as if it were not",
    ),
];

/// The status and the body of the answer, in JSON. Shards answer it like a client, once all before it is durable.
pub(super) async fn look(link: &Rc<Link>) -> (StatusCode, Vec<u8>) {
    match tokio::time::timeout(PATIENCE, reasons(link)).await {
        Ok(Ok(reasons)) if reasons.is_empty() => (StatusCode::OK, br#"{"status":"ok"}"#.to_vec()),
        Ok(Ok(reasons)) => (StatusCode::OK, told("degraded", &reasons)),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, told("unavailable", &[&error.text])),
        Err(_) => {
            let text = format!("the shards have not answered within {} seconds", PATIENCE.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, told("unavailable", &[&text]))
        }
    }
}

fn told(status: &str, reasons: &[&str]) -> Vec<u8> {
    serde_json::json!({ "status": status, "reasons": reasons }).to_string().into_bytes()
}

async fn reasons(link: &Rc<Link>) -> Result<Vec<&'static str>, ServiceError> {
    let mut line = Line::new(link);
    let answer = line.ask(&Request::Stats(StatsRequest { queue: NO_QUEUE })).await?;
    let Response::Stats(reply) = answer.response()? else {
        return Err(unexpected_answer());
    };
    let is_so = |code: StatisticCode| {
        reply.statistics.iter().any(|statistic| statistic.number == code.number() && statistic.value > 0)
    };
    let reasons = REASONS.iter().filter(|(code, _)| is_so(*code)).map(|(_, text)| *text).collect();
    answer.given();
    Ok(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Bell;
    use crate::mesh::mesh;

    /// A shard that stands still is found out, by whoever asks.
    #[tokio::test(start_paused = true)]
    async fn shards_that_do_not_answer_are_not_well() {
        let bell = Bell::default();
        let mut peers = mesh(vec![Box::new(Bell::default()), Box::new(bell.clone())], 16);
        let (gateway, _shard) = (peers.pop().expect("two"), peers.pop().expect("one"));
        let link = Link::new(gateway, bell, 1);
        let mut woken = || {};
        let (status, text) = tokio::select! {
            told = look(&link) => told,
            () = link.run(&mut woken) => unreachable!("it runs until it is dropped"),
        };
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let told: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(told["status"], "unavailable");
        assert_eq!(told["reasons"][0], "the shards have not answered within 5 seconds");
    }
}
