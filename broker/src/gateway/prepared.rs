//! What is done before anybody is served: queues of the configuration are made, or brought to what it says.
//! Those whose names are not free yet, as they were deleted less than a minute before, are made while others
//! are served. And what undoes everything, for tests.

use std::rc::Rc;
use std::time::Duration;

use tenpin_protocol::{DeleteQueueRequest, ErrorCode, ListQueuesRequest, OpenRequest, Request, Response};

use super::call::{Call, unexpected_answer};
use super::link::Line;
use super::server::Gateway;
use super::target::Origin;
use crate::config::QueueSetting;
use crate::server::Say;
use crate::sqs::actions::{CreateQueue, Pair, SetQueueAttributes, TagQueue};
use crate::sqs::{Action, Reply, ServiceError, Text};

/// Queues that one reply lists.
const LISTED_MAX: u16 = 1_000;

/// How often it is tried to make what has to wait. The name is free when the engine says so, whose clock may be
/// another than ours.
const TRIES_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Queues of the configuration that cannot be made yet, and those that send their dead letters to one of them.
pub(super) struct Postponed {
    to_make: Vec<QueueSetting>,
    to_join: Vec<QueueSetting>,
}

/// Makes all queues, but for those whose names are not free yet. Dead-letter queues may be named before they
/// are described; an error names the queue.
pub(super) async fn make_queues(gateway: &Rc<Gateway>, queues: &[QueueSetting]) -> Result<Postponed, String> {
    let mut line = Line::new(&gateway.link);
    let mut to_make = Vec::new();
    for queue in queues {
        match make_queue(gateway, &mut line, queue).await {
            Ok(()) => {}
            Err(error) if is_too_early(&error) => to_make.push(queue.clone()),
            Err(error) => return Err(not_made(queue, &error)),
        }
    }
    let mut to_join = Vec::new();
    for queue in queues.iter().filter(|queue| queue.dead_letter_queue.is_some()) {
        if to_make.iter().any(|waiting| is_needed(waiting, queue)) {
            to_join.push(queue.clone());
            continue;
        }
        let joined = join_dead_letters(gateway, &mut line, queue).await;
        joined.map_err(|error| not_joined(queue, &error))?;
    }
    Ok(Postponed { to_make, to_join })
}

/// Makes what had to wait, as soon as each name is free. Others are served meanwhile, so that what goes wrong
/// is said, and ends nothing.
pub(super) async fn make_postponed(gateway: &Rc<Gateway>, postponed: Postponed, say: &Say) {
    let Postponed { mut to_make, mut to_join } = postponed;
    for queue in &to_make {
        say(&format!(
            "the queue {} was deleted less than 60 seconds ago: it will be made as soon as they are over",
            queue.name
        ));
    }
    let mut line = Line::new(&gateway.link);
    while !to_make.is_empty() {
        tokio::time::sleep(TRIES_AGAIN_AFTER).await;
        for queue in std::mem::take(&mut to_make) {
            match make_queue(gateway, &mut line, &queue).await {
                Ok(()) => say(&format!("the queue {} is made", queue.name)),
                Err(error) if is_too_early(&error) => to_make.push(queue),
                Err(error) => say(&not_made(&queue, &error)),
            }
        }
        for queue in std::mem::take(&mut to_join) {
            if to_make.iter().any(|waiting| is_needed(waiting, &queue)) {
                to_join.push(queue);
            } else if let Err(error) = join_dead_letters(gateway, &mut line, &queue).await {
                say(&not_joined(&queue, &error));
            }
        }
    }
}

fn is_too_early(error: &ServiceError) -> bool {
    error.name == ErrorCode::QueueDeletedRecently.into()
}

/// Whether `queue` cannot send its dead letters anywhere before `waiting` is made.
fn is_needed(waiting: &QueueSetting, queue: &QueueSetting) -> bool {
    let is_alike = waiting.account == queue.account && waiting.region == queue.region;
    is_alike && (waiting.name == queue.name || Some(&waiting.name) == queue.dead_letter_queue.as_ref())
}

fn not_made(queue: &QueueSetting, error: &ServiceError) -> String {
    format!("the queue {} cannot be made: {error}", queue.name)
}

fn not_joined(queue: &QueueSetting, error: &ServiceError) -> String {
    format!("the queue {} cannot have dead letters: {error}", queue.name)
}

/// Deletes all queues of an account and region; gives how many there were.
pub(super) async fn delete_queues(gateway: &Rc<Gateway>, origin: &Origin) -> Result<usize, ServiceError> {
    let mut line = Line::new(&gateway.link);
    let (account, region) = (&*origin.account, &*origin.region);
    let mut count = 0;
    loop {
        let request = ListQueuesRequest { max: LISTED_MAX, account, region, prefix: "", next: None };
        let answer = line.ask(&Request::ListQueues(request)).await?;
        let Response::ListQueues(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let names: Vec<String> = reply.queues.iter().map(|queue| queue.name.to_owned()).collect();
        answer.given();
        if names.is_empty() {
            return Ok(count);
        }
        for name in &names {
            match delete_queue(&mut line, OpenRequest { account, region, name }).await {
                Err(error) if error.name != ErrorCode::QueueDoesNotExist.into() => return Err(error),
                // Somebody else has deleted it.
                _ => gateway.queues.forget(&origin.own(name)),
            }
            count += 1;
        }
    }
}

async fn delete_queue(line: &mut Line, open: OpenRequest<'_>) -> Result<(), ServiceError> {
    let answer = line.ask(&Request::Open(open)).await?;
    let Response::Open(opened) = answer.response()? else { return Err(unexpected_answer()) };
    answer.given();
    let request = Request::DeleteQueue(DeleteQueueRequest { queue: opened.queue });
    line.ask(&request).await?.given();
    Ok(())
}

async fn make_queue(
    gateway: &Rc<Gateway>,
    line: &mut Line,
    queue: &QueueSetting,
) -> Result<(), ServiceError> {
    let at_creation: Vec<_> =
        queue.attribute_texts().into_iter().map(|(name, text)| pair(name, text)).collect();
    let tags: Vec<_> = queue.tags.iter().map(|(key, value)| pair(key, value.clone())).collect();
    let create = CreateQueue {
        queue_name: (&*queue.name).into(),
        attributes: at_creation.clone(),
        tags: tags.clone(),
    };
    let queue_url = Some(Text::from(&*queue.name));
    match serve(gateway, line, queue, &create.into()).await {
        // It is there, and different: the configuration says how it shall be.
        Err(error) if error.name == ErrorCode::QueueNameExists.into() => {
            let changeable = at_creation.into_iter().filter(|pair| pair.name != "FifoQueue").collect();
            let set = SetQueueAttributes { queue_url: queue_url.clone(), attributes: changeable };
            serve(gateway, line, queue, &set.into()).await?;
        }
        result => result?,
    }
    if tags.is_empty() {
        return Ok(());
    }
    // One that was there has kept its own.
    serve(gateway, line, queue, &TagQueue { queue_url, tags }.into()).await
}

async fn join_dead_letters(
    gateway: &Rc<Gateway>,
    line: &mut Line,
    queue: &QueueSetting,
) -> Result<(), ServiceError> {
    let Some(target) = &queue.dead_letter_queue else { return Ok(()) };
    let origin = origin_of(gateway, queue);
    let policy = serde_json::json!({
        "deadLetterTargetArn": format!("arn:aws:sqs:{}:{}:{target}", origin.region, origin.account),
        "maxReceiveCount": queue.receives_max(),
    });
    let attributes = vec![pair("RedrivePolicy", policy.to_string())];
    let set = SetQueueAttributes { queue_url: Some(Text::from(&*queue.name)), attributes };
    serve(gateway, line, queue, &set.into()).await
}

fn pair(name: &str, value: String) -> Pair<'_> {
    Pair { name: name.into(), value: value.into() }
}

fn origin_of(gateway: &Gateway, queue: &QueueSetting) -> Origin {
    let account = queue.account.as_deref().unwrap_or(&gateway.options.account);
    let region = queue.region.as_deref().unwrap_or(&gateway.options.region);
    Origin::of_settings(account, region, &gateway.rules)
}

async fn serve(
    gateway: &Rc<Gateway>,
    line: &mut Line,
    queue: &QueueSetting,
    action: &Action<'_>,
) -> Result<(), ServiceError> {
    let origin = origin_of(gateway, queue);
    let print = |_: &Reply<'_>, _: &mut Vec<u8>| {};
    let mut call = Call {
        queues: &gateway.queues,
        client: None,
        line,
        origin: &origin,
        queue_of_path: None,
        print: &print,
        out: Vec::new(),
        owed: None,
    };
    call.serve(action).await
}
