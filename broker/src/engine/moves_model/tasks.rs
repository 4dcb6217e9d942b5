//! Move tasks as the model has them: what each shard has done of them, what it has heard of the other, and from
//! when on its pace allows the next message.

use tenpin_protocol::{ErrorCode, MoveTaskStatus};

use super::catalog::arn;
use super::queues::Shard;
use super::*;
use crate::engine::task_records::TaskDefinition;

/// A task that cannot go on looks again after this long.
const LOOKS_AGAIN_AFTER_MS: u64 = 100;
/// Messages that a task moves in a turn.
const MESSAGES_A_TURN: usize = 16;
/// Tasks of a queue that are remembered.
const SHOWN_MAX: usize = 10;

/// What a shard has said of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    status: MoveTaskStatus,
    moved: u64,
    to_move: u64,
}

impl Said {
    fn is_active(self) -> bool {
        matches!(self.status, MoveTaskStatus::Running | MoveTaskStatus::Cancelling)
    }
}

/// A shard's share of a task.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) id: u64,
    pub(super) source: usize,
    /// The number of the queue that it moves to; `None`: each message to where it came from.
    destination: Option<u64>,
    rate: u64,
    started_at_ms: u64,
    mine: Said,
    /// It ends as failed once nothing of it is on its way.
    will_fail: bool,
    /// What the other shard has said.
    other: Option<Said>,
    due_ms: u64,
    /// Its pace begins at this time with this many moved.
    pace_from: (u64, u64),
}

impl Share {
    pub(super) fn new(definition: &TaskDefinition, source: usize, to_move: u64, now_ms: u64) -> Self {
        Self {
            id: definition.id,
            source,
            destination: definition.destination.as_ref().map(|(number, _)| *number),
            rate: definition.messages_per_second_max.into(),
            started_at_ms: definition.started_at_ms,
            mine: Said { status: MoveTaskStatus::Running, moved: 0, to_move },
            will_fail: false,
            other: None,
            due_ms: now_ms,
            pace_from: (now_ms, 0),
        }
    }

    pub(super) fn restart(&mut self, now_ms: u64, under_way: u64) {
        self.other = None;
        self.due_ms = now_ms;
        self.pace_from = (now_ms, self.mine.moved + under_way);
    }

    pub(super) fn is_active(&self) -> bool {
        self.mine.is_active() || self.other.is_none_or(Said::is_active)
    }

    /// Whether it can be cancelled: nobody has said that it stops.
    fn is_running(&self) -> bool {
        let stops = |said: Said| said.status == MoveTaskStatus::Cancelling;
        self.is_active() && !stops(self.mine) && !self.other.is_some_and(stops)
    }

    fn end(&mut self, status: MoveTaskStatus) {
        self.mine.status = status;
    }

    /// It fails; what it has on its way comes there or back first.
    fn fail(&mut self, under_way: u64, now_ms: u64) {
        if under_way == 0 {
            self.end(MoveTaskStatus::Failed);
        } else if !self.will_fail {
            self.mine.status = MoveTaskStatus::Cancelling;
            self.will_fail = true;
            self.due_ms = now_ms + LOOKS_AGAIN_AFTER_MS;
        }
    }

    /// When the next message may go: each shard has that part of the pace that it has of the messages.
    fn paced_ms(&self, under_way: u64) -> Option<u64> {
        if self.rate == 0 {
            return Some(0);
        }
        let other = self.other?;
        let all = (self.mine.to_move + if other.is_active() { other.to_move } else { 0 }).max(1);
        let (from_ms, from) = self.pace_from;
        // What was on its way when the pace began may have come back since.
        let next = (self.mine.moved + under_way).saturating_sub(from) + 1;
        Some(from_ms + (next * 1_000 * all).div_ceil(self.rate * self.mine.to_move.max(1)))
    }
}

impl Shard {
    pub(super) fn start_share(&mut self, share: Share, now_ms: u64) {
        let (source, id) = (share.source, share.id);
        self.shares.push(share);
        for (early, said) in std::mem::take(&mut self.early) {
            if early == id {
                self.hears(id, said, now_ms);
            }
        }
        let known = self.shares.iter().filter(|share| share.source == source).count();
        if known > SHOWN_MAX {
            let oldest = self.shares.iter().position(|share| share.source == source).expect("there are some");
            self.shares.remove(oldest);
        }
    }

    fn share(&mut self, id: u64) -> Option<&mut Share> {
        self.shares.iter_mut().find(|share| share.id == id)
    }

    pub(super) fn cancel_share(&mut self, id: u64, now_ms: u64) {
        let Some(share) = self.share(id) else { return };
        if share.mine.status == MoveTaskStatus::Running {
            share.mine.status = MoveTaskStatus::Cancelling;
            share.due_ms = now_ms;
        }
    }

    fn share_moved(&mut self, id: u64) {
        if let Some(share) = self.share(id) {
            share.mine.moved += 1;
        }
    }

    /// The other shard has said what became of a message of a task: it has come there, or is refused for good, or
    /// is tried again.
    pub(super) fn share_answered(&mut self, id: u64, answer: MoveAnswer, now_ms: u64) {
        let under_way = self.under_way(id);
        match answer {
            MoveAnswer::Taken => self.share_moved(id),
            MoveAnswer::NoRoom => {}
            MoveAnswer::Refused => {
                if let Some(share) = self.share(id)
                    && share.mine.is_active()
                {
                    share.fail(under_way, now_ms);
                }
            }
        }
    }

    /// Moves what tasks may move in one turn.
    pub(super) fn run_tasks(&mut self, (me, has_room): (usize, bool), now_ms: u64, order: &mut usize) {
        for place in 0..self.shares.len() {
            for _ in 0..MESSAGES_A_TURN {
                if self.shares[place].mine.is_active() && self.shares[place].due_ms <= now_ms {
                    self.step_task(place, (me, has_room), now_ms, order);
                }
            }
        }
    }

    fn step_task(&mut self, place: usize, (me, has_room): (usize, bool), now_ms: u64, order: &mut usize) {
        let later_ms = now_ms + LOOKS_AGAIN_AFTER_MS;
        let share = self.shares[place].clone();
        let under_way = self.under_way(share.id);
        let went = share.mine.moved + under_way;
        let (entry, has_all) = (self.entry(share.source), went >= share.mine.to_move);
        let is_locked = entry.is_fifo() && !has_all && entry.counts(now_ms)[0] > 0;
        let first = entry.first(&[], &[], now_ms).filter(|_| !has_all);
        let cancels = share.mine.status == MoveTaskStatus::Cancelling;
        let this = &mut self.shares[place];
        let first = match first.filter(|_| !cancels) {
            None if under_way > 0 => return this.due_ms = later_ms,
            None if this.will_fail => return this.end(MoveTaskStatus::Failed),
            None if cancels => return this.end(MoveTaskStatus::Cancelled),
            None if is_locked => return this.due_ms = later_ms,
            None => return this.end(MoveTaskStatus::Completed),
            Some(first) => first,
        };
        match share.paced_ms(under_way) {
            None => return this.due_ms = later_ms,
            Some(paced_ms) if now_ms < paced_ms => return this.due_ms = paced_ms,
            Some(_) if !has_room => return this.due_ms = later_ms,
            Some(_) => {}
        }
        let came_from = self.entry(share.source).messages[first].source;
        let target = match share.destination {
            Some(number) => self.numbered(number),
            None => came_from.filter(|&name| self.queues[name].is_some()),
        };
        let Some(target) = target else {
            return self.shares[place].fail(under_way, now_ms);
        };
        self.begin_move((share.source, first), target, share.id, (me, now_ms), order);
        if self.under_way(share.id) == under_way {
            self.share_moved(share.id);
        }
    }

    fn hears(&mut self, id: u64, said: Said, now_ms: u64) {
        let under_way = self.under_way(id);
        let Some(share) = self.share(id) else {
            // Of one that was forgotten it is of no use, and never is.
            return self.early.push((id, said));
        };
        let before = share.other.replace(said);
        if before.map(|said| (said.is_active(), said.to_move)) != Some((said.is_active(), said.to_move)) {
            share.pace_from = (now_ms, share.mine.moved + under_way);
        }
        if said.status == MoveTaskStatus::Failed && share.mine.is_active() {
            share.fail(under_way, now_ms);
        }
    }
}

impl<F: Flaws> Test<F> {
    /// What a shard has to say of its tasks goes on its way.
    pub(super) fn tell_of_tasks(&mut self, shard: usize) {
        let world = &mut self.worlds[shard];
        world.note_records();
        let news = world.engine.take_task_news();
        if !news.is_empty() {
            self.wires[1 - shard].items.push_back(Item::Shares(news));
        }
    }

    pub(super) fn hear_shares(&mut self, shard: usize, shares: &[TaskShare]) {
        let world = &mut self.worlds[shard];
        world.engine.hears_task_shares((1 - shard) as u16, shares, &mut world.log);
        world.note_records();
        let now_ms = world.now_ms;
        for &TaskShare { key, share } in shares {
            let said = Said { status: share.status, moved: share.moved, to_move: share.to_move };
            self.shards[shard].hears(key.1, said, now_ms);
        }
        self.tell_of_tasks(shard);
    }

    pub(super) fn start_task(
        &mut self,
        source: usize,
        destination: Option<usize>,
        rate: u32,
        is_early: bool,
    ) {
        let Some(number) = self.number(source) else { return };
        let to = destination.map(|name| self.number(name).unwrap_or(u64::MAX >> 1));
        let is_alike = destination.is_none_or(|name| HOMES[name].is_some() == HOMES[source].is_some());
        let model = &self.shards[0];
        let is_of =
            |name: usize| model.queues[name].is_some() && LETTERS[name].is_some_and(|(to, _)| to == source);
        let expected = match () {
            () if !(0..NAMES.len()).any(is_of) => Some(ErrorCode::InvalidParameterValue),
            () if destination.is_some_and(|name| model.queues[name].is_none()) => {
                Some(ErrorCode::ResourceNotFound)
            }
            () if !is_alike => Some(ErrorCode::InvalidParameterValue),
            () if model.shares.iter().any(|share| share.source == source && share.is_active()) => {
                Some(ErrorCode::InvalidParameterValue)
            }
            () if !self.has_room(0) => Some(ErrorCode::StorageFull),
            () => None,
        };
        let command =
            Command::StartMoveTask { source: number, destination: to, messages_per_second_max: rate };
        let found = self.change(command);
        assert_eq!(found.err().map(|refusal| refusal.code), expected);
        if is_early && expected.is_none() {
            // As from a third shard, which has heard of the task sooner.
            let items = &mut self.wires[1].items;
            let last = items.len() - 1;
            items.swap(last - 1, last);
        }
    }

    pub(super) fn cancel_task(&mut self, source: usize) {
        let Some(shown) = self.shown(source) else { return };
        let newest = self.shards[0].shares.iter().rev().find(|share| share.source == source);
        let is_running = newest.expect("it is known").is_running();
        assert_eq!(!shown.task.is_empty(), is_running);
        if is_running {
            let (_, body) = self.change(Command::CancelMoveTask { task: &shown.task }).expect("it runs");
            assert_eq!(body, ReplyBody::MoveTaskCancelled { moved: shown.moved });
        }
    }

    /// The newest task of a queue, as the first shard shows it.
    fn shown(&mut self, source: usize) -> Option<TaskOutput> {
        let source = self.number(source)?;
        match self.worlds[0].ask(Command::ListMoveTasks { source, count_max: 1 }).body {
            ReplyBody::MoveTasks(tasks) => tasks.into_vec().pop(),
            other => panic!("{other:?}"),
        }
    }

    /// The first shard asks the other what it has done, and lists.
    pub(super) fn list_tasks(&mut self, source: usize) {
        let Some(number) = self.number(source) else { return };
        self.hear_all();
        let shares = self.worlds[1].engine.task_shares(number);
        self.hear_shares(0, &shares);
        let Some(shown) = self.shown(source) else { return };
        let shares =
            self.shards.iter().map(|model| model.shares.iter().rev().find(|share| share.source == source));
        let shares: Vec<_> = shares.map(|share| share.expect("both have it").mine).collect();
        assert_eq!(shown.moved, shares.iter().map(|share| share.moved).sum::<u64>());
        assert_eq!(shown.to_move, shares.iter().map(|share| share.to_move).sum::<u64>());
        assert_eq!(shown.source, arn(source));
    }

    pub(super) fn check_tasks(&self) {
        let now_ms = self.now_ms();
        for (world, model) in self.worlds.iter().zip(&self.shards) {
            let found = world.engine.tasks.table.values().map(|task| {
                let share = task.share;
                (
                    task.definition.id,
                    Said { status: share.status, moved: share.moved, to_move: share.to_move },
                )
            });
            let mut found: Vec<_> = found.collect();
            found.sort_unstable_by_key(|(id, _)| *id);
            assert_eq!(found, model.shares.iter().map(|share| (share.id, share.mine)).collect::<Vec<_>>());
        }
        // Whoever moves what, all together are not faster than the pace.
        for share in self.shards[0].shares.iter().filter(|share| share.rate > 0) {
            let shares =
                self.shards.iter().flat_map(|model| model.shares.iter().map(move |one| (model, one)));
            let same = shares.filter(|(_, one)| one.id == share.id);
            let went: u64 = same.map(|(model, one)| one.mine.moved + model.under_way(one.id)).sum();
            let allowed = (now_ms - share.started_at_ms) * share.rate / 1_000;
            assert!(went <= allowed, "{went} messages, where {allowed} are allowed: {share:?}");
        }
    }
}
