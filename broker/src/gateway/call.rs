//! One request on its way through: the queue it is about, the shard it asks, and what is printed for it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tenpin_protocol::{CreateQueueRequest, ErrorCode, OpenRequest, Request, Response};

use super::link::{Answer, Line};
use super::queues::fifo_attribute;
use super::socket::Owed;
use super::target::{Origin, QueueName};
use crate::sqs::{Action, ActionName, Reply, ServiceError, Text};

/// Queues whose numbers are remembered; with more, all are forgotten and asked for again.
const NUMBERS_MAX: usize = 100_000;

/// Longest queue URL that is looked at.
pub(super) const QUEUE_URL_BYTES_MAX: usize = 4096;

/// What all requests of a gateway share.
pub(super) struct Queues {
    /// The numbers of queues that were opened. One that is stale is found out when it is used (rule 8).
    numbers: RefCell<HashMap<QueueName, u64>>,
    /// Whether a queue that does not exist is made when it is used.
    pub(super) makes_queues: bool,
}

impl Queues {
    pub(super) fn new(makes_queues: bool) -> Self {
        Self { numbers: RefCell::default(), makes_queues }
    }

    fn number_of(&self, queue: &QueueName) -> Option<u64> {
        self.numbers.borrow().get(queue).copied()
    }

    pub(super) fn remember(&self, queue: QueueName, number: u64) {
        let mut numbers = self.numbers.borrow_mut();
        if numbers.len() >= NUMBERS_MAX {
            numbers.clear();
        }
        numbers.insert(queue, number);
    }

    pub(super) fn forget(&self, queue: &QueueName) {
        self.numbers.borrow_mut().remove(queue);
    }
}

/// What most replies to one message fit into.
pub(super) const REPLY_BYTES: usize = 512;

/// A request that is being served.
pub(super) struct Call<'c> {
    pub(super) queues: &'c Queues,
    /// Who asks, if it is a client.
    pub(super) client: Option<&'c Owed>,
    pub(super) line: &'c mut Line,
    pub(super) origin: &'c Origin,
    /// The queue of the path, for requests that name none.
    pub(super) queue_of_path: Option<Rc<QueueName>>,
    pub(super) print: &'c dyn Fn(&Reply<'_>, &mut Vec<u8>),
    /// The response's body.
    pub(super) out: Vec<u8>,
    /// What is given to the client when the response is written.
    pub(super) owed: Option<Answer>,
}

impl Call<'_> {
    /// Serves it: on success the reply is printed.
    pub(super) async fn serve(&mut self, action: &Action<'_>) -> Result<(), ServiceError> {
        match action {
            Action::SendMessage(action) => self.send_message(action).await,
            Action::SendMessageBatch(action) => self.send_message_batch(action).await,
            Action::ReceiveMessage(action) => self.receive_message(action).await,
            Action::DeleteMessage(action) => self.delete_message(action).await,
            Action::DeleteMessageBatch(action) => self.delete_message_batch(action).await,
            Action::ChangeMessageVisibility(action) => self.change_visibility(action).await,
            Action::ChangeMessageVisibilityBatch(action) => self.change_visibility_batch(action).await,
            // What is rare need not make every request's state as large as its own.
            other => Box::pin(self.serve_rare(other)).await,
        }
    }

    async fn serve_rare(&mut self, action: &Action<'_>) -> Result<(), ServiceError> {
        match action {
            Action::CreateQueue(action) => self.create_queue(action).await,
            Action::DeleteQueue(action) => self.delete_queue(action).await,
            Action::GetQueueUrl(action) => self.get_queue_url(action).await,
            Action::ListQueues(action) => self.list_queues(action).await,
            Action::GetQueueAttributes(action) => self.get_attributes(action).await,
            Action::SetQueueAttributes(action) => self.set_attributes(action).await,
            Action::TagQueue(action) => self.tag_queue(action).await,
            Action::UntagQueue(action) => self.untag_queue(action).await,
            Action::ListQueueTags(action) => self.list_tags(action).await,
            Action::AddPermission(action) => self.add_permission(action).await,
            Action::RemovePermission(action) => self.remove_permission(action).await,
            Action::PurgeQueue(action) => self.purge(action).await,
            Action::ListDeadLetterSourceQueues(action) => self.list_sources(action).await,
            Action::StartMessageMoveTask(action) => self.start_move_task(action).await,
            Action::CancelMessageMoveTask(action) => self.cancel_move_task(action).await,
            Action::ListMessageMoveTasks(action) => self.list_move_tasks(action).await,
            _ => unreachable!("the other actions are served before"),
        }
    }

    /// Prints what the request is answered.
    pub(super) fn reply(&mut self, reply: &Reply<'_>) {
        if !matches!(reply, Reply::Done(_)) {
            self.out.reserve(REPLY_BYTES);
        }
        (self.print)(reply, &mut self.out);
    }

    /// The queue that a request is about.
    pub(super) fn queue(&self, url: Option<&Text<'_>>) -> Result<Rc<QueueName>, ServiceError> {
        let Some(url) = url.filter(|url| !url.is_empty()) else {
            return self.queue_of_path.clone().ok_or_else(|| ServiceError::missing("QueueUrl"));
        };
        // No name is as long, and the protocol has no room for longer ones.
        if url.len() > QUEUE_URL_BYTES_MAX {
            return Err(ErrorCode::QueueDoesNotExist.into());
        }
        self.origin.queue_of_url(url).ok_or_else(|| {
            let text = format!("The address {url} is not valid for this endpoint.");
            ServiceError::new(ErrorCode::InvalidAddress, text)
        })
    }

    /// Asks for something about a queue: by its number, which is looked up again if it has become stale.
    pub(super) async fn ask_of<'r>(
        &mut self,
        queue: &QueueName,
        request: impl Fn(u64) -> Request<'r>,
    ) -> Result<Answer, ServiceError> {
        if let Some(number) = self.queues.number_of(queue) {
            match self.line.ask(&request(number)).await {
                Err(error) if error.name == ErrorCode::QueueDoesNotExist.into() => self.queues.forget(queue),
                result => return result,
            }
        }
        let number = self.open(queue).await?;
        self.line.ask(&request(number)).await
    }

    /// The same, for what is answered with no more than that it is done.
    pub(super) async fn have_done<'r>(
        &mut self,
        queue: &QueueName,
        action: ActionName,
        request: impl Fn(u64) -> Request<'r>,
    ) -> Result<(), ServiceError> {
        self.ask_of(queue, request).await?.given();
        self.reply(&Reply::Done(action));
        Ok(())
    }

    /// A queue's number as the shards have it now.
    pub(super) async fn open(&mut self, queue: &QueueName) -> Result<u64, ServiceError> {
        let QueueName { account, region, name } = queue;
        let request = Request::Open(OpenRequest { account, region, name });
        let answer = match self.line.ask(&request).await {
            Err(error) if self.queues.makes_queues && error.name == ErrorCode::QueueDoesNotExist.into() => {
                let attributes = fifo_attribute(name);
                let attributes = attributes.as_slice().into();
                let request = CreateQueueRequest { account, region, name, attributes, ..Default::default() };
                self.line.ask(&Request::CreateQueue(request)).await?
            }
            result => result?,
        };
        let number = match answer.response()? {
            Response::Open(opened) | Response::CreateQueue(opened) => opened.queue,
            _ => return Err(unexpected_answer()),
        };
        answer.given();
        self.queues.remember(queue.clone(), number);
        Ok(number)
    }
}

/// A shard never answers something else than it was asked.
pub(super) fn unexpected_answer() -> ServiceError {
    ServiceError::new(ErrorCode::Internal, "A shard has answered something else than it was asked.")
}
