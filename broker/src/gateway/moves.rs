//! Move tasks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tenpin_protocol::{
    CancelMoveTaskRequest, ErrorCode, ListMoveTasksRequest, MoveTaskStatus, NO_QUEUE, Request, Response,
    StartMoveTaskRequest,
};

use super::call::{Call, QUEUE_URL_BYTES_MAX, unexpected_answer};
use super::target::QueueName;
use crate::sqs::actions::{CancelMessageMoveTask, ListMessageMoveTasks, StartMessageMoveTask};
use crate::sqs::replies::MoveTask;
use crate::sqs::{Reply, ServiceError};

impl Call<'_> {
    pub(super) async fn start_move_task(
        &mut self,
        action: &StartMessageMoveTask<'_>,
    ) -> Result<(), ServiceError> {
        let source = self.open_arn(&action.source_arn, "SourceArn").await?;
        let destination = match &action.destination_arn {
            Some(arn) => self.open_arn(arn, "DestinationArn").await?,
            None => NO_QUEUE,
        };
        let rate = action.max_number_of_messages_per_second;
        let messages_per_second_max = rate.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0);
        let request =
            Request::StartMoveTask(StartMoveTaskRequest { source, destination, messages_per_second_max });
        let answer = self.line.ask(&request).await?;
        let Response::StartMoveTask(started) = answer.response()? else { return Err(unexpected_answer()) };
        self.reply(&Reply::StartMessageMoveTask { task_handle: show_task(started.task).into() });
        answer.given();
        Ok(())
    }

    pub(super) async fn cancel_move_task(
        &mut self,
        action: &CancelMessageMoveTask<'_>,
    ) -> Result<(), ServiceError> {
        let task = URL_SAFE_NO_PAD.decode(&*action.task_handle).ok();
        let task = task.filter(|task| task.len() <= usize::from(u8::MAX)).ok_or_else(|| {
            // As the broker says it of what it cannot read.
            let text = "Value for parameter TaskHandle is invalid.";
            ServiceError::new(ErrorCode::InvalidParameterValue, text)
        })?;
        let request = Request::CancelMoveTask(CancelMoveTaskRequest { task: &task });
        let answer = self.line.ask(&request).await?;
        let Response::CancelMoveTask(cancelled) = answer.response()? else {
            return Err(unexpected_answer());
        };
        let approximate_number_of_messages_moved = cancelled.moved;
        answer.given();
        self.reply(&Reply::CancelMessageMoveTask { approximate_number_of_messages_moved });
        Ok(())
    }

    pub(super) async fn list_move_tasks(
        &mut self,
        action: &ListMessageMoveTasks<'_>,
    ) -> Result<(), ServiceError> {
        let source = self.open_arn(&action.source_arn, "SourceArn").await?;
        let max = action.max_results.and_then(|max| u8::try_from(max).ok()).unwrap_or(0);
        let request = Request::ListMoveTasks(ListMoveTasksRequest { source, max });
        let answer = self.line.ask(&request).await?;
        let Response::ListMoveTasks(reply) = answer.response()? else { return Err(unexpected_answer()) };
        let results = reply.tasks.iter().map(|task| shown(&task)).collect();
        self.reply(&Reply::ListMessageMoveTasks { results });
        answer.given();
        Ok(())
    }

    async fn open_arn(&mut self, arn: &str, parameter: &str) -> Result<u64, ServiceError> {
        let missing = || {
            let text =
                format!("The resource that you specified for the {parameter} parameter doesn't exist.");
            ServiceError::new(ErrorCode::ResourceNotFound, text)
        };
        let short = Some(arn).filter(|arn| arn.len() <= QUEUE_URL_BYTES_MAX);
        let queue = short.and_then(QueueName::of_arn).ok_or_else(|| {
            let text =
                format!("Value {arn} for parameter {parameter} is invalid. Reason: it is no ARN of a queue.");
            ServiceError::new(ErrorCode::InvalidParameterValue, text)
        })?;
        self.open(&queue).await.map_err(|error| match error.name == ErrorCode::QueueDoesNotExist.into() {
            true => missing(),
            false => error,
        })
    }
}

fn show_task(task: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(task)
}

fn shown<'a>(task: &tenpin_protocol::MoveTask<'a>) -> MoveTask<'a> {
    let given = |text: &'a str| (!text.is_empty()).then(|| text.into());
    MoveTask {
        task_handle: (!task.task.is_empty()).then(|| show_task(task.task).into()),
        status: MoveTaskStatus::from_number(task.status).map_or("UNKNOWN", MoveTaskStatus::name),
        source_arn: task.source.into(),
        destination_arn: given(task.destination),
        max_number_of_messages_per_second: (task.messages_per_second_max != 0)
            .then_some(task.messages_per_second_max),
        approximate_number_of_messages_moved: task.moved,
        approximate_number_of_messages_to_move: Some(task.to_move),
        failure_reason: task.failure.map(Into::into),
        started_timestamp: task.started_at_ms,
    }
}
