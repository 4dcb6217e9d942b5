//! Brokers that are killed while requests are under way. What was answered is so; of what was not, each part may be so or
//! not, until it is seen.

use std::time::Duration;

use tenpin_client::{Error, Message, Sent, TaskHandle};

use crate::history::History;
use crate::messages::{Picked, code_of};
use crate::model::{Active, FIFO_FROM, Key, QUEUES, is_fifo, is_letters};
use crate::receives::{Ask, SHORTLY};
use crate::sends::Draft;
use crate::tasks::PACES;
use crate::unanswered::Unanswered;

/// The broker is killed so many microseconds after it was asked, or half as many, or a quarter …
const KILLED_AFTER_US_MAX: u64 = 8_192;
const HALVINGS: usize = 12;
/// After so many turns of the clients' runtime, requests are on their way.
const TURNS_TO_ASK: usize = 20;

/// What a queue is asked when the broker is killed: one thing, so that what becomes of it depends on nothing else.
enum Request {
    Send(Vec<Draft>),
    Delete(Vec<Picked>),
    Hide(Vec<(Picked, Duration)>),
    Receive(Ask),
    StartTask(Active, Option<u32>),
    CancelTask(TaskHandle),
}

enum Answer {
    Sent(Vec<Result<Sent, Error>>),
    Outcomes(Vec<Result<(), Error>>),
    Received(Vec<Message>),
    /// The task was started, or cancelled.
    Done,
}

type Asked = tokio::task::JoinHandle<Result<Answer, Error>>;

impl History {
    /// Kills the broker with requests under way.
    pub fn kill_while_asked(&mut self) {
        let shards = self.other_shards();
        self.look();
        let requests = self.some_requests();
        for (queue, request) in &requests {
            match request {
                Request::Receive(_) => self.model.note_receive(*queue),
                Request::StartTask(task, _) => self.model.task = Some(task.clone()),
                _ => {}
            }
        }
        // It may have moved what another request is given.
        self.model.note_task();
        let asked: Vec<Asked> = requests.iter().map(|(queue, request)| self.ask(*queue, request)).collect();
        let (after, is_heard) =
            (Duration::from_micros(KILLED_AFTER_US_MAX >> self.below(HALVINGS)), self.once_in(3));
        let answers = self.kill_after(after, asked, is_heard);
        self.clients.iter().for_each(tenpin_client::Client::close);
        self.tell(format!("killed after {after:?}, shards: {shards:?}"));
        let mut unanswered = Unanswered::default();
        for ((queue, request), answer) in requests.into_iter().zip(answers) {
            match answer {
                Some(answer) => self.judge_answer(queue, request, answer),
                None => self.note_unanswered(queue, request, &mut unanswered),
            }
        }
        self.start_again(shards);
        if unanswered.start && !self.has_started() {
            self.model.task = None;
            self.model.stored.values_mut().for_each(|message| message.maybe_moved_to = None);
        }
        self.note_task_goes_on();
        let received = self.look_after(true);
        self.judge_unanswered(unanswered, &received);
    }

    /// Kills the broker a while after it was asked. Its answers may not have been heard.
    fn kill_after(
        &mut self,
        after: Duration,
        asked: Vec<Asked>,
        is_heard: bool,
    ) -> Vec<Option<Result<Answer, Error>>> {
        let broker = self.broker.as_mut().expect("it runs as long as the history");
        self.runtime.block_on(async {
            for _ in 0..TURNS_TO_ASK {
                tokio::task::yield_now().await;
            }
            // Nothing is read meanwhile.
            std::thread::sleep(after);
            broker.kill();
            if !is_heard {
                asked.iter().for_each(Asked::abort);
            }
            let mut answers = Vec::new();
            for asked in asked {
                let answer = asked.await;
                answers.push(answer.ok().filter(is_whole));
            }
            answers
        })
    }

    fn some_requests(&mut self) -> Vec<(usize, Request)> {
        let mut requests = Vec::new();
        let busy = self.model.task.as_ref().map(|task| task.letters / FIFO_FROM);
        // Tasks first: what is sent to FIFO queues while messages are moved there stands in no order to those.
        let mut starts_fifo = busy == Some(1);
        let mut starts = false;
        for queue in (0..QUEUES.len()).rev() {
            let request = match self.below(6) {
                0 if is_fifo(queue) && (starts_fifo || is_letters(queue)) => None,
                0 => Some(Request::Send(self.some_drafts(queue))),
                1 => Some(Request::Delete(self.pick(queue))),
                2 => {
                    let picked = self.pick(queue);
                    Some(Request::Hide(
                        picked.into_iter().map(|picked| (picked, self.some_lawful_timeout())).collect(),
                    ))
                }
                4 if is_letters(queue) && !starts => self.some_task(queue),
                3 | 4 => Some(Request::Receive(self.ask_that_may_be_lost(queue))),
                _ => None,
            };
            starts |= matches!(request, Some(Request::StartTask(..)));
            starts_fifo |= is_fifo(queue) && starts;
            requests.extend(request.filter(|request| !request.is_empty()).map(|request| (queue, request)));
        }
        requests
    }

    /// A receive of which what it took can be had again: it comes back by itself, or under the attempt's id.
    fn ask_that_may_be_lost(&mut self, queue: usize) -> Ask {
        let most = 1 + self.below(10);
        if is_fifo(queue) {
            let attempt = Some(self.model.next());
            Ask { attempt, ..Ask::hiding(most) }
        } else {
            Ask { most, visibility: Some(SHORTLY), attempt: None }
        }
    }

    fn some_task(&mut self, letters: usize) -> Option<Request> {
        if self.model.task.is_some() {
            let is_of = self.is_busy(letters);
            return is_of.then(|| self.newest_task().handle).flatten().map(Request::CancelTask);
        }
        let is_of = |queue: &usize| self.model.settings[*queue].letters_after.is_some();
        if !(letters - 2..letters).any(|queue| is_of(&queue)) {
            return None;
        }
        let destination = [None, Some(letters - 1), Some(letters - 2)][self.below(3)];
        let task = Active { is_inexact: true, ..self.task_of(letters, destination) };
        Some(Request::StartTask(task, PACES[self.below(PACES.len())]))
    }

    fn ask(&mut self, queue: usize, request: &Request) -> Asked {
        let asked = self.queue(queue);
        match request {
            Request::Send(drafts) => {
                let messages: Vec<_> = drafts.iter().map(|draft| draft.message.clone()).collect();
                self.tell(format!("asked to send to {}: {:?}", QUEUES[queue], keys_of(drafts)));
                let asked = self.queue_opened_anew(queue);
                self.runtime.spawn(async move { asked.send_batch(&messages).await.map(Answer::Sent) })
            }
            Request::Delete(picked) => {
                let handles: Vec<_> = picked.iter().map(|picked| picked.handle.clone()).collect();
                self.tell(format!("asked to delete in {}: {:?}", QUEUES[queue], names(picked.iter())));
                self.runtime.spawn(async move { asked.delete_batch(&handles).await.map(Answer::Outcomes) })
            }
            Request::Hide(changes) => {
                let (picked, timeouts): (Vec<_>, Vec<_>) =
                    changes.iter().map(|(picked, timeout)| (picked, *timeout)).unzip();
                let names = names(picked.iter().copied());
                self.tell(format!("asked to hide in {}: {names:?} {timeouts:?}", QUEUES[queue]));
                let handles: Vec<_> = picked.iter().map(|picked| picked.handle.clone()).collect();
                self.runtime.spawn(async move {
                    let changes: Vec<_> = handles.iter().zip(timeouts).collect();
                    asked.change_visibility_batch(&changes).await.map(Answer::Outcomes)
                })
            }
            Request::Receive(ask) => {
                self.tell(format!("asked to receive from {}: {ask:?}", QUEUES[queue]));
                let receive = ask.receive(Duration::ZERO);
                self.runtime.spawn(async move { asked.receive_with(&receive).await.map(Answer::Received) })
            }
            Request::StartTask(task, pace) => {
                self.tell(format!("asked to start {task:?} at {pace:?}"));
                let (target, pace) = (task.destination.map(|destination| self.queue(destination)), *pace);
                self.runtime.spawn(async move {
                    asked.start_move_task(target.as_ref(), pace).await.map(|_| Answer::Done)
                })
            }
            Request::CancelTask(handle) => {
                self.tell("asked to cancel the task".to_owned());
                let (client, handle) = (self.any_client(), handle.clone());
                self.runtime
                    .spawn(async move { client.cancel_move_task(&handle).await.map(|_| Answer::Done) })
            }
        }
    }

    fn judge_answer(&mut self, queue: usize, request: Request, answer: Result<Answer, Error>) {
        self.tell(format!("{} has answered", QUEUES[queue]));
        match (request, answer) {
            (Request::Send(drafts), Ok(Answer::Sent(sent))) => self.judge_all_sent(queue, drafts, sent),
            (Request::Delete(picked), Ok(Answer::Outcomes(outcomes))) => {
                for (picked, outcome) in picked.iter().zip(outcomes) {
                    self.judge_deleted(queue, picked, code_of(&outcome));
                }
            }
            (Request::Hide(changes), Ok(Answer::Outcomes(outcomes))) => {
                for ((picked, timeout), outcome) in changes.iter().zip(outcomes) {
                    self.judge_hidden(queue, picked, *timeout, code_of(&outcome));
                }
            }
            (Request::Receive(ask), answer) => {
                let messages = answer.map(|answer| match answer {
                    Answer::Received(messages) => messages,
                    _ => unreachable!("a receive is answered like one"),
                });
                self.judge_received(queue, &ask, messages);
                if ask.visibility == Some(SHORTLY) {
                    self.model.note_lost_receive(queue);
                }
            }
            (Request::CancelTask(_), Err(error)) => {
                assert_eq!(
                    error.code(),
                    Some(tenpin_client::ErrorCode::UnsupportedOperation),
                    "it ran no more"
                );
            }
            (_, answer) => drop(answer.expect("there is nothing to refuse")),
        }
    }

    fn note_unanswered(&mut self, queue: usize, request: Request, unanswered: &mut Unanswered) {
        self.tell(format!("{} has not answered", QUEUES[queue]));
        match request {
            Request::Send(drafts) => unanswered.sends.push(self.note_unanswered_send(queue, drafts)),
            Request::Delete(picked) => {
                for picked in &picked {
                    unanswered.deletes.extend(self.note_unanswered_delete(queue, picked));
                }
            }
            Request::Hide(changes) => {
                for (picked, timeout) in &changes {
                    unanswered.hides.extend(self.note_unanswered_hide(queue, picked, *timeout));
                }
            }
            Request::Receive(ask) => {
                self.model.note_lost_receive(queue);
                unanswered.receives.push((queue, ask));
            }
            Request::StartTask(..) => unanswered.start = true,
            Request::CancelTask(_) => {}
        }
    }

    /// Whether the task whose start was not answered has begun: then it is listed before all that have ended.
    fn has_started(&mut self) -> bool {
        let letters = self.model.task.as_ref().expect("it may have begun").letters;
        let asked = self.queue(letters);
        let tasks = self.runtime.block_on(asked.move_tasks()).unwrap();
        let has = tasks.first() != self.ended[letters / FIFO_FROM].first();
        if has {
            self.note("a task runs whose start was not answered");
        }
        has
    }
}

impl Request {
    fn is_empty(&self) -> bool {
        match self {
            Self::Send(drafts) => drafts.is_empty(),
            Self::Delete(picked) => picked.is_empty(),
            Self::Hide(changes) => changes.is_empty(),
            _ => false,
        }
    }
}

/// Whether this is what the broker has answered, be it a refusal.
fn is_whole(answer: &Result<Answer, Error>) -> bool {
    let is_of_broker = |error: &Error| error.code().is_some();
    match answer {
        Ok(Answer::Sent(sent)) => sent.iter().all(|sent| sent.as_ref().err().is_none_or(is_of_broker)),
        Ok(Answer::Outcomes(outcomes)) => {
            outcomes.iter().all(|outcome| outcome.as_ref().err().is_none_or(is_of_broker))
        }
        Ok(_) => true,
        Err(error) => is_of_broker(error),
    }
}

fn keys_of(drafts: &[Draft]) -> Vec<Key> {
    drafts.iter().map(|draft| draft.key).collect()
}

fn names<'p>(picked: impl Iterator<Item = &'p Picked>) -> Vec<Option<Key>> {
    picked.map(|picked| picked.issued.as_ref().map(|issued| issued.key)).collect()
}
